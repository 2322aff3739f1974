"""Names for paths where no routes are known: `/items/5` and `/items/6` are both `/items/{}`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_VALUE: Final = re.compile(r"\d+|(?=.*\d)[0-9A-Fa-f-]{8,}|(?=.*\d)[\w.~=-]{16,}|.{40,}")
"""A segment that is a number, a hash, a UUID, a date, or another long identifier."""
_MOST_NAMES: Final = 20
"""Different words in one place of otherwise equal paths; more of them are values."""
_SAMPLE: Final = 32
"""Segments of a path that are looked at."""

Segments = tuple[str, ...]


def shape(path: str) -> str:
    """Return a path with `{}` in place of each segment that is a value by its looks."""
    segments = path.split("/", _SAMPLE)
    return "/".join("{}" if _VALUE.fullmatch(segment) else segment for segment in segments)


def merged(shapes: Iterable[str]) -> Mapping[str, str]:
    """Return for each shape the one that shows it.

    Where paths differ in one segment only, and have many words there, it is a value: the names of
    users, for example.
    """
    named: dict[str, Segments] = {one: tuple(one.split("/")) for one in shapes}
    for place in range(1, 1 + max(map(len, named.values()), default=0)):
        words: dict[tuple[Segments, Segments], set[str]] = {}
        for segments in named.values():
            if place < len(segments):
                words.setdefault(_around(segments, place), set()).add(segments[place])
        many = {around for around, found in words.items() if len(found) > _MOST_NAMES}
        named = dict(_with_values(named, place, many))
    return {one: "/".join(segments) for one, segments in named.items()}


def _with_values(
    named: Mapping[str, Segments], place: int, many: set[tuple[Segments, Segments]]
) -> Iterator[tuple[str, Segments]]:
    for one, segments in named.items():
        if place < len(segments) and _around(segments, place) in many:
            yield one, (*segments[:place], "{}", *segments[place + 1 :])
        else:
            yield one, segments


def _around(segments: Segments, place: int) -> tuple[Segments, Segments]:
    return segments[:place], segments[place + 1 :]
