"""A memo bounded in size, whatever clients send."""

from collections import OrderedDict
from typing import Final, TypeVar, final

Value = TypeVar("Value")
Key = tuple[str | bytes, ...]

MOST_WEIGHT: Final = 4096
"""Sum of the keys' weights; beyond it, the oldest keys are forgotten first."""
_CHARACTERS_OF_ONE: Final = 512
"""Characters of a key that weighs 1; each further 512 add 1."""


@final
class BoundedMemo(OrderedDict[Key, Value]):
    """Remembers values by keys that clients can make up, bounded in number and length of keys."""

    _total = 0

    def remember(self, key: Key, value: Value, most: int = MOST_WEIGHT) -> list[tuple[Key, Value]]:
        """Remember the value; forget the oldest ones where there is no room, and return them.

        Args:
            key: of the value.
            value: to be remembered.
            most: the sum of the keys' weights for which there is room.
        """
        if key not in self:
            self._total += _weight(key)
        self[key] = value
        return self._shortened(most) if self._total > most else []

    def _shortened(self, most: int) -> list[tuple[Key, Value]]:
        """Forget the oldest values, and return them."""
        forgotten: list[tuple[Key, Value]] = []
        total = self._total
        while total > most and self:
            oldest = self.popitem(last=False)
            total -= _weight(oldest[0])
            forgotten.append(oldest)
        self._total = total
        return forgotten

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._total = 0


def _weight(key: Key) -> int:
    return 1 + sum(map(len, key)) // _CHARACTERS_OF_ONE
