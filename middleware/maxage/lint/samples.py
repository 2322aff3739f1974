"""Samples: values of a type, to see whether they come back from JSON."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, is_typeddict
from uuid import UUID

from pydantic import BaseModel, PydanticUserError, TypeAdapter

_PLAIN: Final[tuple[Any, ...]] = (
    "text", 7, 1, 50, 0.5, True, b"\x00\xff", Decimal("1.50"), date(2024, 2, 29),
    datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - a naive one, on purpose
    time(12, 30), timedelta(seconds=90.5), UUID(int=7), "https://example.org/", "a@example.org",
    "a" * 12, "2024-02-29", "127.0.0.1", None,
)  # fmt: skip
"""Values that most fields take one of."""
_DEEPEST: Final = 6
_MOST: Final = 3
"""Samples of one field."""
_MOST_IN_ALL: Final = 40


def samples(annotation: Any) -> list[Any]:
    """Return some values of a type; none where it is not known how to make any."""
    return list(islice(_made(annotation, 0), _MOST_IN_ALL))


def _made(annotation: Any, depth: int) -> Iterator[Any]:
    """Yield values of a type, as validated by it, so that constraints hold."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except PydanticUserError:  # a class that pydantic does not know
        return
    for raw in _raw(annotation, depth):
        with suppress(Exception):  # validators raise anything
            yield adapter.validate_python(raw)


def _raw(annotation: Any, depth: int) -> Iterator[Any]:
    """Yield candidates for values of a type, before they are validated."""
    annotation = getattr(annotation, "__value__", annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _raw(arguments[0], depth)
    elif origin in {Union, UnionType}:
        for argument in arguments:
            if argument is not type(None):
                yield from list(_made(argument, depth + 1))[:1]
    elif origin is Literal:
        yield from arguments
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from annotation
    elif _fields(annotation) is not None and depth < _DEEPEST:
        yield from _objects(_fields(annotation) or {}, depth + 1)
    elif origin is not None and depth < _DEEPEST:
        yield from _collections(origin, arguments, depth)
    else:
        kind = annotation if isinstance(annotation, type) else object
        # One of its own class first: a `str` is no `date`, though it may be read as one.
        yield from sorted(_PLAIN, key=lambda value: type(value) is not kind)


def _objects(fields: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Yield one object with the first value of each field, and others that differ in one field."""
    made = {name: list(islice(_made(kind, depth), _MOST)) for name, kind in fields.items()}
    first = {name: values[0] for name, values in made.items() if values}
    yield first
    for name, values in made.items():
        yield from (first | {name: value} for value in values[1:])


def _collections(origin: Any, arguments: tuple[Any, ...], depth: int) -> Iterator[Any]:
    """Yield collections of all samples of their elements, and of the first of each."""
    parts = [
        list(islice(_made(argument, depth + 1), _MOST))
        for argument in arguments
        if argument is not ...
    ]
    if not parts or not all(parts):
        return
    if isinstance(origin, type) and issubclass(origin, dict) and len(parts) == 2:
        yield from ({parts[0][0]: value} for value in parts[1])
    else:
        yield [part[0] for part in parts]
        yield parts[0]


def _fields(annotation: Any) -> dict[str, Any] | None:
    """Return the names by which a class is validated, and their types; None: it has no fields."""
    if _is_model(annotation):
        fields: dict[str, Any] = annotation.model_fields
        return {_alias(name, field): _annotation(field) for name, field in fields.items()}
    has_names = is_typeddict(annotation) or hasattr(annotation, "__dataclass_fields__")
    return dict(annotation.__annotations__) if has_names else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _annotation(field: Any) -> Any:
    metadata = tuple(field.metadata)
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _alias(name: str, field: Any) -> str:
    alias: Any = field.validation_alias or field.alias
    choice: Any = getattr(alias, "choices", (alias,))[0]
    return choice if isinstance(choice, str) else name
