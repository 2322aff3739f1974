"""Ghosts: the keys of copies that were evicted lately, in few bytes."""

from array import array
from typing import Final, final

_FEWEST: Final = 256
"""Places of the smallest table; always a power of two."""
_PLACE: Final = "I"
"""The type of a place: an unsigned number of four bytes."""
_WORD: Final = 2**32 - 1


@final
class Ghosts:
    """Remembers hashes of keys, about as many as there are copies.

    Each hash has one place in a table. A newer key takes the place of an older one.
    """

    def __init__(self) -> None:
        self._table = _empty(_FEWEST)

    def add(self, key: bytes, copies: int) -> None:
        """Remember a key, and make room for as many as there are copies."""
        if copies > len(self._table):
            self._grow()
        ghost = hash(key) & _WORD
        self._table[ghost & (len(self._table) - 1)] = ghost

    def _grow(self) -> None:
        table, self._table = self._table, _empty(2 * len(self._table))
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

    @property
    def used_bytes(self) -> int:
        """The bytes that it takes."""
        return len(self._table) * self._table.itemsize

    def clear(self) -> None:
        """Forget all keys."""
        self._table = _empty(_FEWEST)


def _empty(places: int) -> "array[int]":
    return array(_PLACE, [0]) * places
