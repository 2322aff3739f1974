"""The outcome of a simulation, as frozen values, and the rules that follow from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from maxage.routing.template import pattern_of
from maxage.settings import CacheSettings
from maxage.simulate.figures import Figures
from maxage.simulate.store_model import IN_PROCESS, IN_REDIS, StoreModel

_ENOUGH: Final = 0.95
"""Share of the hits of the longest lifetime for which a shorter one is as good."""
_WORTH: Final = 0.02
"""Hit rate below which no rule is proposed."""
_NEAR: Final = 0.01
"""Hit rate that a size may cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The answers of the cache for one lifetime, in a store of one size."""

    hit_rate: float
    """Of all GET and HEAD requests, from 0 to 1."""
    saved_bytes: int
    """Of answers that the application does not make."""
    saved_seconds: float | None
    """Of application calls; None: the log does not have their durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOutcome:
    """The answers of the cache on one route, in a store without a limit and in smaller ones.

    The memory of a process (the embedded store, or a near cache) takes more bytes for each response
    than Redis.
    """

    route: str
    requests: int
    now: Cell
    """As the application is set up now."""
    lifetimes: tuple[Cell, ...]
    """For each lifetime of `Outcome.lifetimes`."""
    in_redis: tuple[tuple[float, ...], ...]
    """For each size of `Outcome.sizes` the hit rate of now, and that for each lifetime."""
    in_process: tuple[tuple[float, ...], ...]
    """The same for the memory of a process."""
    purged: bool
    """Whether a write in the log purges URLs of this route."""
    at_most: bool
    """Whether keys depend on inputs that a log does not have (`vary_by`, declared headers): then
    the hit rates are too high."""
    not_stored: Mapping[str, int]
    """Answers that are not stored as it is set up now, by the word of Cache-Status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A line of `rules=`, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a simulation; seconds and bytes."""

    requests: int
    """GET and HEAD."""
    writes: int
    others: int
    """Requests with other methods, which the cache passes on."""
    begins: float
    """When the first request came, in POSIX seconds."""
    seconds: float
    """From the first request to the last."""
    lifetimes: tuple[float, ...]
    sizes: tuple[int, ...]
    total: RouteOutcome
    routes: tuple[RouteOutcome, ...]
    """The most asked first."""
    bytes_in_redis: int
    """Bytes that all responses take."""
    bytes_in_process: int
    forgotten: int
    """Responses for which the models had no room: the hit rates are too low by their hits."""
    has_routes: bool
    proposals: tuple[Proposal, ...]
    settings: tuple[str, ...]
    """Lines for the environment."""

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as values that JSON knows."""
        return asdict(self)


def outcome_of(
    figures: Mapping[str, Figures],
    total: Figures,
    stores: Sequence[StoreModel],
    lifetimes: tuple[float, ...],
    settings: CacheSettings,
    *,
    writes: int,
    others: int,
    begins: float,
    seconds: float,
    has_routes: bool,
) -> Outcome:
    """Return the outcome; the last store has no limit."""
    *limited, whole_store = stores
    sizes = tuple(one.max_bytes or 0 for one in limited[: len(limited) // 2])
    asked = sorted(figures.items(), key=lambda one: (-one[1].requests, one[0]))
    routes = tuple(_route(name, one) for name, one in asked)
    whole = _route("all", total)
    return Outcome(
        requests=total.requests,
        writes=writes,
        others=others,
        begins=begins,
        seconds=seconds,
        lifetimes=lifetimes,
        sizes=sizes,
        total=whole,
        routes=routes,
        bytes_in_redis=whole_store.most_used,
        bytes_in_process=whole_store.most_used + whole_store.most_kept * (IN_PROCESS - IN_REDIS),
        forgotten=whole_store.forgotten,
        has_routes=has_routes,
        proposals=tuple(sorted(_proposals(routes, lifetimes), key=_wildcards)),
        settings=tuple(_settings(whole, sizes, settings)),
    )


def _route(name: str, figures: Figures) -> RouteOutcome:
    cells = [_cell(figures, number) for number in range(len(figures.hits[-1]))]
    limited = tuple(
        tuple(_share(hits, figures.requests) for hits in row) for row in figures.hits[:-1]
    )
    return RouteOutcome(
        route=name,
        requests=figures.requests,
        now=cells[0],
        lifetimes=tuple(cells[1:]),
        in_redis=limited[: len(limited) // 2],
        in_process=limited[len(limited) // 2 :],
        purged=figures.purgeable > 0,
        at_most=figures.at_most,
        not_stored=dict(figures.reasons.most_common()),
    )


def _cell(figures: Figures, lifetime: int) -> Cell:
    return Cell(
        hit_rate=_share(figures.hits[-1][lifetime], figures.requests),
        saved_bytes=figures.saved_bytes[-1][lifetime],
        saved_seconds=figures.saved_seconds[-1][lifetime] if figures.timed else None,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _proposals(routes: Sequence[RouteOutcome], lifetimes: Sequence[float]) -> Iterator[Proposal]:
    """Yield a rule for each route to which another lifetime gives more hits."""
    for one in routes:
        best = max((cell.hit_rate for cell in one.lifetimes), default=0.0)
        if best < _WORTH or best <= one.now.hit_rate + _NEAR or one.route.startswith("("):
            continue
        seconds = next(
            seconds
            for seconds, cell in zip(lifetimes, one.lifetimes, strict=True)
            if cell.hit_rate >= _ENOUGH * best
        )
        rate = one.lifetimes[lifetimes.index(seconds)].hit_rate
        reason = f"{rate:.0%} hits in place of {one.now.hit_rate:.0%}"
        if not one.purged:
            reason += "; no write in the log purges it, so that it may be as old as that"
        yield Proposal(rule=f'Rule("{_pattern(one.route)}", ttl={seconds:g})', reason=reason)


def _wildcards(one: Proposal) -> int:
    """Return how many wildcards a rule has: the first one that matches gives the lifetime."""
    return one.rule.count("{") + 2 * one.rule.count("*")


def _pattern(route: str) -> str:
    """Return the pattern of a rule for a route; a host is no part of it."""
    return pattern_of(route[route.index("/") :] if "/" in route else route)


def _settings(whole: RouteOutcome, sizes: Sequence[int], settings: CacheSettings) -> Iterator[str]:
    """Yield the smallest size that costs next to no hits, where the embedded store is smaller."""
    rates = zip(sizes, whole.in_process, strict=True)
    good = [size for size, row in rates if row[0] >= whole.now.hit_rate - _NEAR]
    if settings.redis_url is None and good and min(good) > settings.cache_memory_bytes:
        yield f"CACHE_MEMORY_BYTES={min(good)}"
