"""A copy of a stored response in this process."""

from sys import getsizeof
from typing import Final, final

from maxage.store.entry import Entry
from maxage.store.prepared import Form, PreparedResponse

_PLACES: Final = 1600
"""Bytes of a copy besides its entry: the object, its places in tables and queues, its prepared
responses, and the known requests that it answers."""
_MEMBER_BYTES: Final = 80
"""Bytes for one copy's dependence on one token."""
_LINE_BYTES: Final = getsizeof((b"", b"")) + 2 * getsizeof(b"")
"""Bytes of a header line besides its characters: the pair, and both of its objects."""


@final
class Copy:
    """A copy of one stored response, and its prepared responses. Its counters change with use."""

    __slots__ = (
        "checked", "checked_until", "ends", "entry", "in_main", "kept", "prepared", "size",
        "tokens", "uses",
    )  # fmt: skip

    def __init__(self, entry: Entry, *, ends: float, tokens: tuple[bytes, ...] = ()) -> None:
        self.entry: Final = entry
        self.ends: Final = ends
        """Its end (monotonic)."""
        self.tokens: Final = tokens
        """The keys of its tokens."""
        self.size: Final = size_of(entry)
        self.uses = 0
        self.in_main = False
        self.kept = True
        """False after a purge or an eviction: the copy must not be used any more."""
        self.prepared: dict[Form, PreparedResponse] = {}
        """Responses prepared from the entry, at most a few."""
        self.checked = -1
        """The serial of the embedded store's tokens at which the copy was found valid."""
        self.checked_until = 0.0


def size_of(entry: Entry) -> int:
    """Return the bytes that a copy of this entry takes in memory, rather too many than too few."""
    stored = entry.stored
    raw = stored.headers.raw
    lines = len(raw) * _LINE_BYTES + sum([len(name) + len(value) for name, value in raw])
    selecting = sum(map(getsizeof, (*stored.vary_names, *stored.selecting)))
    tokens = sum([getsizeof(g) + getsizeof(t) + _MEMBER_BYTES for g, t in entry.tokens])
    # A prepared response has a second list of the lines.
    prepared = getsizeof(raw) * 2
    times = 6 * getsizeof(stored.request_time)
    own = getsizeof(stored) + getsizeof(entry) + 2 * getsizeof(entry.key)
    return getsizeof(stored.body) + lines + selecting + tokens + prepared + times + own + _PLACES
