"""What the API takes and answers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from app.models import CheckKind, Environment

# PostgreSQL keeps no NUL in its text.
NO_NUL = r"^[^\x00]*$"

Name = Annotated[str, Field(min_length=1, max_length=120, pattern=NO_NUL)]
Description = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
Target = Annotated[
    str,
    Field(
        max_length=500,
        pattern=NO_NUL,
        description="What is checked: a URL, a host with a port, or a host name.",
    ),
]
Interval = Annotated[int, Field(ge=10, le=86_400, description="Seconds between two checks.")]
Timeout = Annotated[int, Field(ge=1, le=300, description="Seconds after which a check failed.")]


class ItemIn(BaseModel):
    """An item as a client sends it. What only the server sets is ignored."""

    name: Name
    description: Description = ""
    kind: CheckKind = CheckKind.HTTP
    target: Target = ""
    environment: Environment = Environment.PRODUCTION
    interval_seconds: Interval = 60
    timeout_seconds: Timeout = 10
    enabled: bool = True


class ItemReplacement(ItemIn):
    """What PUT takes: also all that GET answered."""

    id: int | None = Field(default=None, description="The one of the path, if given at all.")


class ItemChanges(TypedDict, total=False):
    """The fields of an item that PATCH changes; those left out stay."""

    name: Name
    description: Description
    kind: CheckKind
    target: Target
    environment: Environment
    interval_seconds: Interval
    timeout_seconds: Timeout
    enabled: bool


class Identified(BaseModel):
    """Puts the id first."""

    id: int


class ItemOut(ItemIn, Identified):
    """An item as the API answers it, and as it is cached."""

    model_config = ConfigDict(from_attributes=True)

    created_at: datetime
    updated_at: datetime


class ItemPage(BaseModel):
    """One page of the items that match, ordered by id."""

    items: list[ItemOut]
    total: int = Field(description="How many items match, on all pages.")
    limit: int
    offset: int


class ItemBatch(BaseModel):
    """The items that were asked for by id, in that order."""

    items: list[ItemOut]
    missing: list[int] = Field(description="Ids which no item has.")


class ImportedItem(ItemIn):
    """An item of an import."""

    id: int | None = Field(
        default=None, ge=1, le=2**63 - 1, description="That of the item it replaces, if any."
    )

    def values(self) -> dict[str, Any]:
        """Return the columns that it writes."""
        return self.model_dump(exclude={"id"})


class ImportIn(BaseModel):
    """Items to be added, or with an id to be replaced."""

    items: list[ImportedItem] = Field(min_length=1, max_length=10_000)


class ImportOut(Identified):
    """How far an import is."""

    model_config = ConfigDict(from_attributes=True)

    total: int = Field(description="How many items were sent.")
    done: int = Field(description="How many of them are written, or missing.")
    missing: int = Field(description="How many had an id which no item has.")
