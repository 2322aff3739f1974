"""Whether a value that was read is the one that was written: a strict comparison, part by part.

`==` is not enough. A subclass, a lost private attribute or a class with an `__eq__` of its own can
be equal to a value that is less.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# The values that are compared are of any type.

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from inspect import getattr_static
from typing import Any, Final

from pydantic import BaseModel

_MISSING: Final = object()
_EXTRA: Final = "(extra)"
"""Stands for the extra fields of a model, in the path of a difference."""
_NOT_DATA: Final = frozenset({"_sa_instance_state"})
"""Attributes that tie an object to its database session: they are no part of its value."""


def difference(written: Any, read: Any, path: str) -> str | None:
    """Return the path of the first part in which two values differ; None: they are the same.

    The types must be the same all the way down, private attributes and extra fields included. Two
    NaN are the same. Two datetimes or times are the same if clock, offset and `fold` are: JSON has
    no zone names.

    Args:
        written: the value that was encoded.
        read: the value that its encoding gives.
        path: the name of the value.
    """
    if written is read:
        return None
    if type(written) is not type(read):
        return path
    if isinstance(written, dict):
        different = _different_items(written, read, path)
    elif isinstance(written, (list, tuple, deque)):
        different = _different_elements(written, read, path)
    elif isinstance(written, (set, frozenset)):
        pairs = {element: element for element in read}
        found = [pairs.get(element, _MISSING) for element in written]
        different = _different_elements(written, found, path)
    elif isinstance(written, BaseModel) or is_dataclass(written) or _has_no_equality(written):
        different = None if _has_attributes(written) else path
    else:
        different = None if _is_same_scalar(written, read) else path
    return different or _different_attributes(written, read, path)


def _different_items(written: dict[Any, Any], read: dict[Any, Any], path: str) -> str | None:
    if len(written) != len(read):
        return path
    keys = {key: key for key in read}
    for key, value in written.items():
        found = keys.get(key, _MISSING)
        if difference(key, found, path):
            return path
        # Keys are data of the application: the path does not show them.
        if different := difference(value, read[found], f"{path}[]"):
            return different
    return None


def _different_elements(written: Iterable[Any], read: Iterable[Any], path: str) -> str | None:
    """Compare elements in order; a different number of elements is a difference."""
    elements, others = list(written), list(read)
    if len(elements) != len(others):
        return path
    pairs = zip(elements, others, strict=True)
    return next(filter(None, (difference(a, b, f"{path}[]") for a, b in pairs)), None)


def _different_attributes(written: Any, read: Any, path: str) -> str | None:
    mine, other = _attributes(written), _attributes(read)
    defaults = _defaults(written)
    for name in {**mine, **other}:
        a, b = mine.get(name, _MISSING), other.get(name, _MISSING)
        if a is defaults.get(name, _MISSING) and isinstance(b, float) and a == b:
            # pydantic does not validate defaults: the 0 of `price: float = 0` is read as 0.0.
            continue
        if different := difference(a, b, f"{path}.{name}"):
            return different
    return None


def _defaults(value: Any) -> Mapping[str, Any]:
    if isinstance(value, BaseModel):
        return {name: field.default for name, field in type(value).model_fields.items()}
    return {field.name: field.default for field in fields(value)} if is_dataclass(value) else {}


def _is_same_scalar(written: Any, read: Any) -> bool:
    if isinstance(written, (float, complex)):
        return repr(written) == repr(read)  # NaN too, and the sign of zero
    if isinstance(written, Decimal):
        return bool(written.as_tuple() == read.as_tuple())
    if isinstance(written, (datetime, time)):
        # `==` looks neither at `fold` nor at a zone without an offset, as a time has in most zones.
        return bool(written == read) and _clock(written) == _clock(read)
    return bool(written == read)


def _clock(value: datetime | time) -> tuple[timedelta | None, int, bool]:
    return value.utcoffset(), value.fold, value.tzinfo is None


def _has_no_equality(value: object) -> bool:
    return type(value).__eq__ is object.__eq__


def _has_attributes(value: object) -> bool:
    return hasattr(value, "__dict__") or bool(_slots(type(value)))


def _attributes(value: object) -> Mapping[str, Any]:
    """Return the attributes of an object, but for those that it computes again."""
    kind, attributes = type(value), dict[str, Any](getattr(value, "__dict__", {}))
    if isinstance(value, deque):
        attributes["maxlen"] = value.maxlen
    elif isinstance(value, defaultdict):
        attributes["default_factory"] = value.default_factory
    declared: Iterable[str] = ()
    if isinstance(value, BaseModel):
        declared = type(value).model_fields
        attributes |= value.__pydantic_private__ or {}
        # An extra may have the name of a field, whose alias it has not.
        attributes[_EXTRA] = value.__pydantic_extra__
    elif is_dataclass(value) or _has_no_equality(value):
        slots = {name: getattr(value, name, _MISSING) for name in _slots(kind)}
        attributes |= {name: part for name, part in slots.items() if part is not _MISSING}
    return {
        name: part
        for name, part in attributes.items()
        if name in declared or not _is_no_data(kind, name)
    }


def _slots(kind: type) -> list[str]:
    slots = (vars(one).get("__slots__", ()) for one in kind.__mro__)
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some)]
    return [name for name in names if name not in {"__dict__", "__weakref__"}]


def _is_no_data(kind: type, name: str) -> bool:
    return name in _NOT_DATA or isinstance(getattr_static(kind, name, None), cached_property)
