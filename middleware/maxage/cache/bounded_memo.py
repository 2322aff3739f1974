"""What is remembered of what clients ask for: bounded, whatever they make up."""

from collections import OrderedDict
from typing import Final, TypeVar, final

Remembered = TypeVar("Remembered")
Key = tuple[str | bytes, ...]

_REMEMBERED: Final = 4096
"""URLs of which something is remembered; the one remembered first is forgotten first."""
_USUAL_LENGTH: Final = 512
"""What tells a URL from others, in characters; a longer one counts as several."""


@final
class BoundedMemo(OrderedDict[Key, Remembered]):
    """What is remembered of URLs, bounded in their number and in their length."""

    _weight = 0

    def remember(self, key: Key, value: Remembered) -> None:
        """Keep the value, and forget the oldest ones where there is no room."""
        self[key] = value
        self._weight += _weight(key)
        while self._weight > _REMEMBERED and self:
            oldest, _ = self.popitem(last=False)
            self._weight -= _weight(oldest)

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._weight = 0


def _weight(key: Key) -> int:
    return 1 + sum(map(len, key)) // _USUAL_LENGTH
