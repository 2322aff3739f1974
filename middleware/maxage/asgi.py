"""The middleware, built once, and the responders of one request each.

Only this file knows scope, receive and send.
"""

import asyncio
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, final

from starlette.requests import Request as StarletteRequest

from maxage.cache import Cache, Fill, Found
from maxage.cache_status import CacheStatus, hit_value
from maxage.collapse import Flight
from maxage.dependencies import Dependencies, current_dependencies
from maxage.errors import SettingsError, StoreUnavailableError
from maxage.key import FORWARDED_HEADERS
from maxage.message import HeaderList, Headers, Request, Response
from maxage.policy import Rule
from maxage.rfc9111.dates import format_http_date
from maxage.rfc9111.decide import Forward, MayNotStore, OnlyIfCached, Reason, Serve, answer
from maxage.rfc9111.directives import OWN_TARGET
from maxage.rfc9111.invalidation import invalidates, is_unsafe, same_origin_targets
from maxage.rfc9111.structured import parse_strings
from maxage.rfc9111.validation import is_not_modified, not_modified_headers
from maxage.server import adds_date, worker_count
from maxage.settings import CacheSettings
from maxage.store import Store
from maxage.store.codec import Entry
from maxage.store.memory import MemoryStore
from maxage.store.tokens import tag_group
from maxage.stores import store_for
from maxage.target import Scope, Target, Targets

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

logger = logging.getLogger("maxage")

_METHOD_OVERRIDES: Final = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override"}
)
_OVERRIDES: Final = _METHOD_OVERRIDES | {
    b"x-original-url", b"x-rewrite-url", b"x-original-uri", b"x-forwarded-uri",
}  # fmt: skip
"""Headers by which a request means another method or path than it says."""

MAX_NAMED_GROUPS: Final = 128
"""Groups of one Cache-Group-Invalidation that are purged (RFC 9875 section 3 asks for 32)."""

_CONDITIONAL: Final = frozenset({
    b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range",
    b"range",
})  # fmt: skip
_OF_ONE_REQUEST: Final = frozenset({Reason.CONDITIONAL, Reason.PARTIAL, Reason.REQUEST_NO_STORE})
"""Why a response is not stored although another request's may be."""
_instances = itertools.count(1)
_JOINS: Final = 2
"""Fills of others that one request waits for at most."""
_LONGEST_NUMBER: Final = 18
_WHOLE_BODY_EXTENSIONS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


@final
class CacheMiddleware:
    """Caches whole responses in front of an ASGI application.

    Works through `app.add_middleware(CacheMiddleware)` and as `app = CacheMiddleware(app)`.

    Args:
        app: the application behind it.
        settings: read from the environment by default.
        store: where responses lie; by default the one that the settings name.
        rules: what is cached how long, by path pattern.

    A setting that cannot be right stops the server's start with one sentence; without a lifespan it
    is raised, as `SettingsError`, at the first request.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: CacheSettings | None = None,
        *,
        store: Store | None = None,
        rules: Iterable[Rule] = (),
    ) -> None:
        self.app = app
        self._mistake: SettingsError | None = None
        self._adds_date: bool | None = None
        self.cache: Cache | None = None
        try:
            settings = settings if settings is not None else CacheSettings()
            self.targets: Final = Targets(settings, tuple(rules), app, instance=next(_instances))
            if settings.use_redis_cache:
                self.cache = Cache(settings, store if store is not None else store_for(settings))
        except SettingsError as mistake:
            # Starlette builds middleware inside the server's first call, where an exception would
            # be taken for "no lifespan here"; so it is told when it can be heard.
            self._mistake, settings = mistake, CacheSettings.model_construct()
        self.settings: Final = settings
        self._credential_headers: Final = (
            ()
            if settings.authorization_only
            else tuple(name.lower().encode() for name in settings.credential_headers)
        )
        self._ignored_cookies: Final = frozenset(settings.ignored_cookies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass through what is none."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if self._adds_date is None and kind == "http":
            # There is no lifespan.
            self._learn_from_server(receive, is_server=False)
        if kind != "http" or self.cache is None:
            if self._mistake is not None:
                raise self._mistake
            await self.app(scope, receive, send)
        elif scope["method"] in {"GET", "HEAD"}:
            await _Reading(self, self.cache, scope, receive, send).run()
        elif is_unsafe(scope["method"]) and scope["method"] != "QUERY":
            await _Mutation(self, self.cache, scope, receive, send).run()
        else:
            await _Passing(self, self.cache, scope, receive, send).run()

    async def aclose(self) -> None:
        """Close the store, where no lifespan does it."""
        if self.cache is not None:
            await self.cache.close()

    # the life of the application

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._mistake is not None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(self._mistake)})
            return
        self._learn_from_server(receive)

        async def send_with_store(message: Message) -> None:
            if self.cache is not None:
                if message["type"] == "lifespan.startup.complete":
                    await self.cache.open()
                elif message["type"].startswith("lifespan.shutdown."):
                    await self.cache.close()
            await send(message)

        await self.app(scope, receive, send_with_store)

    def _learn_from_server(self, receive: Receive, *, is_server: bool = True) -> None:
        self._adds_date = adds_date(receive, unknown=is_server)
        cache = self.cache
        if cache is not None and not cache.store.shared:
            workers = worker_count(receive)
            if workers > 1:
                logger.warning(
                    "The cache is off: %d workers serve this application, and the embedded store "
                    "of one cannot be purged by another. Set REDIS_URL to share one store.",
                    workers,
                )
                if isinstance(cache.store, MemoryStore):
                    # The typed cache keeps its values there too.
                    cache.store.switch_off()
                self.cache = None

    @property
    def sends_date(self) -> bool:
        """Whether responses get their Date from us: the server adds none."""
        if self.settings.send_date is not None:
            return self.settings.send_date
        return not self._adds_date

    # what requests carry

    def credentials(self, target: Target, headers: Headers) -> bool:
        """Return whether the request carries what may make its answer a personal one."""
        if b"authorization" in headers or self._personal_cookie(headers):
            return True
        if any(name in headers for name in self._credential_headers):
            return True
        found = target.found
        # A hit would skip the check of such a route, so that every request counts.
        return (
            found is not None and found.route.has_security and not self.settings.authorization_only
        )

    def _personal_cookie(self, headers: Headers) -> bool:
        if b"cookie" not in headers or self.settings.authorization_only:
            return False
        names = (
            part.partition(b"=")[0].strip().decode("latin-1")
            for line in headers.get_all(b"cookie")
            for part in line.split(b";")
        )
        return any(name and name not in self._ignored_cookies for name in names)


class _Responder:
    """What both kinds of requests have in common."""

    def __init__(
        self, middleware: CacheMiddleware, cache: Cache, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.middleware: Final = middleware
        self.cache: Final = cache
        self.scope: Final = scope
        self.receive: Final = receive
        self.send: Final = send
        self.headers: Final = Headers.of(
            tuple((name, value) for name, value in scope.get("headers", ()))
        )

    def outgoing(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the application's headers without what is addressed to us alone, and with Date.

        A Date is added where neither the application nor the server does (RFC 9110 section 6.6.1).
        """
        headers = [line for line in headers if line[0].lower() != OWN_TARGET]
        if self.middleware.sends_date and not any(n.lower() == b"date" for n, _ in headers):
            headers.append((b"date", format_http_date(self.cache.clock())))
        return headers

    def with_status(
        self, headers: list[tuple[bytes, bytes]], status: CacheStatus
    ) -> list[tuple[bytes, bytes]]:
        """Append our member of Cache-Status behind what other caches said."""
        if self.middleware.settings.cache_status_header:
            headers.append((b"cache-status", status.header_value()))
        return headers


@final
class _Reading(_Responder):
    """Answers one GET or HEAD."""

    target: Target
    request: Request
    found: Found

    async def run(self) -> None:
        """Serve from the store, or forward and perhaps store."""
        if self._is_long():
            await self._bypass("long-url")
            return
        target = self.middleware.targets.find(self.scope, self.headers)
        self.target = target
        reason = self._no_business_of_ours(target)
        if reason == "override" and any(name in self.headers for name in _METHOD_OVERRIDES):
            # The application may take it for what the header says.
            await _Mutation(self.middleware, self.cache, self.scope, self.receive, self.send).run()
            return
        if reason is not None:
            await self._bypass(reason)
            return
        try:
            extra = await self._key_parts(target)
        except Exception as error:  # noqa: BLE001 - vary_by is the application's own code
            # The application's own checks answer a request that vary_by refuses.
            logger.debug("vary_by refused a request: %s", type(error).__name__)
            await self._bypass("vary_by")
            return
        self.request = Request(
            method=self.scope["method"],
            headers=self.headers,
            carries_credentials=target.policy.vary_by is None
            and self.middleware.credentials(target, self.headers),
        )
        try:
            self.found = await self.cache.lookup(target, target.key(extra), self.request)
        except StoreUnavailableError:
            await self._bypass("store-away")
            return
        await self._answer()

    def _no_business_of_ours(self, target: Target) -> str | None:
        """Return why the request must not be answered from the store, or None."""
        headers = self.headers
        if not target.policy.cache:
            return "uncached"
        if not _OVERRIDES.isdisjoint(name for name, _ in headers.raw):
            return "override"
        length = headers.get_all(b"content-length")
        if length not in ((), (b"0",)) or b"transfer-encoding" in headers:
            return "body"
        if len(headers.get_all(b"host")) > 1:
            return "host"
        if self.scope["method"] == "HEAD" and not self.middleware.targets.reads(
            "HEAD", self.scope, headers
        ):
            return "head"
        return None

    def _is_long(self) -> bool:
        """Return whether what the key would be made of is longer than it may be."""
        limit = self.middleware.settings.cache_max_key_bytes
        path, query = self.scope.get("raw_path") or b"", self.scope.get("query_string", b"")
        headers = sum(
            len(value)
            for name, value in self.headers.raw
            if name == b"host" or name in FORWARDED_HEADERS
        )
        return len(path) + len(query) > limit or headers > limit

    async def _key_parts(self, target: Target) -> tuple[bytes, ...]:
        """Return what distinguishes this request besides its URL."""
        parts: list[bytes] = []
        found = target.found
        if found is not None:
            for name in found.route.header_names:
                value = self.headers.combined(name)
                parts += (name, b"-" if value is None else b"+" + value)
            if found.route.cookie_names and b"cookie" in self.headers:
                parts += (b"cookie", self.headers.combined(b"cookie") or b"")
        vary_by = target.policy.vary_by
        if vary_by is not None:
            answered = vary_by(StarletteRequest(self.scope))
            # What a callable really returns, whatever its annotation promises.
            identity: Any = await answered if inspect.isawaitable(answered) else answered
            if not isinstance(identity, (str, int)):
                raise TypeError(f"vary_by gave {type(identity).__name__}; it takes str or int")
            kind = type(identity).__name__.encode()
            parts += (b"vary_by", kind, str(identity).encode("utf-8", "surrogatepass"))
        return tuple(parts)

    async def _answer(self) -> None:
        ends = self.cache.monotonic() + self.middleware.settings.cache_collapse_wait
        collapsed = False
        for joins in range(_JOINS, -1, -1):
            decision = self.cache.decide(self.target, self.request, self.found)
            if isinstance(decision, Serve):
                await self.serve(decision, collapsed=collapsed)
                return
            if isinstance(decision, OnlyIfCached):
                await self._gateway_timeout()
                return
            flight = self._flight_to_join(decision) if joins else None
            if flight is None:
                await self._forward(decision)
                return
            collapsed = await self._join(flight, ends - self.cache.monotonic())

    # serve

    async def serve(
        self, decision: Serve, *, collapsed: bool = False, fwd: CacheStatus | None = None
    ) -> None:
        """Send what the rules decided, with our member of Cache-Status."""
        headers = list(decision.headers)
        if not self.middleware.sends_date:
            # The server adds its own, and there is to be one.
            headers = [line for line in headers if line[0].lower() != b"date"]
        if fwd is not None:
            headers = self.with_status(headers, fwd)
        elif collapsed or self.middleware.settings.cache_status_key:
            shown = self.found.key.decode() if self.middleware.settings.cache_status_key else None
            status = CacheStatus(hit=True, ttl=decision.ttl, collapsed=collapsed, key=shown)
            headers = self.with_status(headers, status)
        elif self.middleware.settings.cache_status_header:
            headers.append((b"cache-status", hit_value(decision.ttl)))
        if decision.refresh:
            self._refresh()
        await self.send(
            {"type": "http.response.start", "status": decision.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": decision.body})

    async def _gateway_timeout(self) -> None:
        """Answer 504: nothing stored, and the client wants nothing else (RFC 9111 5.2.1.7)."""
        headers = self.with_status(
            [(b"content-length", b"0"), (b"cache-control", b"no-store")],
            CacheStatus(fwd=None, detail="only-if-cached"),
        )
        start = {"type": "http.response.start", "status": 504, "headers": self.outgoing(headers)}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    # forward

    async def _bypass(self, detail: str) -> None:
        """Pass the request on; nothing is looked up and nothing stored."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = CacheStatus(fwd="bypass", detail=detail)
                headers = self.outgoing(message.get("headers", ()))
                message = {**message, "headers": self.with_status(headers, status)}
            await self.send(message)

        # Nothing is stored, but a typed `set` here is a fill all the same, not a change.
        authority = self.cache.store.authority
        token = current_dependencies.set(Dependencies(mutating=False, authority=authority))
        try:
            await self.middleware.app(self.scope, self.receive, send)
        finally:
            current_dependencies.reset(token)

    def _flight_to_join(self, decision: Forward) -> Flight[Entry] | None:
        """Return a fill under way whose response may be taken, if there is one."""
        cache, found = self.cache, self.found
        if decision.reason == "request" or not cache.may_collapse(self.target, self.request):
            return None
        flight = cache.flights.find(found.key)
        return flight if flight is not None and flight.may_be_joined(found.tokens) else None

    async def _join(self, flight: Flight[Entry], seconds: float) -> bool:
        """Wait for the fill; return whether its response is ours to take."""
        cache, found = self.cache, self.found
        entry = await flight.wait(seconds)
        try:
            if entry is not None:
                checked = await cache.checked(
                    self.target, found.key, self.request, entry, dict(found.tokens), found.index
                )
                if checked.entry is not None:
                    self.found = checked
                    return True
            if cache.may_collapse(self.target, self.request):
                # It came to nothing: of all who waited, one asks, and may have asked already.
                self.found = await cache.lookup(self.target, found.key, self.request)
        except StoreUnavailableError:
            logger.debug("The store went away while a request waited for another one.")
        return False

    async def _forward(self, decision: Forward) -> None:
        """Ask the application, copying what it answers if that may be stored."""
        flight: Flight[Entry] | None = None
        if decision.reason != "request" and self.cache.may_collapse(self.target, self.request):
            flight = self.cache.flights.lead(self.found.key, self.found.tokens)
        exchange = _Exchange(self, decision, flight)
        try:
            await exchange.run()
        finally:
            self.cache.finish(flight)

    def _refresh(self) -> None:
        """Ask the application in the background; one refresh, however many requests want it."""
        cache, found = self.cache, self.found
        if found.entry is None or cache.flights.find(found.key) is not None:
            return
        flight = cache.flights.lead(found.key, found.tokens)
        cache.spawn(self._refreshed(flight))

    async def _refreshed(self, flight: Flight[Entry]) -> None:
        async def discard(message: Message) -> None:
            del message

        async def nothing_to_receive() -> Message:
            # The client of the request that asked for the refresh is answered and gone; the
            # application must not take that for a client that hung up.
            if not asked.is_set():
                asked.set()
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        asked = asyncio.Event()
        scope = dict(self.scope)
        scope["headers"] = [line for line in self.headers.raw if line[0] not in _CONDITIONAL]
        scope["method"] = "GET"
        reading = _Reading(self.middleware, self.cache, scope, nothing_to_receive, discard)
        reading.target, reading.found = self.target, self.found
        reading.request = replace(self.request, method="GET", headers=reading.headers)
        try:
            await reading._forward_again(flight)
        finally:
            self.cache.finish(flight)

    async def _forward_again(self, flight: Flight[Entry]) -> None:
        decision = self.cache.revalidate(self.found)
        await _Exchange(self, decision, flight).run()


@final
class _Exchange:
    """One exchange with the application on behalf of a GET: copies, validates, or just passes."""

    def __init__(self, reading: _Reading, decision: Forward, flight: Flight[Entry] | None) -> None:
        self.reading: Final = reading
        self.cache: Final = reading.cache
        self.decision = decision
        self.flight: Final = flight
        self.dependencies: Final = Dependencies(
            mutating=False, authority=reading.cache.store.authority
        )
        self.asked_at = 0.0
        self._fill: Fill | None = None
        self._held: Message | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._declared: int | None = None
        self._started = False
        self._answered = False
        """Whether we answered the client, so that the application's own answer is dropped."""
        self._stale_answer = decision.stale_if_error
        self._spoiled = False
        """Whether something came from the client that forbids storing."""
        self._again = False
        self._body_again = False
        """Whether the request's body, which is empty, is to be received once more."""

    async def run(self) -> None:
        """Call the application; once more without conditions if its 304 was of no use."""
        await self._call()
        if self._again:
            self._again, self._answered, self._started = False, False, False
            self._body_again = True
            self.decision = replace(self.decision, conditional=())
            await self._call()

    async def _call(self) -> None:
        self.asked_at = self.cache.clock()
        token = current_dependencies.set(self.dependencies)
        try:
            await self.reading.middleware.app(self._scope(), self._receive, self._send)
        except Exception:
            if self._started or not self._stale_answer or self._answered:
                raise
            logger.exception("The application failed; a stale response answers instead.")
            await self._serve_stale()
        finally:
            current_dependencies.reset(token)
            self._forget()
        await self._let_go()

    def _scope(self) -> Scope:
        """Return the scope with our validators in place of the client's conditions."""
        reading = self.reading
        if not self.decision.conditional:
            return reading.scope
        kept = [line for line in reading.headers.raw if line[0] not in _CONDITIONAL]
        return {**reading.scope, "headers": [*kept, *self.decision.conditional]}

    async def _receive(self) -> Message:
        if self._body_again:
            self._body_again = False
            return {"type": "http.request", "body": b"", "more_body": False}
        message: Message = await self.reading.receive()
        if message["type"] == "http.disconnect" or message.get("body"):
            # An application that learns that its client hung up may stop half way and end its
            # answer in good order; and a body that no header announced (HTTP/2 needs none) is part
            # of what it answers.
            self._spoiled = True
            self._forget()
            self.cache.finish(self.flight)
        return message

    async def _send(self, message: Message) -> None:
        if self._answered or self._again:
            return
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif kind == "http.response.body":
            await self._body(message)
        else:
            if kind in _WHOLE_BODY_EXTENSIONS:
                self._forget()
                await self._let_go()
            await self.reading.send(message)

    async def _start(self, message: Message) -> None:
        raw: HeaderList = tuple((bytes(n), bytes(v)) for n, v in message.get("headers", ()))
        response = Response(status=message["status"], headers=Headers.of(raw))
        if response.status == 304 and self.decision.conditional:
            await self._validated(response)
            return
        if response.status >= 500 and self._stale_answer:
            await self._serve_stale()
            return
        self._started = True
        if self.reading.request.method == "HEAD" and response.status == 200:
            reading = self.reading
            self.cache.freshen_from_head(
                reading.target, reading.request, reading.found, response, self.asked_at
            )
        verdict = self._consider(response, message)
        stored = isinstance(verdict, Fill)
        if isinstance(verdict, MayNotStore) and self.flight is not None:
            if verdict.reason not in _OF_ONE_REQUEST:
                self.cache.not_storable(self.reading.target)
            self.cache.finish(self.flight)
        status = CacheStatus(
            fwd=self.decision.reason,
            fwd_status=response.status if self.decision.conditional else None,
            stored=stored,
        )
        headers = self.reading.with_status(self.reading.outgoing(raw), status)
        start = {**message, "headers": headers}
        if isinstance(verdict, Fill):
            self._fill = verdict
            self._declared = _length(response.headers)
            if self._declared is not None and b"etag" not in response.headers:
                # Held until the first piece of the body: if that is all, it gets a validator.
                self._held = start
                return
        await self.reading.send(start)

    def _consider(self, response: Response, message: Message) -> Fill | MayNotStore:
        reading = self.reading
        if self._spoiled or message.get("trailers"):
            return MayNotStore(reason="body" if self._spoiled else "trailers")
        if b"content-length" in response.headers and _length(response.headers) is None:
            # Whether the body is whole could not be told.
            return MayNotStore(reason="content-length")
        if (_length(response.headers) or 0) > reading.middleware.settings.cache_max_body_bytes:
            return MayNotStore(reason="body too long")
        return self.cache.consider(
            reading.target, reading.request, reading.found, response, self.asked_at
        )

    async def _body(self, message: Message) -> None:
        chunk: bytes = message.get("body", b"")
        last = not message.get("more_body", False)
        fill = self._fill
        if fill is None:
            await self._let_go()
            await self.reading.send(message)
            return
        self._copy(chunk)
        held, self._held = self._held, None
        if last:
            message = self._complete(fill, held, message)
        if held is not None:
            await self.reading.send(held)
        await self.reading.send(message)

    def _copy(self, chunk: bytes) -> None:
        """Keep a copy on the side, as long as it stays within the limits."""
        self._size += len(chunk)
        settings = self.reading.middleware.settings
        if self._size > settings.cache_max_body_bytes or not self.cache.take(len(chunk)):
            self._forget()
            # Nobody needs to wait for what will not be shared.
            self.cache.not_storable(self.reading.target)
            self.cache.finish(self.flight)
        else:
            self._chunks.append(bytes(chunk))

    def _complete(self, fill: Fill, held: Message | None, message: Message) -> Message:
        """Store the response that came through whole, before its last byte leaves."""
        body = b"".join(self._chunks)
        if self._fill is None or self._declared not in (None, self._size):
            # Too long, or not what its Content-Length promised.
            self._forget()
            self.cache.finish(self.flight)
            return message
        entry = self.cache.store_response(fill, body, self.dependencies)
        self._forget()
        self.cache.finish(self.flight, entry)
        if entry is None or held is None:
            return message
        etag = entry.stored.headers.first(b"etag")
        if etag is not None and fill.verdict.stored.status == 200:
            held["headers"].append((b"etag", etag))
            # Only If-None-Match: the tag is ours, while dates are the application's business, and
            # it has just answered with the whole.
            if b"if-none-match" in self.reading.headers and is_not_modified(
                self.reading.request, entry.stored.headers, response_time=self.cache.clock()
            ):
                held["status"] = 304
                held["headers"] = list(not_modified_headers(Headers(held["headers"])))
                return {**message, "body": b""}
        return message

    async def _validated(self, answer_304: Response) -> None:
        """Serve the stored response that the application has just called current."""
        reading, found = self.reading, self.reading.found
        stored, verdict = self.cache.freshen(
            reading.target, reading.request, found, answer_304, self.asked_at
        )
        if stored is None:
            # The 304 is about another representation than the one we hold.
            self._again = True
            return
        entry: Entry | None = None
        if isinstance(verdict, Fill):
            entry = self.cache.store_response(verdict, stored.body, self.dependencies)
        self.cache.finish(self.flight, entry)
        decision = answer(reading.request, stored, now=self.cache.clock(), validated=True)
        status = CacheStatus(
            fwd=self.decision.reason, fwd_status=304, stored=entry is not None, ttl=decision.ttl
        )
        self._started = self._answered = True
        await reading.serve(decision, fwd=status)

    async def _serve_stale(self) -> None:
        """Answer with the stale response in place of an error (RFC 5861 section 4)."""
        reading = self.reading
        self._started = self._answered = True
        if reading.found.entry is not None:
            stale = answer(reading.request, reading.found.entry.stored, now=self.cache.clock())
            status = CacheStatus(hit=True, ttl=stale.ttl, fwd=None, detail="stale-if-error")
            await reading.serve(stale, fwd=status)

    async def _let_go(self) -> None:
        """Send a start that is still held."""
        held, self._held = self._held, None
        if held is not None:
            await self.reading.send(held)

    def _forget(self) -> None:
        self.cache.give_back(sum(map(len, self._chunks)))
        self._chunks = []
        self._fill = None


@final
class _Passing(_Responder):
    """Passes on a safe request that no store can answer, such as OPTIONS."""

    async def run(self) -> None:
        """Forward, and see to it that the answer has a Date."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self.outgoing(message.get("headers", ()))}
            await self.send(message)

        await self.middleware.app(self.scope, self.receive, send)


@final
class _Mutation(_Responder):
    """Passes on a request that may change something, and purges what it made untrue."""

    async def run(self) -> None:
        """Forward; purge before the answer's first byte, and again when all has run."""
        settings = self.middleware.settings
        self._refuses = settings.on_lost_purge == "refuse"
        self._held: list[Message] | None = (
            # With `refuse` the answer is held too: a dependency that commits after the response
            # was sent would otherwise have acknowledged before the purge could be confirmed.
            [] if settings.cache_strict_hold or self._refuses else None
        )
        if self._refuses and not self.cache.store.trusted:
            await self._refuse(b"Not executed: the cache's store is away, and what the request")
            return
        self._groups = self.middleware.targets.touched(self.scope, self.headers)
        self._dependencies = Dependencies(mutating=True, authority=self.cache.store.authority)
        self._status: int | None = None
        await self._call()
        if self._held is not None:
            await self._let_go(self._held)

    async def _call(self) -> None:
        token = current_dependencies.set(self._dependencies)
        try:
            await self.middleware.app(self.scope, self.receive, self._send)
        except BaseException:
            # An exception or a cancellation after the handler began: nobody knows what it changed.
            if self._status is None or self._status >= 400:
                self._status = 500
            raise
        finally:
            current_dependencies.reset(token)
            # Again: dependencies with `yield` commit after the response was sent, and background
            # tasks change things then.
            self._confirmed = await self._purge()

    async def _let_go(self, held: list[Message]) -> None:
        """Send the answer that was held until the purge was confirmed, or 503 if it was not."""
        if self._refuses and not self._confirmed:
            await self._refuse(b"The fate of the request is unknown: it was executed, but what it")
            return
        for message in held:
            await self.send(message)

    async def _refuse(self, what: bytes) -> None:
        body = what + b" changes could not be purged from the cache.\n"
        headers = self.outgoing(
            [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                (b"retry-after", b"1"),
            ]
        )
        headers = self.with_status(headers, CacheStatus(fwd="method", detail="purge-unconfirmed"))
        await self.send({"type": "http.response.start", "status": 503, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = Headers((bytes(n), bytes(v)) for n, v in message.get("headers", ()))
            self._groups += self._named(headers)
            if self._held is None:
                await self._purge()
            out = self.outgoing(headers.raw)
            message = {**message, "headers": self.with_status(out, CacheStatus(fwd="method"))}
        if self._held is None:
            await self.send(message)
        else:
            self._held.append(message)

    def _named(self, headers: Headers) -> tuple[str, ...]:
        """Return the groups of what the answer names.

        That is Location and Content-Location (RFC 9111 section 4.4), and the groups of
        Cache-Group-Invalidation (RFC 9875 section 3).
        """
        declared = parse_strings(headers.get_all(b"cache-group-invalidation"))
        # Deviation: RFC 9875 keeps the groups of different origins apart; tags are one space here,
        # so that such a purge may reach more than it names, and never less.
        groups = tuple(tag_group(tag) for tag in declared[:MAX_NAMED_GROUPS])
        if b"location" not in headers and b"content-location" not in headers:
            return groups
        scope = self.scope
        named = same_origin_targets(
            headers,
            scheme=scope.get("scheme", "http"),
            host=(self.headers.first(b"host") or b"").decode("latin-1"),
            path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        )
        members = (group for path in named for group in self.middleware.targets.member(path))
        return (*groups, *members)

    async def _purge(self) -> bool:
        """Purge what the request touched; return whether that is confirmed."""
        # An application that returned without an answer leaves its fate unknown too.
        status = 500 if self._status is None else self._status
        touched: Sequence[str] = tuple(self._dependencies.touched)
        if status >= 500:
            # What was set may never have been committed.
            touched = (*touched, *self._dependencies.kept)
        if invalidates(status, errors_purge=self.middleware.settings.errors_purge):
            touched = (*self._groups, *touched)
        return await self.cache.invalidate(dict.fromkeys(touched)) if touched else True


def _length(headers: Headers) -> int | None:
    values = headers.get_all(b"content-length")
    valid = len(values) == 1 and values[0].isdigit() and len(values[0]) <= _LONGEST_NUMBER
    return int(values[0]) if valid else None
