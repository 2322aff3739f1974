"""Watch: one worker counts its requests by URL, and times the calls of its application.

Nothing of it exists where `CACHE_INSIGHT` is off. Where it is on, each URL counts its hits by an
object in the place of its route's counts.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, cast, final

from msgspec import Struct

from maxage.asgi.identity import Identification
from maxage.asgi.types import ASGIApp, Receive, Scope, Send
from maxage.background import Background
from maxage.cache.cache import Cache
from maxage.cache.targets import Targets
from maxage.insight.call import TimedCall
from maxage.insight.label import hidden_names, label_of
from maxage.insight.publisher import Publisher
from maxage.insight.record import (
    INTERVAL_SECONDS,
    MOST_INTERVALS,
    Interval,
    RouteRecord,
    TopUrl,
    WorkerRecord,
)
from maxage.insight.requests import (
    PendingRequests,
    RecordedRequest,
    recorded_target,
    said_by,
)
from maxage.insight.space_saving import SpaceSaving
from maxage.observe import latency
from maxage.observe.counters import UNKNOWN_ROUTE, RouteCounts, Tally, add_sums, total
from maxage.observe.failures import tell_of_failure
from maxage.observe.words import MISSES, Outcome
from maxage.redis_store.leases.process_identity import process_name
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_url import server_url
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.settings import CacheSettings
from maxage.store.base import Store

SKETCHED: Final = 256
"""URLs that a worker keeps counts of."""
PUBLISHED: Final = 40
"""URLs of each kind that a worker publishes."""


@final
class _UrlCounts:
    """The counts of a route, for one of its URLs: each hit is counted for the URL too."""

    __slots__ = ("_route", "_url", "_watch")

    _route: RouteCounts
    _url: "_Url"
    _watch: "Watch"

    def __init__(self, route: RouteCounts, url: "_Url", watch: "Watch") -> None:
        for name, value in (("_route", route), ("_url", url), ("_watch", watch)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"hits", "collapsed"}:
            try:
                self._watch.answered(self._url, hit=name == "hits")
            except Exception as error:  # noqa: BLE001 - the request is answered all the same
                tell_of_failure(error)
        setattr(self._route, name, value)


class _Url(Struct, frozen=True, gc=False):
    """A URL that the cache answers."""

    label: str
    method: str
    host: str
    target: str


@final
class Watch:
    """Counts and times the requests of one worker; all middlewares of one store share it."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings: Final = settings
        self._secrets: Final = hidden_names(settings)
        self._asked: Final = SpaceSaving(SKETCHED)
        self._costly: Final = SpaceSaving(SKETCHED)
        self._calls: Final[dict[str, list[float]]] = {}
        """Number and seconds of the application's calls, by route."""
        self._timed = [0, 0.0]
        self._intervals: Final[deque[Interval]] = deque(maxlen=MOST_INTERVALS)
        self._last = Interval(begins=0)
        self._started: Final = time.time()
        self.store: Store | None = None
        """The one whose state is published."""
        self._identification: Final = Identification(settings)
        self.requests: Final = PendingRequests()
        self._publishes: Final = server_url(settings.redis_url) is not None
        self._publisher: Final = Publisher(settings, self.requests, self.record)

    def count_url(self, counts: RouteCounts, scope: Mapping[str, Any]) -> RouteCounts:
        """Return the counts of a URL, given those of its route."""
        try:
            url = self._url(scope)
        except Exception as error:  # noqa: BLE001 - its requests are answered all the same
            tell_of_failure(error)
            return counts
        return cast("RouteCounts", _UrlCounts(counts, url, self))

    def _url(self, scope: Mapping[str, Any]) -> "_Url":
        return _Url(
            label=label_of(scope, self._secrets),
            method="QUERY" if scope["method"] == "QUERY" else "GET",
            host=_host(Headers(tuple(map(tuple, scope["headers"])))),
            target=recorded_target(scope, self._secrets),
        )

    def answered(self, url: _Url, *, hit: bool) -> None:
        """Count a request that the cache answered, by a stored response or another request's."""
        self._publisher.start()
        self._asked.offer(url.label, 1).hits += hit
        if self._publishes:
            self.requests.note(RecordedRequest(time.time(), url.method, url.host, url.target))

    def added_latency(self, kind: str, seconds: float) -> None:
        """Count the seconds that the cache added to a request."""
        del kind
        self._timed[0] += 1
        self._timed[1] += seconds

    def around(self, app: ASGIApp, targets: Targets, background: Background) -> ASGIApp:
        """Return a middleware's application, with its calls counted and timed.

        For calls that its background runs, no client waits.
        """

        async def timed(scope: Scope, receive: Receive, send: Send) -> None:
            self._publisher.start()
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            # Layers of the application change the scope.
            call = TimedCall(dict(scope), send)
            try:
                await app(scope, receive, call.send)
            finally:
                call.end()
                is_request = asyncio.current_task() not in background.tasks
                try:
                    self._called(targets, call, is_request=is_request)
                except Exception as error:  # noqa: BLE001 - the answer was sent
                    tell_of_failure(error)

        return timed

    def _called(self, targets: Targets, call: TimedCall, *, is_request: bool) -> None:
        headers = Headers(tuple(map(tuple, call.scope.get("headers", ()))))
        label, seconds = label_of(call.scope, self._secrets), call.seconds
        for entry in (self._asked.offer(label, 1), self._costly.offer(label, seconds)):
            entry.calls += 1
            entry.seconds += seconds
        match = targets.match(call.scope, headers)
        route = UNKNOWN_ROUTE if match is None else match.route.template
        sums = self._calls.setdefault(route, [0, 0.0])
        sums[0] += 1
        sums[1] += seconds
        if self._publishes and is_request:
            self._record(call, headers)

    def _record(self, call: TimedCall, headers: Headers) -> None:
        """Note a request that the application answered."""
        method = call.scope["method"]
        self.requests.note(
            RecordedRequest(
                # A write purges the responses of earlier reads.
                time=time.time() if is_unsafe(method) else call.at,
                method=method,
                host=_host(headers),
                target=recorded_target(call.scope, self._secrets),
                status=call.status,
                size=call.size,
                seconds=round(call.seconds, 6),
                has_user=self._identification.carries(call.scope, headers),
                said=said_by(Headers.copied(call.lines)),
            )
        )

    def record(self, now: float) -> WorkerRecord:
        """Return the state of this worker.

        Args:
            now: POSIX seconds, by the clock that all workers share.
        """
        tally = total()
        self._end_interval(tally, now)
        record = WorkerRecord(
            worker=process_name(),
            machine=socket.gethostname(),
            pid=self._publisher.pid,
            started=self._started,
            at=now,
            routes=self._routes(tally),
            asked=[_top(*one) for one in self._asked.heaviest(PUBLISHED)],
            costly=[_top(*one) for one in self._costly.heaviest(PUBLISHED)],
            intervals=list(self._intervals),
            purges=dict(tally.purges),
            unconfirmed_purges=tally.unconfirmed_purges,
            unreadable=tally.unreadable,
            timed=int(self._timed[0]),
            added=self._timed[1],
        )
        if isinstance(self.store, RedisStore):
            state = self.store.redis_state
            record.owed_purges = len(state.owed_purges)
            record.breakers_open = sum(node.breaker.open for node in state.nodes)
        return record

    def _routes(self, tally: Tally) -> dict[str, RouteRecord]:
        names = dict.fromkeys((*tally.routes, *self._calls.copy()))
        return {name: self._route(name, tally.routes.get(name, RouteCounts())) for name in names}

    def _route(self, name: str, counts: RouteCounts) -> RouteRecord:
        calls, seconds = self._calls.get(name, (0, 0.0))
        return RouteRecord(
            outcomes=counts.outcomes(),
            bypasses=dict(counts.bypasses),
            not_stored=dict(counts.not_stored),
            stale=counts.stale,
            stored=counts.stored,
            stored_bytes=counts.stored_bytes,
            calls=int(calls),
            seconds=seconds,
        )

    def _end_interval(self, tally: Tally, now: float) -> None:
        """Put the counts since the last record into the current interval."""
        sums, last = self._sums(tally), self._last
        begins = int(now // INTERVAL_SECONDS) * INTERVAL_SECONDS
        part = Interval(begins=begins)
        for name in Interval.__struct_fields__[1:]:
            setattr(part, name, getattr(sums, name) - getattr(last, name))
        self._last = sums
        if self._intervals and self._intervals[-1].begins == begins:
            self._intervals[-1].add(part)
        else:
            self._intervals.append(part)

    def _sums(self, tally: Tally) -> Interval:
        added = RouteCounts()
        for counts in tally.routes.values():
            add_sums(added, counts)
        calls = list(self._calls.copy().values())
        return Interval(
            begins=0,
            hits=added.hits,
            collapsed=added.collapsed,
            misses=sum(added.forwards[word] for word in MISSES),
            bypasses=added.bypasses.total(),
            writes=added.forwards[Outcome.METHOD],
            calls=int(sum(count for count, _ in calls)),
            seconds=sum(seconds for _, seconds in calls),
            timed=int(self._timed[0]),
            added=self._timed[1],
        )


def _top(url: str, entry: Any) -> TopUrl:
    return TopUrl(
        url=url,
        weight=round(entry.weight, 6),
        error=round(entry.error, 6),
        hits=entry.hits,
        calls=entry.calls,
        seconds=round(entry.seconds, 6),
    )


def _host(headers: Headers) -> str:
    return (headers.first(b"host") or b"").decode("latin-1")


_watches: Final[dict[tuple[str | None, str], Watch]] = {}


def watch_for(settings: CacheSettings) -> Watch:
    """Return the watch of this process for the store and namespace that the settings name."""
    key = (settings.redis_url, settings.cache_namespace)
    watch = _watches.get(key)
    if watch is None:
        watch = _watches[key] = Watch(settings)
        latency.listen(watch.added_latency)
    return watch


def watch_in_process(settings: CacheSettings) -> Watch | None:
    """Return the watch of this process, if it has one."""
    return _watches.get((settings.redis_url, settings.cache_namespace))


def watched(app: ASGIApp, cache: Cache, targets: Targets) -> ASGIApp:
    """Let this process count the requests of a middleware; return its application, timed."""
    watch = watch_for(cache.settings)
    watch.store = cache.store
    targets.count_url = watch.count_url
    return watch.around(app, targets, cache.background)
