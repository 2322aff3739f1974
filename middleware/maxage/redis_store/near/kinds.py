"""Kinds of near copies, and the copies that depend on a token.

A token of few copies knows their keys. A token of many copies, such as that of a collection, is
known by their kinds. Its purge ends the kinds at once. Their copies leave when they are replaced or
when it is their turn to be evicted.
"""

from collections.abc import Callable, Iterable
from typing import Final, final

from maxage.redis_store.near.compact_copy import CompactCopy, Kind, KindKey, Tokens, split
from maxage.store.entry import Entry

_MOST_OWN: Final = 4
"""Copies of a token that it knows by their keys."""
_MOST_KINDS: Final = 256
"""Kinds that there may be in addition to one for so many copies; with more, headers are not shared:
they hold values that differ from response to response."""
_COPIES_OF_A_KIND: Final = 8
_TWO_DIGITS: Final = 2**60 - 1
"""The largest integer that Python keeps in two digits."""
_PLACE_BYTES: Final = 110
"""Bytes of a token that is a copy's own, besides its name and value."""


@final
class Kinds:
    """Splits stored responses into kinds and copies, and finds what depends on a token.

    Args:
        token_key: returns the key of a group's token.
    """

    def __init__(self, token_key: Callable[[str], bytes]) -> None:
        self._token_key: Final = token_key
        self._kinds: Final[dict[KindKey, Kind]] = {}
        self._keys: Final[dict[int, bytes | tuple[bytes, ...]]] = {}
        """The keys of the copies of which a token is their own, by the hash of the token's key."""
        self._by_token: Final[dict[int, set[Kind]]] = {}
        """The kinds that share a token, by the hash of its key."""
        self._copies = 0
        self._bytes = 0
        self.outdated = 0
        """Copies of kinds that a purge has ended."""

    def names(self, tokens: Tokens) -> list[bytes]:
        """Return the keys of tokens."""
        return [self._token_key(group) for group, _ in tokens]

    def copy_of(self, entry: Entry, key: bytes, *, ends: float) -> CompactCopy:
        """Return a copy of a stored response, kept under a key until `ends` (monotonic)."""
        own = tuple([token for token in entry.tokens if self._is_own(token[0])])
        shares = len(self._kinds) < _MOST_KINDS + self._copies // _COPIES_OF_A_KIND
        common, parts = split(entry, own, shares=shares)
        kind = self._kinds.get(common) or self._new(common)
        kind.users += 1
        self._copies += 1
        for name in map(_name, self.names(own)):
            keys = self._keys_of(name)
            self._keys[name] = (*keys, key) if keys else key
        return CompactCopy(kind, parts, entry.stored.body, ends=ends)

    def _is_own(self, group: str) -> bool:
        name = _name(self._token_key(group))
        return name not in self._by_token and len(self._keys_of(name)) < _MOST_OWN

    def _keys_of(self, name: int) -> tuple[bytes, ...]:
        """Return the keys of the copies of which a token is their own."""
        keys = self._keys.get(name, ())
        return (keys,) if isinstance(keys, bytes) else keys

    def _new(self, common: KindKey) -> Kind:
        kind = self._kinds[common] = Kind(*common)
        self._bytes += kind.size
        for name in map(_name, self.names(kind.tokens)):
            self._by_token.setdefault(name, set()).add(kind)
        return kind

    @property
    def used_bytes(self) -> int:
        """The bytes that the kinds and the tables take."""
        return self._bytes + len(self._keys) * _PLACE_BYTES

    def leave(self, copy: CompactCopy, key: bytes) -> None:
        """Forget a copy that was kept under a key."""
        for name in map(_name, map(self._token_key, copy.own_groups)):
            keys = [other for other in self._keys_of(name) if other != key]
            if keys:
                self._keys[name] = tuple(keys) if len(keys) > 1 else keys[0]
            else:
                self._keys.pop(name, None)
        kind = copy.kind
        kind.users -= 1
        self._copies -= 1
        if not kind.kept:
            self.outdated -= 1
        if not kind.users:
            self._bytes -= kind.size
            if kind.kept:
                self._end(kind)

    def purge(self, token: bytes) -> Iterable[bytes]:
        """End the kinds that share a token, by its key; return the keys of its other copies."""
        name = _name(token)
        for kind in tuple(self._by_token.get(name, ())):
            self.outdated += kind.users
            self._end(kind)
        return self._keys_of(name)

    def clear(self) -> None:
        """Forget all copies."""
        for kind in self._kinds.values():
            kind.kept = False
        for table in (self._kinds, self._keys, self._by_token):
            table.clear()
        self._copies = self._bytes = self.outdated = 0

    def _end(self, kind: Kind) -> None:
        """Let no copy of a kind be used, and none be added."""
        kind.kept = False
        del self._kinds[kind.stored, kind.places, kind.tokens]
        for name in map(_name, self.names(kind.tokens)):
            kinds = self._by_token[name]
            kinds.discard(kind)
            if not kinds:
                del self._by_token[name]


def _name(token_key: bytes) -> int:
    """Return a hash that takes few bytes. Tokens that share one are purged together."""
    return hash(token_key) & _TWO_DIGITS
