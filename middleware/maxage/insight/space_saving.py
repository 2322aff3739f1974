"""The heaviest names of a stream in bounded memory: Space-Saving.

A. Metwally, D. Agrawal, A. El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data
Streams", ICDT 2005.
"""

from collections.abc import Iterable
from typing import Final, final

from msgspec import Struct


class Weighed(Struct, gc=False):
    """A name's weight: the true one is at most `weight`, and at least `weight - error`."""

    weight: float
    error: float = 0.0
    hits: int = 0
    """Hits since the name is in the sketch."""
    calls: int = 0
    """Application calls since then."""
    seconds: float = 0.0
    """Seconds of these calls."""


@final
class SpaceSaving:
    """Keeps at most `size` names; each heavier than the total weight divided by `size` is kept."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._names: Final[dict[str, Weighed]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def offer(self, name: str, weight: float) -> Weighed:
        """Add a weight to a name; return its entry, for further counts."""
        entry = self._names.get(name)
        if entry is not None:
            entry.weight += weight
            return entry
        least = 0.0
        if len(self._names) >= self._size:
            # The lightest name makes room, and its weight is the error of the new one.
            lightest = min(self._names, key=lambda one: self._names[one].weight)
            least = self._names.pop(lightest).weight
        entry = self._names[name] = Weighed(least + weight, least)
        return entry

    def heaviest(self, count: int) -> list[tuple[str, Weighed]]:
        """Return the heaviest names, the heaviest one first."""
        return heaviest(self._names.copy().items(), count)


def heaviest(names: Iterable[tuple[str, Weighed]], count: int) -> list[tuple[str, Weighed]]:
    """Return the heaviest of some names, the heaviest one first."""
    return sorted(names, key=lambda one: one[1].weight, reverse=True)[:count]
