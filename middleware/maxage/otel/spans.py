"""Spans: one for a lookup, one for a purge, with the words of `maxage.observe.words`."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, final

from opentelemetry.trace import (
    ProxyTracerProvider,
    Span,
    TracerProvider,
    get_tracer,
    get_tracer_provider,
)

from maxage.cache.cache import Cache
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.invalidation.purger import KnownTokens, Purger
from maxage.observe.counters import UNKNOWN_ROUTE
from maxage.observe.words import Bypass, Outcome, PurgeCause
from maxage.rfc9111.age import current_age
from maxage.rfc9111.message import Headers
from maxage.settings import CacheSettings
from maxage.store.lookup_result import LookupResult
from maxage.store.wanted_claim import WantedClaim

SCOPE: Final = "maxage"
LOOK_SECONDS = 1.0
"""Between two looks whether there is an SDK."""

Lookup = Callable[[Cache, Target, bytes, Headers, WantedClaim | None], Awaitable[LookupResult]]
Purge = Callable[..., "asyncio.Future[bool]"]
PurgeByHand = Callable[[Sequence[str], bool, CacheSettings | None], Awaitable[bool]]
PurgeByHandNow = Callable[[Sequence[str], bool, CacheSettings | None], bool]
TypedChange = Callable[..., Coroutine[Any, Any, bool]]


@final
class Spans:
    """Makes spans where there is an SDK that takes them.

    Args:
        provider: of the tracer; None: the global one.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer: Final = get_tracer(SCOPE, tracer_provider=provider)
        self._active = provider is not None
        self._look_at = float("-inf")

    def active(self) -> bool:
        """Return whether there is an SDK: without one, nothing is made that it would drop."""
        if not self._active and (now := monotonic()) >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        return self._active

    def _look(self) -> bool:
        self._active = self._active or not isinstance(get_tracer_provider(), ProxyTracerProvider)
        return self._active

    # lookups

    def around_lookup(self, lookup: Lookup, pause: Callable[[], None]) -> Lookup:
        """Return the lookup with a span around it.

        Args:
            lookup: the core's own.
            pause: called where there is no SDK; puts the core's own back for `LOOK_SECONDS`, since
                even an idle function around each lookup can be measured.
        """

        def traced(
            cache: Cache,
            target: Target,
            key: bytes,
            headers: Headers,
            wanted: WantedClaim | None = None,
        ) -> Awaitable[LookupResult]:
            looking = lookup(cache, target, key, headers, wanted)
            if self._look():
                return self._looked_up(cache, target, looking)
            pause()
            return looking

        return traced

    async def _looked_up(
        self, cache: Cache, target: Target, looking: Awaitable[LookupResult]
    ) -> LookupResult:
        route = target.route.template if target.route is not None else UNKNOWN_ROUTE
        with self._tracer.start_as_current_span(
            "maxage.lookup", attributes={"maxage.route": route}, record_exception=False
        ) as span:
            try:
                found = await looking
            except StoreUnavailableError:
                span.set_attribute("maxage.outcome", Outcome.BYPASS.value)
                span.set_attribute("maxage.reason", Bypass.STORE_AWAY.value)
                raise
            span.set_attribute("maxage.outcome", _outcome_of(cache, found).value)
            return found

    # purges

    def around_purge(self, purge: Purge) -> Purge:
        """Return the purge of a request with a span that ends when the store has confirmed it."""

        def traced(
            purger: Purger, groups: Collection[str], known: KnownTokens | None = None
        ) -> "asyncio.Future[bool]":
            if not groups or not self.active():
                return purge(purger, groups, known)
            attributes = _attributes(PurgeCause.WRITE, len(groups))
            span = self._tracer.start_span("maxage.purge", attributes=attributes)
            future = purge(purger, groups, known)
            future.add_done_callback(partial(_end, span))
            return future

        return traced

    def around_purge_by_hand(self, purge: PurgeByHand) -> PurgeByHand:
        """Return the awaitable purge by hand with a span around it."""

        async def traced(groups: Sequence[str], soft: bool, settings: CacheSettings | None) -> bool:
            if not self.active():
                return await purge(groups, soft, settings)
            with self._purging(_cause_of(soft), len(groups)) as span:
                return _told(span, await purge(groups, soft, settings))

        return traced

    def around_purge_by_hand_now(self, purge: PurgeByHandNow) -> PurgeByHandNow:
        """Return the blocking purge by hand with a span around it."""

        def traced(groups: Sequence[str], soft: bool, settings: CacheSettings | None) -> bool:
            if not self.active():
                return purge(groups, soft, settings)
            with self._purging(_cause_of(soft), len(groups)) as span:
                return _told(span, purge(groups, soft, settings))

        return traced

    def around_typed(self, change: TypedChange) -> TypedChange:
        """Return a change of typed values with a span around it."""

        async def traced(operations: Any, values: Collection[Any], *more: float) -> bool:
            if not self.active():
                return await change(operations, values, *more)
            with self._purging(PurgeCause.TYPED, len(values)) as span:
                return _told(span, await change(operations, values, *more))

        return traced

    def _purging(self, cause: PurgeCause, groups: int) -> Any:
        return self._tracer.start_as_current_span(
            "maxage.purge", attributes=_attributes(cause, groups)
        )


def after_a_while(resume: Callable[[], None]) -> None:
    """Call a function in `LOOK_SECONDS`, or when the running event loop is closed before."""

    def timer() -> None:
        """Do nothing: the loop forgets this function when its time has come, or with itself."""

    weakref.finalize(timer, resume).atexit = False
    asyncio.get_running_loop().call_later(LOOK_SECONDS, timer)


def _outcome_of(cache: Cache, found: LookupResult) -> Outcome:
    if found.entry is None:
        return Outcome.VARY_MISS if found.vary_miss else Outcome.URI_MISS
    stored = found.entry.stored
    fresh = current_age(stored, now=cache.clock()) < stored.freshness_lifetime
    return Outcome.HIT if fresh and not stored.always_validate else Outcome.STALE


def _attributes(cause: PurgeCause, groups: int) -> Mapping[str, str | int]:
    return {"maxage.cause": cause.value, "maxage.groups": groups}


def _cause_of(soft: bool) -> PurgeCause:
    return PurgeCause.SOFT if soft else PurgeCause.HAND


def _told(span: Span, confirmed: bool) -> bool:
    span.set_attribute("maxage.confirmed", confirmed)
    return confirmed


def _end(span: Span, purged: "asyncio.Future[bool]") -> None:
    """End the span of a purge that is over."""
    done = not purged.cancelled() and purged.exception() is None
    _told(span, done and purged.result())
    span.end()
