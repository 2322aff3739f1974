"""A finding, as a frozen value."""

from dataclasses import asdict, dataclass
from typing import Any

from maxage.lint.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a cache in front of the application would break, or could not do."""

    code: Code
    route: str
    """Method and template, such as `GET /items/{id}`; `*`: the whole application."""
    reason: str
    mend: str
    source: str
    """File and line of the endpoint; empty where it is not known."""
    is_note: bool = False
    """Whether nothing breaks: the answers are right, and only hits are missing."""

    @property
    def page(self) -> str:
        """Where the code is described."""
        return self.code.page

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as values that JSON knows."""
        return {**asdict(self), "summary": self.code.summary, "page": self.page}

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        return f"{where}{self.code} {self.route}: {self.reason} {self.mend}"
