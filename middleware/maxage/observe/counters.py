"""Counters of events, as plain integers: for a page, a log line or a metrics exporter.

Each target holds the counts of its route, so that counting by route costs no lookup.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, final
from weakref import finalize

import msgspec
from msgspec import Struct

from maxage.observe.words import MISSES, Bypass, Outcome, PurgeCause
from maxage.store.fork_safe import fork_safe_lock

BYPASSES: Final = tuple(word.value for word in Bypass)
"""Reasons to pass a request on without a lookup: the words of `detail` in Cache-Status."""
UNKNOWN_ROUTE: Final = "unknown"
"""Stands for the route of all requests whose route is not known."""
_MOST_ROUTES: Final = 1000
"""Routes that are counted by themselves; all later ones count as unknown."""


def add_sums(mine: Struct, other: Struct, *names: str) -> None:
    """Add all numbers of another object, and its counts by word; `names` are no sums."""
    for name in set(mine.__struct_fields__).difference(names):
        sums: Any = getattr(mine, name)
        more: Any = getattr(other, name)
        if hasattr(more, "items"):
            # A copy: another thread may count meanwhile.
            for word, count in dict(more).items():
                sums[word] = sums.get(word, 0) + count
        else:
            setattr(mine, name, sums + more)


@final
class RouteCounts(Struct, eq=False):
    """Counts the requests of one route, and the responses to them, in one middleware."""

    hits: int = 0
    collapsed: int = 0
    forwards: Counter[str] = msgspec.field(default_factory=Counter[str])
    """The outcomes of all other requests that were looked up, and of writes."""
    bypasses: Counter[str] = msgspec.field(default_factory=Counter[str])
    stale: int = 0
    refreshes: int = 0
    stored: int = 0
    stored_bytes: int = 0
    not_stored: Counter[str] = msgspec.field(default_factory=Counter[str])
    compared: int = 0
    """Answers of the application that were compared with stored ones (`maxage.shadow`)."""
    different: int = 0

    def outcomes(self) -> dict[str, int]:
        """Return how many requests ended in which way, by the words of `Outcome`."""
        found = Counter(dict(self.forwards))
        found[Outcome.HIT] += self.hits
        found[Outcome.COLLAPSED] += self.collapsed
        found[Outcome.BYPASS] += self.bypasses.total()
        return {word: found[word] for word in Outcome if found[word]}


class Tally(Struct, eq=False):
    """The live counts of one middleware, or of what belongs to none.

    Each GET and HEAD, and each QUERY where `CACHE_STORE_QUERY` is on, has one outcome, and so has
    each request that may change something. Event loops in several threads may lose a count now and
    then.
    """

    routes: dict[str, RouteCounts] = msgspec.field(default_factory=dict[str, RouteCounts])
    """By route template, and one of `UNKNOWN_ROUTE`."""
    unreadable: int = 0
    purges: Counter[str] = msgspec.field(default_factory=Counter[str])
    unconfirmed_purges: int = 0
    typed_reads: Counter[str] = msgspec.field(default_factory=Counter[str])
    evictions: Counter[str] = msgspec.field(default_factory=Counter[str])
    budget_overruns: int = 0
    reached_reads: Counter[str] = msgspec.field(default_factory=Counter[str])

    def of_route(self, template: str | None) -> RouteCounts:
        """Return the counts of a route; None: of requests whose route is not known."""
        name = template or UNKNOWN_ROUTE
        counts = self.routes.get(name)
        if counts is None:
            if len(self.routes) >= _MOST_ROUTES and name != UNKNOWN_ROUTE:
                return self.of_route(None)
            counts = self.routes[name] = RouteCounts()
        return counts

    def count_write(self, route: str, reads: int) -> None:
        """Count a request that purges, by its route and the number of read routes it reaches."""
        self.reached_reads[route] += reads

    def count_purge(self, cause: PurgeCause, *, confirmed: bool) -> bool:
        """Count a purge; return whether it is confirmed."""
        self.count_purges(cause, 1, unconfirmed=not confirmed)
        return confirmed

    def count_purges(self, cause: PurgeCause, number: int, *, unconfirmed: int) -> None:
        """Count purges of one cause, and how many of them are not confirmed."""
        self.purges[cause] += number
        self.unconfirmed_purges += unconfirmed

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for template, counts in tuple(other.routes.items()):
            add_sums(self.routes.setdefault(template, RouteCounts()), counts)
        add_sums(self, other, "routes")


PROCESS: Final = Tally()
"""Counts what belongs to no middleware: typed values, purges by hand, servers, evictions."""

AT_CLOSE: Final[list[Callable[[], None]]] = []
"""Called when a cache is closed: servers that are told to stop may end without `atexit`."""

_tallies: Final[list[Tally]] = [PROCESS]
_ended: Final[deque[Tally]] = deque()
"""Tallies whose owners have ended, which are not part of `PROCESS` yet."""
_summing: Final = fork_safe_lock()


def begin_counting(owner: object) -> Tally:
    """Return a new tally for the owner; `total` adds up all of them, also of owners that ended."""
    made = Tally()
    with _summing:
        _merge_ended()
        _tallies.append(made)
    # An owner ends at any moment, in any thread, also while `total` adds up: nothing moves then.
    finalize(owner, _ended.append, made).atexit = False
    return made


def _merge_ended() -> None:
    """Let the process go on with what ended middlewares counted: a counter never falls."""
    while _ended:
        tally = _ended.popleft()
        _tallies.remove(tally)
        PROCESS.add(tally)


def total() -> Tally:
    """Return the current sum over all middlewares of this process, and of what belongs to none."""
    added = Tally()
    with _summing:
        _merge_ended()
        for part in _tallies:
            added.add(part)
    return added


@dataclass(slots=True, eq=False)
class Counters:
    """What was counted in this process since its middlewares were made, by `counters`.

    Each GET and HEAD, and each QUERY where `CACHE_STORE_QUERY` is on, counts once: in `hits`,
    `collapsed`, `misses` or `bypasses`; a request whose header names another method is not counted.
    """

    hits: int = 0
    """Answered from a stored response, in Redis, in this process or by the fast lane."""
    collapsed: int = 0
    """Answered by the response that another request was fetching."""
    misses: int = 0
    """No stored response could answer: the application was asked, or 504 was the answer."""
    bypasses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BYPASSES, 0))
    """Passed on without a lookup, by reason."""
    stale: int = 0
    """Stale answers: of hits, and in place of errors and slow answers."""
    refreshes: int = 0
    """Background requests to the application, for responses that are stale or soon will be."""
    stored: int = 0
    """Responses that were stored."""
    not_stored: dict[str, int] = field(default_factory=dict[str, int])
    """Responses that were not stored, by reason."""
    unreadable: int = 0
    """Reads of a value that did not verify: damaged, foreign, or signed with another secret."""
    purges: int = 0
    """Purges of any cause; a write makes two, before its answer and when its call has returned."""
    unconfirmed_purges: int = 0
    """Purges that the store did not confirm; they are made later, before Redis is read again."""

    reached_reads: dict[str, int] = field(default_factory=dict[str, int])
    """By writing route, such as `PUT /items/{id}`: how many read routes its requests have purged,
    added up. The largest number shows the route that costs the most hits."""


def counters_of(tally: Tally) -> Counters:
    """Return the counts of a tally, all routes added up."""
    routes = RouteCounts()
    for counts in tuple(tally.routes.values()):
        add_sums(routes, counts)
    return Counters(
        hits=routes.hits,
        collapsed=routes.collapsed,
        misses=sum(routes.forwards[word] for word in MISSES),
        bypasses=dict.fromkeys(BYPASSES, 0) | dict(routes.bypasses),
        stale=routes.stale,
        refreshes=routes.refreshes,
        stored=routes.stored,
        not_stored=dict(routes.not_stored),
        unreadable=tally.unreadable,
        purges=tally.purges.total(),
        unconfirmed_purges=tally.unconfirmed_purges,
        reached_reads=dict(tally.reached_reads),
    )


def counters() -> Counters:
    """Return the current sum over all middlewares of this process."""
    return counters_of(total())
