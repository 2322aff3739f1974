"""The responder of one GET, HEAD or QUERY: serve from the store, or forward and perhaps store."""

import inspect
import logging
from typing import Any, Final, final

from starlette.requests import Request as StarletteRequest

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.passthrough import pass_on, pass_unstorable
from maxage.asgi.responder import ReadResponder
from maxage.cache.collapse import Flight
from maxage.cache.key import FORWARDED_HEADERS
from maxage.cache.language_variant import variant_in_language
from maxage.cache.lookup_result import LookupResult, is_of
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.reads.background_refresh import begin_refresh, run_in_time
from maxage.reads.collapsing import fetched_elsewhere
from maxage.reads.fast_path import FastPath
from maxage.reads.forward import Exchange
from maxage.reads.prepared import KnownRequest
from maxage.rfc9111.decide import answer
from maxage.rfc9111.decisions import Decision, Forward, OnlyIfCached
from maxage.rfc9111.message import Request
from maxage.store.entry import Entry

logger = logging.getLogger("maxage")

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

_JOINS: Final = 2
"""Fills of others that one request waits for at most."""


@final
class GetResponder(ReadResponder):
    """Answers one GET or HEAD, or a QUERY whose content was read."""

    fast_path: FastPath | None = None
    """What the next request like this one may be answered by."""
    content_key: tuple[bytes, ...] = ()
    """What of the content of a QUERY belongs to its key."""
    _ends: float | None = None
    """Until when (monotonic) it waits for the fills of others."""
    _joined: Forward | None = None
    """What would have been asked, had another request not asked it."""
    _slow: bool = False
    """Whether it has waited long enough for a fill that is under way yet."""

    async def run(
        self, known: KnownRequest | None = None, found: LookupResult | None = None
    ) -> None:
        """Serve from the store, or forward and perhaps store.

        Args:
            known: what was found out before about a request of the same kind.
            found: what the store has for it, where that was looked up.
        """
        key = await self._admitted() if known is None else self._known(known)
        if key is None:
            return
        if known is None and self._is_unstorable():
            self._learn(known)
            await pass_unstorable(
                self.service, self.cache, self.target, self.scope, self.receive, self.send
            )
            return
        near = None
        if found is None:
            near = await self.cache.nearby(self.target, key, self.request)
        if near is not None:
            self.found, decision = near
            if decision.refresh:
                begin_refresh(self)
            self._learn(known)
            self.cache.counters.hits += 1
            await self.serve(decision)
            return
        try:
            self.found = await self._lookup(key, found)
        except StoreUnavailableError:
            await self.bypass("store-away")
            return
        if self.found.entry is not None:
            self._learn(known)
        await self._answer()

    def _known(self, known: KnownRequest) -> bytes:
        """Take what is known of such requests; return the key."""
        self.target = known.target
        self.request = Request(method=self.scope["method"], headers=self.headers)
        return known.key

    async def _admitted(self) -> bytes | None:
        """Find out all about the request; return its key, or None where it was passed on."""
        if self._is_long():
            await self.bypass("long-url")
            return None
        target = self.target = self.service.targets.find(self.scope, self.headers)
        reason = self._no_business_of_ours(target)
        if reason is not None:
            await self.bypass(reason)
            return None
        try:
            extra = () if target.is_plain else await self._key_parts(target)
            if self.content_key:
                extra = (*self.content_key, *extra)
        except Exception as error:  # noqa: BLE001 - vary_by is the application's own code
            # The application's own checks answer a request that vary_by refuses.
            logger.debug("vary_by refused a request: %s", type(error).__name__)
            await self.bypass("vary_by")
            return None
        self.request = Request(
            method=self.scope["method"],
            headers=self.headers,
            carries_credentials=target.policy.vary_by is None
            and self.service.carries_credentials(target, self.headers),
            key_parts=extra,
        )
        return target.key(extra)

    def _learn(self, known: KnownRequest | None) -> None:
        """Let the next request like this one be known."""
        if known is None and self.fast_path is not None and not self.request.carries_credentials:
            self.fast_path.learn(self.scope, self.target)

    async def _lookup(self, key: bytes, found: LookupResult | None) -> LookupResult:
        if found is None:
            found = await self.cache.lookup(self.target, key, self.headers)
        if found.entry is None and self.target.rules.language_select:
            return await variant_in_language(self.cache, self.target, self.request, found)
        return found

    def _no_business_of_ours(self, target: Target) -> str | None:
        """Return why the request must not be answered from the store, or None."""
        headers = self.headers
        if not target.policy.cache:
            return "uncached"
        if headers.has_any(OVERRIDES):
            return "override"
        if (
            self.content is None
            and headers.has_any(_FRAMING)
            and (b"transfer-encoding" in headers or headers.get_all(b"content-length") != (b"0",))
        ):
            return "body"
        if len(headers.get_all(b"host")) > 1:
            return "host"
        if self.scope["method"] == "HEAD" and not self.service.targets.reads(
            "HEAD", self.scope, headers
        ):
            return "head"
        return None

    def _is_unstorable(self) -> bool:
        """Return whether a lookup would find nothing, and the response would not be stored.

        A request that says something about caching itself takes the ordinary way.
        """
        return self.cache.is_unstorable(self.target) and b"cache-control" not in self.headers

    def _is_long(self) -> bool:
        """Return whether what the key would be made of is longer than it may be."""
        limit = self.service.settings.cache_max_key_bytes
        path, query = self.scope.get("raw_path") or b"", self.scope.get("query_string", b"")
        if len(path) + len(query) > limit:
            return True
        headers = self.headers
        values = headers.get_all(b"host")
        if headers.has_any(FORWARDED_HEADERS):
            values += tuple(value for name in FORWARDED_HEADERS for value in headers.get_all(name))
        return sum(map(len, values)) > limit

    async def _key_parts(self, target: Target) -> tuple[bytes, ...]:
        """Return what distinguishes this request besides its URL."""
        parts: list[bytes] = []
        route = target.route
        if route is not None:
            for name in route.header_names:
                value = self.headers.combined(name)
                parts += (name, b"-" if value is None else b"+" + value)
            if route.cookie_names and b"cookie" in self.headers:
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
        for joins in range(_JOINS, -1, -1):
            decision = self.cache.decide(self.target, self.request, self.found)
            if joins and isinstance(decision, Forward):
                flight = self._flight_to_join(decision)
                if flight is not None:
                    await self._wait_for(flight, decision)
                    continue
            await self._act_on(decision)
            return

    async def _act_on(self, decision: Decision) -> None:
        if isinstance(decision, OnlyIfCached):
            await self._gateway_timeout()
        elif isinstance(decision, Forward):
            if self._is_too_slow(decision) and self.found.entry is not None:
                stored = self.found.entry.stored
                self.cache.counters.hits += 1
                await self.serve(answer(self.request, stored, now=self.cache.clock()))
            else:
                await self._forward(decision)
        else:
            if decision.refresh:
                begin_refresh(self)
            joined = self._joined
            if joined:
                self.cache.counters.collapsed += 1
            else:
                self.cache.counters.hits += 1
            fwd = self.forwarded(joined.reason, ttl=decision.ttl) if joined else None
            await self.serve(decision, fwd=fwd)

    async def _wait_for(self, flight: Flight[Entry], decision: Forward) -> None:
        """Wait for a fill, as long as may be waited for all fills together."""
        patience = self._patience(decision)
        self.collapsed = await self._join(flight, self._wait(decision))
        self._joined = decision if self.collapsed else None
        self._slow = flight.under_way
        if self._slow and not patience:
            self.cache.not_worth_waiting(self.target)

    def _wait(self, decision: Forward) -> float:
        """Return for how many seconds this request may wait for another one now."""
        now = self.cache.monotonic()
        if self._ends is None:
            self._ends = now + self.service.settings.cache_collapse_wait
        left = self._ends - now
        return min(left, self._patience(decision) or left)

    def _patience(self, decision: Forward) -> float:
        """Return for how long the application has time where a stale response may answer; or 0."""
        return self.service.settings.cache_stale_if_slow if decision.stale_if_error else 0.0

    def _is_too_slow(self, decision: Forward) -> bool:
        """Return whether a stale response may answer, since another request waited long enough."""
        return self._slow and self._patience(decision) > 0

    # serve

    async def _gateway_timeout(self) -> None:
        """Answer 504: nothing stored, and the client wants nothing else (RFC 9111 5.2.1.7)."""
        # No Cache-Status. RFC 9211 section 2: "An intermediary SHOULD NOT append a Cache-Status
        # member to responses that it generates locally, even if that intermediary contains a cache,
        # unless the generated response is based upon a stored response".
        lines = [(b"content-length", b"0"), (b"cache-control", b"no-store")]
        headers = self.service.outgoing(lines, now=self.cache.clock())
        start = {"type": "http.response.start", "status": 504, "headers": headers}
        self.cache.counters.misses += 1
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    # forward

    async def bypass(self, detail: str) -> None:
        """Pass the request on; nothing is looked up and nothing stored."""
        self.cache.counters.bypasses[detail] += 1
        status = CacheStatus(fwd="bypass", detail=detail).header_value()
        await pass_on(self.service, self.cache, self.scope, self.receive, self.send, status=status)

    def _flight_to_join(self, decision: Forward) -> Flight[Entry] | None:
        """Return a fill under way whose response may be taken, if there is one."""
        cache, found = self.cache, self.found
        if self._is_too_slow(decision):
            return None
        if decision.reason == "request" or not cache.may_collapse(self.target, self.request):
            return None
        flight = cache.flights.find(found.collapse_key)
        return flight if flight is not None and flight.may_be_joined(found.tokens) else None

    async def _join(self, flight: Flight[Entry], seconds: float) -> bool:
        """Wait for the fill; return whether its response is ours to take."""
        cache, found = self.cache, self.found
        entry = await flight.wait(seconds)
        # The response may have said which URLs are one, and may so have moved to another key.
        key = self.target.key(self.request.key_parts)
        try:
            if entry is not None and is_of(entry, key):
                checked = await cache.reader.checked(
                    self.target, key, self.headers, entry, dict(found.tokens), found.index
                )
                if checked.entry is not None:
                    self.found = checked
                    return True
            if cache.may_collapse(self.target, self.request):
                # It came to nothing: of all who waited, one asks, and may have asked already.
                self.found = await cache.lookup(self.target, key, self.headers)
        except StoreUnavailableError:
            logger.debug("The store went away while a request waited for another one.")
        return False

    async def _served_from_elsewhere(self, decision: Forward, flight: Flight[Entry]) -> bool:
        """Wait for another process that is fetching the same; return whether that was served."""
        store, outer = self.cache.store, self.outer
        if not store.shared or (outer is not None and outer.authority is store.authority):
            # A middleware around this one asks for all processes, and would be waited for in vain.
            return False
        try:
            fetched = await fetched_elsewhere(self, flight, self._wait(decision))
        except BaseException:
            self.cache.finish(flight)
            raise
        if fetched is None:
            return False
        self.cache.finish(flight, self.found.entry)
        self.collapsed = True
        self.cache.counters.collapsed += 1
        await self.serve(fetched, fwd=self.forwarded(decision.reason, ttl=fetched.ttl))
        return True

    async def _forward(self, decision: Forward) -> None:
        """Ask the application, copying what it answers if that may be stored."""
        flight: Flight[Entry] | None = None
        if decision.reason != "request" and self.cache.may_collapse(self.target, self.request):
            flight = self.cache.flights.lead(self.found.collapse_key, self.found.tokens)
            if await self._served_from_elsewhere(decision, flight):
                return
        self.cache.counters.misses += 1
        exchange, patience = Exchange(self, decision, flight), self._patience(decision)
        if patience:
            await run_in_time(exchange, patience)
        else:
            await exchange.run()
