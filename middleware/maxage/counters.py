"""Counters of events, as plain integers: for a page, a log line or a metrics exporter."""

from dataclasses import dataclass, field, fields
from typing import Final
from weakref import WeakSet

BYPASSES: Final = (
    "uncached", "override", "body", "host", "head", "long-url", "vary_by", "store-away",
)  # fmt: skip
"""Reasons to pass a request on without a lookup: the words of `detail` in Cache-Status."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Counters:
    """Counts the events of one middleware since it was made.

    Each GET and HEAD, and each QUERY where `CACHE_STORE_QUERY` is on, counts once: in `hits`,
    `collapsed`, `misses` or `bypasses`; a request whose header names another method is not counted.
    Event loops in several threads may lose a count now and then.
    """

    hits: int = 0
    """Answered from a stored response, in Redis, in this process or by the fast lane."""
    collapsed: int = 0
    """Answered by the response that another request was fetching."""
    misses: int = 0
    """No stored response could answer: the application was asked, or 504 was the answer."""
    bypasses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BYPASSES, 0))
    """Passed on without a lookup, by reason; `BYPASSES` names all reasons."""
    stale: int = 0
    """Stale answers: of hits, and in place of errors and slow answers."""
    refreshes: int = 0
    """Background requests to the application, for responses that are stale or soon will be."""
    stored: int = 0
    """Responses that were stored."""
    unreadable: int = 0
    """Reads of a value that did not verify: damaged, foreign, or signed with another secret."""
    purges: int = 0
    """Purges by requests: one before the answer, and one when the application has returned."""
    unconfirmed_purges: int = 0
    """Purges that the store did not confirm; they are made later, before Redis is read again."""

    reached_reads: dict[str, int] = field(default_factory=dict[str, int])
    """By writing route, such as `PUT /items/{id}`: how many read routes its requests have purged,
    added up. The largest number shows the route that costs the most hits."""

    def count_write(self, route: str, reads: int) -> None:
        """Count a request that purges, by its route and the number of read routes it reaches."""
        self.reached_reads[route] = self.reached_reads.get(route, 0) + reads

    def count_purge(self, *, confirmed: bool) -> bool:
        """Count a purge; return whether it is confirmed."""
        self.purges += 1
        self.unconfirmed_purges += not confirmed
        return confirmed


_all: Final[WeakSet[Counters]] = WeakSet()


def begin_counting() -> Counters:
    """Return new counters; `counters` adds them up for as long as they live."""
    made = Counters()
    _all.add(made)
    return made


def counters() -> Counters:
    """Return the current sum over all middlewares of this process."""
    total = Counters()
    for part in tuple(_all):
        for name in _NUMBERS:
            setattr(total, name, getattr(total, name) + getattr(part, name))
        for reason, count in part.bypasses.items():
            total.bypasses[reason] += count
        for route, reads in tuple(part.reached_reads.items()):
            total.count_write(route, reads)
    return total


_NUMBERS: Final = tuple(one.name for one in fields(Counters) if one.type is int)
