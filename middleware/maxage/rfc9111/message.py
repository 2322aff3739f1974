"""Requests and responses as frozen values; headers keep their order, case and number."""

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Final, final

from msgspec import Struct, field

HeaderList = tuple[tuple[bytes, bytes], ...]
"""Header lines as ASGI carries them: name and value, in order, duplicates kept."""


_MOST_OUTLINES: Final = 512
"""Outlines that are remembered."""
_LONGEST_NAMES: Final = 2048
"""Bytes of the names that are remembered."""
_MOST_LINES: Final = 64
"""Lines whose names are remembered: many short names would take fifty times their bytes."""
NAME_OF: Final = itemgetter(0)
"""Returns the name of a header line."""


def may_remember(names: tuple[bytes, ...]) -> bool:
    """Return whether the names of header lines are few and short; clients make them up."""
    return len(names) <= _MOST_LINES and sum(map(len, names)) <= _LONGEST_NAMES


@final
class Outline(Struct, frozen=True, eq=False):
    """What the names of header lines tell; lines with the same names in the same order share it."""

    at: Mapping[bytes, tuple[int, ...]]
    """The places of the lines of each lower-case name."""


_outlines: Final[dict[tuple[bytes, ...], Outline]] = {}
"""By the names of the lines: most messages have one of a few."""


def _new_outline(names: tuple[bytes, ...]) -> Outline:
    at: dict[bytes, list[int]] = {}
    for place, name in enumerate(map(bytes.lower, names)):
        at.setdefault(name, []).append(place)
    outline = Outline({name: tuple(places) for name, places in at.items()})
    if may_remember(names):
        if len(_outlines) >= _MOST_OUTLINES:
            _outlines.clear()
        _outlines[names] = outline
    return outline


@final
class Headers(Struct, eq=False, gc=False):
    """Immutable header lines, found by lower-case name."""

    raw: HeaderList = ()
    """The lines in their order, with duplicates, and with the case of the names as received, so
    that a stored response is sent as it came."""
    _outline: Outline | None = None
    _size: int | None = None

    @classmethod
    def copied(cls, lines: Iterable[tuple[bytes, bytes]]) -> "Headers":
        """Return headers over lines of any kind of bytes."""
        return cls(tuple([(bytes(name), bytes(value)) for name, value in lines]))

    @classmethod
    def sent(cls, lines: Iterable[tuple[bytes, bytes]]) -> "Headers":
        """Return the headers of an application; lines that are pairs of bytes are not copied."""
        raw, size = tuple(lines), 0
        for line in raw:
            name, value = line
            if type(line) is not tuple or type(name) is not bytes or type(value) is not bytes:
                return cls.copied(raw)
            size += len(name) + len(value)
        return cls(raw, None, size)

    def get_all(self, name: bytes) -> tuple[bytes, ...]:
        """Return the values of every line called `name` (lower case), in order."""
        places = (self._outline or self.outline()).at.get(name)
        if places is None:
            return ()
        raw = self.raw
        if len(places) == 1:
            return (raw[places[0]][1],)
        return tuple([raw[place][1] for place in places])

    def size(self) -> int:
        """Return the bytes of all names and values."""
        size = self._size
        if size is None:
            size = self._size = sum([len(name) + len(value) for name, value in self.raw])
        return size

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Return whether there is a line of any of these names (lower case)."""
        return not names.isdisjoint((self._outline or self.outline()).at)

    def __contains__(self, name: object) -> bool:
        return name in (self._outline or self.outline()).at

    def first(self, name: bytes) -> bytes | None:
        """Return the first line's value, or None when there is no such line."""
        places = (self._outline or self.outline()).at.get(name)
        return None if places is None else self.raw[places[0]][1]

    def combined(self, name: bytes) -> bytes | None:
        """Return all lines joined by a comma (RFC 9110 section 5.3), or None when there is none."""
        lines = self.get_all(name)
        return b", ".join(lines) if lines else None

    def outline(self) -> Outline:
        """Return where the lines of each name are."""
        outline = self._outline
        if outline is None:
            names = tuple(map(NAME_OF, self.raw))
            try:
                outline = _outlines[names]
            except KeyError:
                outline = _new_outline(names)
            except TypeError:
                # An application may send any kind of bytes, and `bytearray` has no hash.
                outline = _new_outline(tuple(map(bytes, names)))
            self._outline = outline
        return outline

    def without(self, names: Iterable[bytes]) -> "Headers":
        """Return headers that lack every line whose lower-case name is in `names`."""
        at = (self._outline or self.outline()).at
        # By their places: a name of another kind of bytes, such as `bytearray`, has no hash.
        dropped = {place for name in names for place in at.get(name, ())}
        if not dropped:
            return self
        kept = [line for place, line in enumerate(self.raw) if place not in dropped]
        return Headers(tuple(kept))

    def adding(self, lines: Iterable[tuple[bytes, bytes]]) -> "Headers":
        """Return headers with these lines at the end."""
        size = self._size
        if size is not None:
            for name, value in lines:
                size += len(name) + len(value)
        return Headers((*self.raw, *lines), None, size)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Headers({list(self.raw)!r})"


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """A request as the rules of RFC 9111 see it."""

    method: str
    headers: Headers = field(default_factory=Headers)
    carries_credentials: bool = False
    """Whether it carries Authorization, a cookie, or another credential that the settings name."""
    key_parts: tuple[bytes, ...] = ()
    """Parts of its key besides method, URL and selecting fields."""
    declared: tuple[bytes, ...] = ()
    """Further parts of its key: names and lines of the fields that its route declares, or that ask
    for a fragment. The number of their values is bounded for each URL."""
    is_bare: bool = False
    """Whether it is known to have no condition, range or directive; False: its headers tell."""

    def all_parts(self) -> tuple[bytes, ...]:
        """Return all parts of its key besides method, URL and selecting fields."""
        return self.key_parts + self.declared


class Response(Struct, frozen=True, kw_only=True, gc=False):
    """The head of a response as the application sent it."""

    status: int
    headers: Headers = field(default_factory=Headers)


class StoredResponse(Struct, frozen=True, kw_only=True, gc=False):
    """A stored response, with the numbers that decide about its use.

    `storing` or `freshening` computes them once, so that a hit only subtracts.
    Durations are seconds, instants POSIX seconds.
    """

    status: int
    headers: Headers
    body: bytes
    request_time: float
    """When the request that produced the response (or last validated it) was forwarded."""
    response_time: float
    """When the response (or the 304 that freshened it) arrived."""
    freshness_lifetime: float
    corrected_initial_age: float
    """RFC 9111 section 4.2.3; the current age is this plus the time since `response_time`."""
    lifetime_is_ours: bool = False
    """The lifetime is the configured one: the response states none."""
    always_validate: bool = False
    """`no-cache` without field names (RFC 9111 section 5.2.2.4)."""
    no_cache_fields: tuple[bytes, ...] = ()
    """Field names of `no-cache="..."`, lower case: not sent without validation."""
    never_stale: bool = False
    """`must-revalidate`, `proxy-revalidate` or `s-maxage`: never served stale."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float | None = None
    shareable: bool = False
    """`public`, `s-maxage` or `must-revalidate`: may answer requests with credentials (3.5)."""
    anonymous: bool = False
    """The application looked who asks, and knew no user: it answers only requests without fields
    by which another user may be known (`rfc9111.credentials`)."""
    vary_names: tuple[bytes, ...] = ()
    """Lower-case names of the selecting header fields, sorted, without duplicates."""
    selecting: tuple[bytes | None, ...] = ()
    """The normalised values of the request's selecting fields, aligned with `vary_names`."""
    plain_length: int | None = None
    """Length of the body before compression, where it is kept compressed; None: it is not."""

    @property
    def is_compressed(self) -> bool:
        """Whether `body` is compressed; where it is to be, its length tells whether it is yet."""
        return self.plain_length is not None and len(self.body) < self.plain_length

    @property
    def length(self) -> int:
        """Length of the body as the application sent it."""
        return len(self.body) if self.plain_length is None else self.plain_length
