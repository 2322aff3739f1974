"""The sums of one route, for each size of the store and each lifetime."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeVar, final

from maxage.simulate.logged import LoggedRequest

Number = TypeVar("Number", int, float)


@final
class Figures:
    """The sums of one route, for so many sizes and lifetimes."""

    def __init__(self, sizes: int, lifetimes: int) -> None:
        self.requests = 0
        self.timed = False
        """Whether the log tells how long answers took."""
        self.purgeable = 0
        """Requests for URLs that a write had purged before."""
        self.at_most = False
        """Whether keys depend on inputs that a log does not have."""
        self.reasons: Final[Counter[str]] = Counter()
        """Why answers are not stored as the application is set up now."""
        self.hits: Final = [[0] * lifetimes for _ in range(sizes)]
        self.saved_bytes: Final = [[0] * lifetimes for _ in range(sizes)]
        self.saved_seconds: Final = [[0.0] * lifetimes for _ in range(sizes)]

    def note(self, logged: LoggedRequest, *, reason: str, purgeable: bool) -> None:
        """Count a request."""
        self.requests += 1
        self.purgeable += purgeable
        self.timed |= logged.seconds is not None
        if reason:
            self.reasons[reason] += 1

    def note_hits(self, size: int, hits: Sequence[bool], logged: LoggedRequest) -> None:
        """Count for which lifetimes a store of a size answers a request."""
        counts, saved, spared = self.hits[size], self.saved_bytes[size], self.saved_seconds[size]
        for lifetime, hit in enumerate(hits):
            if hit:
                counts[lifetime] += 1
                saved[lifetime] += logged.size
                spared[lifetime] += logged.seconds or 0.0

    def add(self, other: "Figures") -> None:
        """Add the sums of another route."""
        self.requests += other.requests
        self.timed |= other.timed
        self.purgeable += other.purgeable
        self.at_most |= other.at_most
        self.reasons.update(other.reasons)
        _add(self.hits, other.hits)
        _add(self.saved_bytes, other.saved_bytes)
        _add(self.saved_seconds, other.saved_seconds)


def _add(mine: list[list[Number]], theirs: list[list[Number]]) -> None:
    for row, added in zip(mine, theirs, strict=True):
        row[:] = [a + b for a, b in zip(row, added, strict=True)]
