"""The catalogue of metrics: names, labels and where each value comes from.

Prometheus and OpenTelemetry export the same metrics. Labels are bounded: route templates, never
paths, and the words of `maxage.observe.words`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from maxage.cache.cache import living_caches
from maxage.observe.counters import RouteCounts, Tally
from maxage.observe.words import Kept
from maxage.redis_store.near.near_cache import NearCache
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.shared_state import redis_states
from maxage.store.base import Store
from maxage.store.memory import MemoryStore

Labels = tuple[str, ...]
Sample = tuple[Labels, float]
"""The values of the labels, and the metric's value."""
Read = Callable[[Tally], Iterable[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric. A counter only grows, a gauge is as of now."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: Labels = ()
    read: Read
    together: Literal["livesum", "livemin", "livemax"] = "livesum"
    """How the gauges of several workers become one."""


def _by_route(count: Callable[[RouteCounts], int]) -> Read:
    def read(tally: Tally) -> Iterator[Sample]:
        for template, counts in tally.routes.items():
            if number := count(counts):
                yield (template,), number

    return read


def _by_route_and_word(count: Callable[[RouteCounts], Mapping[str, int]]) -> Read:
    def read(tally: Tally) -> Iterator[Sample]:
        for template, counts in tally.routes.items():
            for word, number in count(counts).items():
                yield (template, str(word)), number

    return read


def _by_word(count: Callable[[Tally], Mapping[str, int]]) -> Read:
    return lambda tally: [((str(word),), number) for word, number in count(tally).items()]


def _plain(count: Callable[[Tally], float]) -> Read:
    return lambda tally: [((), count(tally))]


def _breakers(_: Tally) -> Iterable[Sample]:
    found: Counter[str] = Counter()
    for state in redis_states():
        for node in state.nodes:
            found[node.address] |= node.breaker.open
    return [((address,), is_open) for address, is_open in found.items()]


def _kept(measure: Callable[[MemoryStore | NearCache], int]) -> Read:
    def read(_: Tally) -> Iterable[Sample]:
        stores = {id(store): store for store in (cache.store for cache in living_caches())}
        found: Counter[str] = Counter()
        for store in stores.values():
            near = store.near
            if isinstance(near, NearCache):
                found[Kept.NEAR] += measure(near)
            elif isinstance(store, MemoryStore):
                found[Kept.EMBEDDED] += measure(store)
        return [((str(where),), number) for where, number in found.items()]

    return read


def _bytes_of(kept: MemoryStore | NearCache) -> int:
    return kept.used_bytes if isinstance(kept, MemoryStore) else kept.copies.used_bytes


def _is_trusted(_: Tally) -> bool:
    return all(_trusts(cache.store) for cache in living_caches())


def _trusts(store: Store) -> bool:
    if isinstance(store, RedisStore):
        return store.redis_state.works
    return not (isinstance(store, MemoryStore) and store.is_off)


FIGURES: Final = (
    Figure(
        name="maxage_requests", kind="counter", labels=("route", "outcome"),
        text="Requests by outcome; hits of the fast lane included.",
        read=_by_route_and_word(RouteCounts.outcomes),
    ),
    Figure(
        name="maxage_bypasses", kind="counter", labels=("route", "reason"),
        text="Requests that were passed on without a lookup, by reason.",
        read=_by_route_and_word(lambda counts: counts.bypasses),
    ),
    Figure(
        name="maxage_stored_responses", kind="counter", labels=("route",),
        text="Responses that were stored.",
        read=_by_route(lambda counts: counts.stored),
    ),
    Figure(
        name="maxage_stored_bytes", kind="counter", labels=("route",),
        text="Bytes of the bodies of stored responses.",
        read=_by_route(lambda counts: counts.stored_bytes),
    ),
    Figure(
        name="maxage_not_stored_responses", kind="counter", labels=("route", "reason"),
        text="Responses of the application that were not stored, by reason.",
        read=_by_route_and_word(lambda counts: counts.not_stored),
    ),
    Figure(
        name="maxage_stale_responses", kind="counter", labels=("route",),
        text="Stale answers: of hits, and in place of errors and slow answers.",
        read=_by_route(lambda counts: counts.stale),
    ),
    Figure(
        name="maxage_refreshes", kind="counter", labels=("route",),
        text="Background calls of the application for responses that are stale or soon will be.",
        read=_by_route(lambda counts: counts.refreshes),
    ),
    Figure(
        name="maxage_compared_answers", kind="counter", labels=("route",),
        text="Answers of handlers that a shadow compared with what the cache would have said.",
        read=_by_route(lambda counts: counts.compared),
    ),
    Figure(
        name="maxage_different_answers", kind="counter", labels=("route",),
        text="Those of them that differed.",
        read=_by_route(lambda counts: counts.different),
    ),
    Figure(
        name="maxage_purges", kind="counter", labels=("cause",),
        text="Purges by cause.",
        read=_by_word(lambda tally: tally.purges),
    ),
    Figure(
        name="maxage_unconfirmed_purges", kind="counter",
        text="Purges that Redis did not confirm; they are owed.",
        read=_plain(lambda tally: tally.unconfirmed_purges),
    ),
    Figure(
        name="maxage_unreadable_values", kind="counter",
        text="Values in Redis that did not verify: damaged, foreign, or of another secret.",
        read=_plain(lambda tally: tally.unreadable),
    ),
    Figure(
        name="maxage_typed_reads", kind="counter", labels=("outcome",),
        text="Reads of objects of the typed cache.",
        read=_by_word(lambda tally: tally.typed_reads),
    ),
    Figure(
        name="maxage_evictions", kind="counter", labels=("kept",),
        text="Values that made room for others in this process.",
        read=_by_word(lambda tally: tally.evictions),
    ),
    Figure(
        name="maxage_budget_overruns", kind="counter",
        text="Questions to Redis without an answer within the budget.",
        read=_plain(lambda tally: tally.budget_overruns),
    ),
    Figure(
        name="maxage_kept_values", kind="gauge", labels=("kept",),
        text="Values that are kept in processes now.",
        read=_kept(len),
    ),
    Figure(
        name="maxage_kept_bytes", kind="gauge", labels=("kept",),
        text="Bytes that these values take.",
        read=_kept(_bytes_of),
    ),
    Figure(
        name="maxage_owed_purges", kind="gauge",
        text="Purges that are owed now; no response from Redis is served until they are made.",
        read=_plain(lambda _: sum(len(state.owed_purges) for state in redis_states())),
    ),
    Figure(
        name="maxage_breaker_open", kind="gauge", labels=("server",), together="livemax",
        text="1 while requests do not use the Redis server: it failed three times in a row.",
        read=_breakers,
    ),
    Figure(
        name="maxage_store_trusted", kind="gauge", together="livemin",
        text="1 while hits from the store may be served, 0 while all requests pass uncached.",
        read=_plain(_is_trusted),
    ),
)  # fmt: skip

LATENCY: Final = "maxage_added_latency_seconds"
LATENCY_TEXT: Final = (
    "Seconds that the cache adds, of one request in about 512: on a hit until its first message, "
    "on a forward without the application's own time. The fast lane is not timed."
)
LATENCY_BUCKETS: Final = (
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 1.0,
)  # fmt: skip
"""Upper bounds in seconds: a near hit takes tens of microseconds, a budget is 50 ms."""
