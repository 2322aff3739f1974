"""Shadow: the handlers answer, and the cache compares the response that it would serve.

With `CACHE_SHADOW` every GET is compared, with `CACHE_VERIFY` a share of them.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, final
from weakref import WeakValueDictionary

from maxage.asgi.types import ASGIApp, Message, Receive, Scope, Send
from maxage.cache.bounded_memo import BoundedMemo
from maxage.cache.cache import Cache
from maxage.cache.targets import Targets
from maxage.errors import StoreUnavailableError
from maxage.insight.label import hidden_names, label_of
from maxage.observe.counters import UNKNOWN_ROUTE
from maxage.observe.failures import tell_of_failure
from maxage.reads import trial
from maxage.reads.fast_path import FastPath
from maxage.reads.trial import Answered, Observation
from maxage.rfc9111.content_coding import plain_body, varied
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.shadow.compare import differences
from maxage.shadow.inputs import Called, differing, inputs_of, url_of
from maxage.shadow.publisher import publish
from maxage.shadow.report import Circumstances, ShadowReport, together
from maxage.shadow.volatile import Volatile
from maxage.shadow.writes import Writes
from maxage.store.entry import Entry

logger = logging.getLogger("maxage")

_MOST_LOGGED: Final = 100
"""Differences that a process logs."""
_PUBLISH_SECONDS: Final = 1.0
_OF_A_CONDITION: Final = frozenset({206, 304, 412, 416})
"""Statuses that answer the conditions of one request."""


@final
class Shadow:
    """Compares the answers of one middleware with the responses that its cache would serve."""

    def __init__(self, cache: Cache, targets: Targets) -> None:
        self.report: Final = ShadowReport()
        self.cache: Final = cache
        self.writes: Final = Writes(cache)
        self._targets: Final = targets
        self._called: Final[BoundedMemo[Called]] = BoundedMemo()
        """The last call of the application for each URL, which filled the cache."""
        self._volatile: Final = Volatile()
        self._logged: Final[set[tuple[str, str]]] = set()
        self._publishes = False
        settings = cache.settings
        self.secrets: Final = hidden_names(settings)
        self._share: Final = 1.0 if settings.cache_shadow else settings.cache_verify

    # the requests

    def begin(self, scope: Scope) -> "_Shadowed | None":
        """Return the observation of a request; None: it is no sample."""
        if self._share < 1.0 and self.cache.draw() >= self._share:
            return None
        return _Shadowed(self, scope)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application, with its writes noted."""

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status = 500

            async def sending(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message.get("status", 0)
                await send(message)

            ended = self._begun(scope)
            try:
                await app(scope, receive, send if ended is None else sending)
            finally:
                if ended is not None:
                    ended(status)

        return noting

    def _begun(self, scope: Scope) -> Callable[[int], None] | None:
        """Note a call of the application; return what takes the status of a write at its end."""
        try:
            if not is_unsafe(scope["method"]):
                self._note_call(scope)
                return None
            headers = Headers(tuple(map(tuple, scope["headers"])))
            match = self._targets.match(scope, headers)
        except Exception as error:  # noqa: BLE001 - the application answers all the same
            tell_of_failure(error)
            return None
        route = None if match is None else match.route.template
        return partial(self._ended, self.writes.begin(), scope["method"], route)

    def _ended(self, mark: object, method: str, route: str | None, status: int) -> None:
        try:
            self.writes.end(mark, method, route, status)
        except Exception as error:  # noqa: BLE001 - the write was answered
            tell_of_failure(error)

    # the comparison

    def _note_call(self, scope: Scope) -> None:
        url, called = url_of(scope), Called(self.cache.clock(), inputs_of(scope))
        if url in self._called:
            self._called[url] = called
        else:
            self._called.remember(url, called)

    def last_call(self, scope: Scope) -> Called | None:
        """Return the last call of the application for this URL; None: it is unknown."""
        return self._called.get(url_of(scope))

    async def compare(self, answered: Answered, scope: Scope, before: Called | None) -> None:
        """Compare the handler's answer with the stored response that would have answered.

        `before` is the last call for this URL, which may have filled the cache.
        """
        entry, decision = answered.reading.found.entry, answered.decision
        if entry is None or not isinstance(decision, Serve) or decision.stale:
            self.report.misses += 1
        elif (found := self._differences(answered, entry)) is not None:
            others: list[str] | None = None
            if before is not None and before.filled(entry.stored.request_time):
                keyed = answered.reading.target.rules.keyed_fields
                others = differing(before.inputs, inputs_of(scope), keyed)
            await self._judge(answered, entry, found, others)
        if self.cache.store.shared and not self._publishes:
            self._publishes = True
            self.cache.background.call_later(_PUBLISH_SECONDS, self._publish)

    def _publish(self) -> None:
        self._publishes = False
        self.cache.background.spawn(publish(self.cache, self.report))

    def _differences(self, answered: Answered, entry: Entry) -> tuple[str, ...] | None:
        """Return the differences of the answers; None: they cannot be compared."""
        stored, fresh = entry.stored, answered.capture.entry
        if answered.reading.request.method == "HEAD" or answered.reading.found.softened:
            return None
        status, headers, body = answered.status, answered.headers, answered.body
        if fresh is not None:
            kept = fresh.stored
            status, headers, body = kept.status, kept.headers, plain_body(kept)
        elif status in _OF_A_CONDITION:
            return None
        if status in (0, 429) or status >= 500:
            # A failure of the moment, which a stored response would hide.
            self.report.overtaken += 1
            return None
        return differences(
            (stored.status, self._as_sent(stored.headers), plain_body(stored)),
            (status, self._as_sent(headers), body),
            answered.reading.target.rules.exchange_fields,
        )

    def _as_sent(self, headers: Headers) -> Headers:
        """Return headers with the Vary that a handler's answer has where it may be compressed."""
        return Headers(varied(headers.raw)) if self.cache.settings.cache_compress else headers

    async def _judge(
        self, answered: Answered, entry: Entry, found: tuple[str, ...], others: list[str] | None
    ) -> None:
        """Count a comparison, with the suspects of a difference."""
        target, scope = answered.reading.target, answered.reading.scope
        route = UNKNOWN_ROUTE if target.route is None else target.route.template
        found = self._volatile.without(route, found, entry.stored.headers, answered.headers)
        for what in [one.what for one in self.report.differences if one.route == route]:
            if self._volatile.is_volatile(route, what):
                self.report.withdraw(route, what)
        if found and not await self._still_valid(entry):
            self.report.overtaken += 1
            return
        writes = await self.writes.since(entry.stored.request_time)
        seen = Circumstances(
            write=writes[0].route if writes else None,
            inputs=others,
            example=label_of(scope, self.secrets),
        )
        target.counts.compared += 1
        target.counts.different += bool(found)
        for difference in self.report.count(route, found, seen):
            key = route, difference.what
            is_known = key in self._logged or len(self._logged) >= _MOST_LOGGED
            if not is_known and self._volatile.is_settled(route, difference.what):
                self._logged.add(key)
                logger.warning("Shadow: %s", str(difference))

    async def _still_valid(self, entry: Entry) -> bool:
        """Return whether the entry is still valid, now that writes under way have purged."""
        await self.writes.pass_by()
        groups = [group for group, _ in entry.tokens]
        try:
            reply = await self.cache.store.read((), groups)
        except StoreUnavailableError:
            return False
        return entry.is_current(dict(zip(groups, reply.tokens, strict=True)), ())


@final
class _Shadowed(Observation):
    """One request whose answer is compared."""

    def __init__(self, shadow: Shadow, scope: Scope) -> None:
        self._shadow: Final = shadow
        self._before: Final = shadow.last_call(scope)
        self.scope: Scope = scope

    async def answered(self, answered: Answered) -> None:
        """Compare."""
        await self._shadow.compare(answered, self.scope, self._before)


@final
class _Shadows:
    """The shadows of all middlewares of this process; each lives as long as its middleware."""

    def __init__(self) -> None:
        self.by_cache: Final[WeakValueDictionary[int, Shadow]] = WeakValueDictionary()
        self._observes = False

    def begin(self, fast_path: FastPath, scope: Scope) -> _Shadowed | None:
        """Return the observation of a request; None: its middleware has no shadow."""
        shadow = self.by_cache.get(id(fast_path.cache))
        return None if shadow is None else shadow.begin(scope)

    def add(self, shadow: Shadow) -> None:
        """Let a shadow see the requests of its middleware."""
        self.by_cache[id(shadow.cache)] = shadow
        if not self._observes:
            self._observes = True
            trial.observe(self)


_shadows: Final = _Shadows()


def shadowed(app: ASGIApp, cache: Cache, targets: Targets) -> ASGIApp:
    """Compare the requests of a middleware; return its application, whose writes are noted."""
    shadow = Shadow(cache, targets)
    _shadows.add(shadow)
    return shadow.around(app)


def report() -> ShadowReport:
    """Return the comparisons of this process, those of all its middlewares together."""
    return together(shadow.report for shadow in tuple(_shadows.by_cache.values()))
