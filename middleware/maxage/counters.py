"""How often what happened, in plain numbers: for a page, a log line or a metrics exporter."""

from dataclasses import dataclass, field, fields
from typing import Final
from weakref import WeakSet

BYPASSES: Final = (
    "uncached", "override", "body", "host", "head", "long-url", "vary_by", "store-away",
)  # fmt: skip
"""Why a request is passed on without a lookup: the words of `detail` in Cache-Status."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Counters:
    """What has happened since the middleware was made.

    Each GET and HEAD, and each QUERY where `CACHE_STORE_QUERY` is on, counts once: in `hits`,
    `collapsed`, `misses` or `bypasses`; one whose header names another method counts as none.
    Threads with event loops of their own may lose a count now and then.
    """

    hits: int = 0
    """Answered from what was stored, in Redis, in this process or by the fast lane."""
    collapsed: int = 0
    """Answered by the response that another request was fetching."""
    misses: int = 0
    """Nothing stored could answer: the application was asked, or 504 was the answer."""
    bypasses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BYPASSES, 0))
    """Passed on without a lookup, by the reason; there are no others than `BYPASSES`."""
    stale: int = 0
    """Answers that were stale, for hits, errors or slowness."""
    refreshes: int = 0
    """Questions to the application in the background, about what is stale or will be soon."""
    stored: int = 0
    """Responses that were stored."""
    unreadable: int = 0
    """Reads that found a value which did not verify: damaged, foreign, or of another secret."""
    purges: int = 0
    """Purges by requests: one before the answer, and one when the application has returned."""
    unconfirmed_purges: int = 0
    """Those that the store did not confirm; they are owed, and made up for."""

    def count_purge(self, *, confirmed: bool) -> bool:
        """Count a purge; return whether it is confirmed."""
        self.purges += 1
        self.unconfirmed_purges += not confirmed
        return confirmed


_all: Final[WeakSet[Counters]] = WeakSet()


def begin_counting() -> Counters:
    """Return new counters, which `counters` tells of for as long as they live."""
    made = Counters()
    _all.add(made)
    return made


def counters() -> Counters:
    """Return the sum over all middlewares of this process, as it is now."""
    total = Counters()
    for part in tuple(_all):
        for name in _NUMBERS:
            setattr(total, name, getattr(total, name) + getattr(part, name))
        for reason, count in part.bypasses.items():
            total.bypasses[reason] += count
    return total


_NUMBERS: Final = tuple(one.name for one in fields(Counters) if one.name != "bypasses")
