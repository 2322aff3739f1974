"""The record of a worker: its counts, its most asked URLs, and sums of the last intervals."""

from msgspec import Struct, field

from maxage.observe.counters import add_sums

INTERVAL_SECONDS = 5
"""Seconds between two records of a worker, and of one point of a chart."""
MOST_INTERVALS = 120
"""Intervals in a record: ten minutes."""


class RouteRecord(Struct, kw_only=True, omit_defaults=True):
    """The counts of one route."""

    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    """By the words of `observe.words.Outcome`."""
    bypasses: dict[str, int] = field(default_factory=dict[str, int])
    not_stored: dict[str, int] = field(default_factory=dict[str, int])
    stale: int = 0
    stored: int = 0
    stored_bytes: int = 0
    calls: int = 0
    """Application calls, those of background refreshes included."""
    seconds: float = 0.0
    """Seconds of these calls, without the time in which clients took the answers."""

    @property
    def requests(self) -> int:
        """All requests of the route."""
        return sum(self.outcomes.values())

    @property
    def hits(self) -> int:
        """Requests that a stored response answered."""
        return self.outcomes.get("hit", 0)

    @property
    def seconds_saved(self) -> float:
        """Hits times the mean seconds of a call."""
        return self.hits * self.seconds / self.calls if self.calls else 0.0


class TopUrl(Struct, kw_only=True, omit_defaults=True):
    """One of the most asked URLs, or of those whose application calls took the most seconds."""

    url: str
    """Method, path and query, without secrets."""
    weight: float
    """Requests, or seconds; at most so many."""
    error: float = 0.0
    """By how much `weight` may be too large."""
    hits: int = 0
    calls: int = 0
    seconds: float = 0.0


class Interval(Struct, kw_only=True, omit_defaults=True):
    """The sums of one interval."""

    begins: int
    """POSIX seconds by the server's clock, a multiple of `INTERVAL_SECONDS`."""
    hits: int = 0
    collapsed: int = 0
    misses: int = 0
    bypasses: int = 0
    writes: int = 0
    calls: int = 0
    seconds: float = 0.0
    """Seconds of the application's calls."""
    timed: int = 0
    """Requests whose added latency was measured."""
    added: float = 0.0
    """Seconds that the cache added to these requests."""

    def add(self, other: "Interval") -> None:
        """Add the sums of another worker."""
        add_sums(self, other, "begins")


class WorkerRecord(Struct, kw_only=True, omit_defaults=True):
    """The state of one worker."""

    worker: str
    """Machine, process and start, as one name."""
    machine: str
    pid: int
    started: float
    """POSIX seconds by the worker's clock."""
    at: float
    """When this was published; POSIX seconds by the server's clock."""
    routes: dict[str, RouteRecord] = field(default_factory=dict[str, RouteRecord])
    asked: list[TopUrl] = field(default_factory=list[TopUrl])
    """The most asked URLs."""
    costly: list[TopUrl] = field(default_factory=list[TopUrl])
    """The URLs whose application calls took the most seconds."""
    intervals: list[Interval] = field(default_factory=list[Interval])
    purges: dict[str, int] = field(default_factory=dict[str, int])
    """By the words of `observe.words.PurgeCause`."""
    unconfirmed_purges: int = 0
    owed_purges: int = 0
    breakers_open: int = 0
    unreadable: int = 0
    timed: int = 0
    """Requests whose added latency was measured."""
    added: float = 0.0
    """Seconds that the cache added to these requests."""
