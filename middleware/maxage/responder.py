"""What the responders of one request each have in common, and what they ask of the middleware."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, final

from maxage.cache.cache import Cache
from maxage.cache.lookup_result import LookupResult
from maxage.cache.target import Target
from maxage.cache.targets import Scope, Targets
from maxage.cache_status import CacheStatus, hit_value
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.rfc9111.dates import format_http_date
from maxage.rfc9111.decisions import ForwardReason, Serve
from maxage.rfc9111.directives import OWN_TARGET
from maxage.rfc9111.message import Headers, Request
from maxage.settings import CacheSettings

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

METHOD_OVERRIDES: Final = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override"}
)
OVERRIDES: Final = METHOD_OVERRIDES | {
    b"x-original-url", b"x-rewrite-url", b"x-original-uri", b"x-forwarded-uri",
}  # fmt: skip
"""Headers by which a request means another method or path than it says."""

_URI_MISS: Final = CacheStatus(fwd="uri-miss").header_value()
pair: Final[Any] = tuple
"""Makes a header line a pair that can be kept; one that is a tuple is taken as it is."""


@final
class Service:
    """What the middleware knows for as long as it lives, for the responders of its requests."""

    def __init__(self, app: ASGIApp, settings: CacheSettings, targets: Targets) -> None:
        self.app: Final = app
        self.settings: Final = settings
        self.targets: Final = targets
        self.downstream: Final = _downstream(settings)
        """What is added to responses whose lifetime was only ours."""
        self.server_adds_date: bool | None = None
        """Whether the server adds a Date of its own; None: not known yet."""
        self._credential_headers: Final = frozenset(
            ()
            if settings.authorization_only
            else (name.lower().encode() for name in settings.credential_headers)
        )
        self._personal_headers: Final = self._credential_headers | {b"authorization", b"cookie"}
        self._ignored_cookies: Final = frozenset(settings.ignored_cookies)

    @property
    def sends_date(self) -> bool:
        """Whether responses get their Date from us: the server adds none."""
        if self.settings.send_date is not None:
            return self.settings.send_date
        return not self.server_adds_date

    def credentials(self, target: Target, headers: Headers) -> bool:
        """Return whether the request carries what may make its answer a personal one."""
        if headers.has_any(self._personal_headers) and (
            b"authorization" in headers
            or headers.has_any(self._credential_headers)
            or self._personal_cookie(headers)
        ):
            return True
        route = target.route
        # A hit would skip the check of such a route, so that every request counts.
        return route is not None and route.has_security and not self.settings.authorization_only

    def stored_headers(self, decision: Serve) -> list[tuple[bytes, bytes]]:
        """Return the headers of a stored response, all but our member of Cache-Status."""
        headers = list(decision.headers)
        if not self.sends_date:
            # The server adds its own, and there is to be one.
            headers = [line for line in headers if line[0].lower() != b"date"]
        if self.downstream and decision.lifetime_is_ours and decision.status != 416:
            headers += self.downstream
        return headers

    def outgoing(
        self, headers: Iterable[tuple[bytes, bytes]], *, now: float
    ) -> list[tuple[bytes, bytes]]:
        """Return the application's headers without what is addressed to us alone, and with Date.

        A Date is added where neither the application nor the server does (RFC 9110 section 6.6.1).
        """
        headers = [line for line in headers if line[0].lower() != OWN_TARGET]
        if self.sends_date and not any(name.lower() == b"date" for name, _ in headers):
            headers.append((b"date", format_http_date(now)))
        return headers

    def hit_headers(self, decision: Serve, key: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a hit."""
        headers = self.stored_headers(decision)
        if self.settings.cache_status_header:
            value = hit_value(decision.ttl)
            if self.settings.cache_status_key:
                status = CacheStatus(hit=True, ttl=decision.ttl, key=key.decode())
                value = status.header_value()
            headers.append((b"cache-status", value))
        return headers

    def _personal_cookie(self, headers: Headers) -> bool:
        if b"cookie" not in headers or self.settings.authorization_only:
            return False
        names = (
            part.partition(b"=")[0].strip().decode("latin-1")
            for line in headers.get_all(b"cookie")
            for part in line.split(b";")
        )
        return any(name and name not in self._ignored_cookies for name in names)


def _downstream(settings: CacheSettings) -> tuple[tuple[bytes, bytes], ...]:
    value = settings.downstream_cache_control.strip()
    return ((b"cache-control", value.encode()),) if value else ()


class Responder:
    """What both kinds of requests have in common."""

    def __init__(
        self, service: Service, cache: Cache, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.service: Final = service
        self.cache: Final = cache
        self.scope: Final = scope
        self.receive: Final = receive
        self.send: Final = send
        self.headers: Final = Headers.of(tuple(map(pair, scope.get("headers", ()))))
        self.outer: Final = current_dependencies.get()
        """What is noted of the request by a middleware around this one."""

    def noting(self, *, mutating: bool) -> Dependencies:
        """Return what is to note what the application reads and changes."""
        return Dependencies(mutating=mutating, store=self.cache.store, outer=self.outer)

    def with_status(
        self, headers: list[tuple[bytes, bytes]], status: CacheStatus
    ) -> list[tuple[bytes, bytes]]:
        """Append our member of Cache-Status behind what other caches said."""
        if self.service.settings.cache_status_header:
            headers.append((b"cache-status", status.header_value()))
        return headers


class Answering(Responder):
    """A responder that can answer from the store."""

    target: Target
    request: Request
    found: LookupResult
    content: bytes | None = None
    """The content of a QUERY; None: a GET or HEAD, which has none."""
    collapsed: bool | None = None
    """Whether it waited for another request's response, and could use it."""

    def forwarded(self, reason: ForwardReason, **more: Any) -> CacheStatus:
        """Return the member of Cache-Status of a request that went on to the application."""
        return CacheStatus(fwd=reason, collapsed=self.collapsed, key=self._shown_key(), **more)

    def _shown_key(self) -> str | None:
        return self.found.key.decode() if self.service.settings.cache_status_key else None

    async def serve(self, decision: Serve, *, fwd: CacheStatus | None = None) -> None:
        """Send what the rules decided, with our member of Cache-Status."""
        self.cache.counters.stale += decision.stale
        if fwd is None:
            headers = self.service.hit_headers(decision, self.found.key)
        else:
            headers = self.with_status(self.service.stored_headers(decision), fwd)
        if self.outer is not None and self.found.entry is not None:
            for group, token in self.found.entry.tokens:
                self.outer.depend_at(self.cache.store.authority, group, token)
        await self.send(
            {"type": "http.response.start", "status": decision.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": decision.body})


async def call_noting(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service,
    cache: Cache,
    dependencies: Dependencies,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Call the application; what it purged is purged again when the call has returned."""
    token = current_dependencies.set(dependencies)
    try:
        await service.app(scope, receive, send)
    finally:
        current_dependencies.reset(token)
        if dependencies.changed:
            await cache.purge_again(dependencies)


def pass_on(
    service: Service,
    cache: Cache,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: bytes | None = None,
    unstorable: Target | None = None,
) -> Awaitable[None]:
    """Let the application answer a safe request of which nothing is looked up and nothing stored.

    A typed `set` there is a fill all the same, not a change. Neither this function nor the `send`
    that it passes on is a coroutine of its own: such requests are to cost next to nothing.

    Args:
        service: what the middleware knows.
        cache: its cache.
        scope: of the request.
        receive: of the request.
        send: of the request.
        status: our member of Cache-Status.
        unstorable: what was found to be unstorable, for as long as its responses go on saying so.
    """

    def send_outgoing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = service.outgoing(message.get("headers", ()), now=cache.clock())
            if unstorable is not None:
                cache.still_unstorable(unstorable, headers)
            if status is not None and service.settings.cache_status_header:
                headers.append((b"cache-status", status))
            message = {**message, "headers": headers}
        return send(message)

    outer = current_dependencies.get()
    dependencies = Dependencies(mutating=False, store=cache.store, outer=outer)
    return call_noting(service, cache, dependencies, scope, receive, send_outgoing)


def pass_unstorable(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service, cache: Cache, target: Target, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Let the application answer what is known to be unstorable."""
    cache.counters.misses += 1
    return pass_on(service, cache, scope, receive, send, status=_URI_MISS, unstorable=target)
