"""Ghosts: the keys of copies that were evicted lately, in few bytes."""

from array import array
from typing import Final, final

_FEWEST: Final = 256
"""Places of the smallest table; always a power of two."""
_BYTES: Final = 8
"""Bytes of a place."""
_WORD: Final = 2**64 - 1


@final
class Ghosts:
    """Remembers hashes of keys, about as many as there are copies.

    Each hash has one place in a table. A newer key takes the place of an older one.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(_FEWEST * _BYTES))

    @property
    def used_bytes(self) -> int:
        """The bytes that it takes."""
        return len(self._table) * _BYTES

    def add(self, key: bytes) -> None:
        """Remember a key."""
        ghost = hash(key) & _WORD
        self._table[ghost & (len(self._table) - 1)] = ghost

    def fit(self, copies: int) -> None:
        """Make room for as many keys as there are copies."""
        table = self._table
        if copies > len(table):
            self._table = array("Q", bytes(2 * len(table) * _BYTES))
            for ghost in filter(None, table):
                self._table[ghost & (len(self._table) - 1)] = ghost

    def take(self, key: bytes) -> bool:
        """Return whether a key is remembered, and forget it."""
        ghost = hash(key) & _WORD
        place = ghost & (len(self._table) - 1)
        if self._table[place] != ghost:
            return False
        self._table[place] = 0
        return True

    def clear(self) -> None:
        """Forget all keys."""
        self._table = array("Q", bytes(_FEWEST * _BYTES))
