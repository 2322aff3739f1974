"""The heaviest names of a stream in bounded memory: Space-Saving.

A. Metwally, D. Agrawal, A. El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data
Streams", ICDT 2005.
"""

from collections.abc import Iterable
from heapq import heappop, heappush, heapreplace
from typing import Final, final

from msgspec import Struct

from maxage.store.fork_safe import fork_safe_lock


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
        self._lock: Final = fork_safe_lock()
        self._names: Final[dict[str, Weighed]] = {}
        self._lightest: Final[list[tuple[float, str]]] = []
        """A heap of all names, each with its weight when it was put there: the true one may be
        greater by now. So only a new name costs more than a dictionary lookup."""

    def __len__(self) -> int:
        return len(self._names)

    def offer(self, name: str, weight: float) -> Weighed:
        """Add a weight to a name; return its entry, for further counts."""
        entry = self._names.get(name) or self._entered(name)
        entry.weight += weight
        return entry

    def _entered(self, name: str) -> Weighed:
        with self._lock:
            # Another thread may have entered it meanwhile.
            entry = self._names.get(name)
            if entry is None:
                least = self._leave() if len(self._names) >= self._size else 0.0
                entry = self._names[name] = Weighed(least, least)
                heappush(self._lightest, (least, name))
            return entry

    def _leave(self) -> float:
        """Let the lightest name make room; return its weight, which is the error of the new one."""
        while True:
            noted, name = self._lightest[0]
            weight = self._names[name].weight
            if weight <= noted:
                heappop(self._lightest)
                del self._names[name]
                return weight
            heapreplace(self._lightest, (weight, name))

    def heaviest(self, count: int) -> list[tuple[str, Weighed]]:
        """Return the heaviest names, the heaviest one first."""
        return heaviest(self._names.copy().items(), count)


def heaviest(names: Iterable[tuple[str, Weighed]], count: int) -> list[tuple[str, Weighed]]:
    """Return the heaviest of some names, the heaviest one first."""
    return sorted(names, key=lambda one: one[1].weight, reverse=True)[:count]
