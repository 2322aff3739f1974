"""A copy of a stored response in this process."""

from itertools import chain
from sys import getsizeof
from typing import Final, Protocol, final

from msgspec import Struct

from maxage.rfc9111.decisions import Serve
from maxage.store.entry import Entry
from maxage.store.prepared import Form, Owner, PreparedResponse

_PLACES: Final = 1600
"""Bytes of a copy besides its entry: the object, its places in tables and queues, its prepared
responses, and the known requests that it answers."""
_OWN_BYTES: Final = 400 + _PLACES
"""Bytes of an entry besides its lines, tokens, selecting fields, key and body."""
_TOKEN_BYTES: Final = getsizeof("") + getsizeof(b"") + 80
"""Bytes of a token with its group besides their characters, and for the dependence on it."""
_PLACE_BYTES: Final = 8
"""Bytes of a place in a list."""
_LINE_BYTES: Final = getsizeof((b"", b"")) + 2 * getsizeof(b"") + 2 * _PLACE_BYTES
"""Bytes of a header line besides its characters: the pair, both of its objects, and its places in
two lists, since a prepared response has a second one."""


class Copy(Protocol):
    """A copy of one stored response. Its counters change with use."""

    prepared: dict[Form, PreparedResponse] | None
    """Responses prepared from it, at most a few; None: none yet."""

    @property
    def kept(self) -> bool:
        """False after a purge or an eviction: the copy must not be used any more."""
        ...

    @property
    def owner(self) -> Owner | None:
        """What may ask for it by its key alone (`Near.introduce`); None: that is unknown."""
        ...

    def entry(self, key: bytes) -> Entry:
        """Return the stored response with its tokens; `key` is the one that it was found by."""
        ...

    def plain_hit(self, now: float) -> Serve | None:
        """Return what `decide` gives a GET without conditions by its owner; None: ask the rules."""
        ...


@final
class KeptEntry(Struct, eq=False):
    """A copy in the embedded store, which keeps the stored response as an object."""

    value: Entry
    kept: bool = True
    prepared: dict[Form, PreparedResponse] | None = None
    checked: int = -1
    """The serial of the store's tokens at which the copy was found valid."""
    checked_until: float = 0.0

    @property
    def owner(self) -> Owner | None:
        """None: the requests for a copy are remembered in its place."""
        return None

    def entry(self, key: bytes) -> Entry:
        """Return the stored response with its tokens."""
        del key
        return self.value

    def plain_hit(self, now: float) -> Serve | None:
        """Return None: only what is remembered asks for it."""
        del now
        return None


def size_of(entry: Entry) -> int:
    """Return the bytes that a copy of this entry takes in memory, rather too many than too few."""
    stored = entry.stored
    size = len(stored.body) + 2 * len(entry.key) + _OWN_BYTES
    size += stored.headers.size() + len(stored.headers.raw) * _LINE_BYTES
    # A dependence on a token repeats its characters.
    size += 2 * sum(map(len, chain.from_iterable(entry.tokens))) + len(entry.tokens) * _TOKEN_BYTES
    if stored.vary_names:
        size += sum(map(getsizeof, (*stored.vary_names, *stored.selecting)))
    return size
