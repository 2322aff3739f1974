"""A stored response kept in this process, ready to be sent."""

from sys import getsizeof
from typing import Final, final

from maxage.store.entry import Entry
from maxage.store.prepared import Form, PreparedResponse

_PLACES: Final = 1600
"""What a copy costs besides its entry: the object, its places in tables and queues, what is
prepared to be sent, and what is remembered of the requests that it answers."""
_MEMBER_BYTES: Final = 80
"""What it costs that one copy depends on one token."""
_LINE_BYTES: Final = getsizeof((b"", b"")) + 2 * getsizeof(b"")
"""What a header line costs besides its characters: the pair, and both of its objects."""


@final
class Copy:
    """One response that is kept, and what was prepared to send it. It changes as it is used."""

    __slots__ = (
        "checked", "checked_until", "ends", "entry", "in_main", "kept", "prepared", "size",
        "tokens", "uses",
    )  # fmt: skip

    def __init__(self, entry: Entry, *, ends: float, tokens: tuple[bytes, ...] = ()) -> None:
        self.entry: Final = entry
        self.ends: Final = ends
        """Until when (monotonic) it may be used."""
        self.tokens: Final = tokens
        """The keys of its tokens."""
        self.size: Final = size_of(entry)
        self.uses = 0
        self.in_main = False
        self.kept = True
        """False as soon as it was purged or has left: it must not be used any more."""
        self.prepared: dict[Form, PreparedResponse] = {}
        """Responses prepared from the entry, at most a few."""
        self.checked: object = None
        """The state of the tokens for which the embedded store found it valid."""
        self.checked_until = 0.0


def size_of(entry: Entry) -> int:
    """Return the bytes that a copy of this entry takes in memory, rather too many than too few."""
    stored = entry.stored
    raw = stored.headers.raw
    lines = len(raw) * _LINE_BYTES + sum([len(name) + len(value) for name, value in raw])
    selecting = sum(map(getsizeof, (*stored.vary_names, *stored.selecting)))
    tokens = sum([getsizeof(g) + getsizeof(t) + _MEMBER_BYTES for g, t in entry.tokens])
    # Names and lines stand a second time in the list that is ready to be sent.
    prepared = getsizeof(raw) * 2
    times = 6 * getsizeof(stored.request_time)
    own = getsizeof(stored) + getsizeof(entry) + 2 * getsizeof(entry.key)
    return getsizeof(stored.body) + lines + selecting + tokens + prepared + times + own + _PLACES
