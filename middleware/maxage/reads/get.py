"""One GET or HEAD, told from top to bottom.

    known request? -> prepared response? --------------------> serve
    else admission -> near copy? ----------------------------> serve
                        \\-> lookup -> decide ---------------> serve
                                          \\--> wait for another request's response
                                           \\-> forward

Each step has a module: `fast_path` (known requests, prepared responses), `admission`, `collapsing`
(waiting), `forward` (calling the application), `capture` (storing its answer) and
`background_refresh`.
"""

from collections.abc import Awaitable
from typing import Final, final

from maxage.asgi.passthrough import pass_by, pass_unstorable
from maxage.asgi.responder import pair
from maxage.asgi.types import Receive, Scope, Send
from maxage.cache.flights import Flight
from maxage.cache.key import FRAGMENT_HEADERS
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.observe.words import Bypass, Outcome
from maxage.reads.admission import find_target, identify
from maxage.reads.background_refresh import begin_refresh, run_in_time
from maxage.reads.collapsing import Collapsing, patience
from maxage.reads.fast_path import FastPath
from maxage.reads.forward import exchange_of
from maxage.reads.known_request import KnownRequest, Plain
from maxage.reads.responder import ReadResponder, set_route
from maxage.rfc9111.decisions import Decision, Forward, OnlyIfCached, Serve
from maxage.rfc9111.message import Headers, Request
from maxage.store.entry import Entry
from maxage.store.lookup_result import LookupResult

_NOT_STORED: Final = Forward(reason="uri-miss")
"""The decision about a plain request for which nothing is stored: it has no directives."""


def answer_get(  # noqa: PLR0917 - as ASGI calls an application
    fast_path: FastPath,
    plain: Plain | None,
    scope: Scope,
    receive: Receive,
    send: Send,
    content: bytes | None = None,
) -> Awaitable[None]:
    """Answer one GET or HEAD, or a QUERY whose content was read.

    `plain` is what the request has besides its URL (`FastPath.plain`); None: it is not plain.
    """
    if plain is not None:
        known = fast_path.recalled(scope, plain)
        if known is not None:
            target = known.target
            if target is not None and target.unstorable:
                service, cache = fast_path.service, fast_path.cache
                if target.is_unstorable(cache.monotonic()):
                    # A known request has no directives of its own.
                    return pass_unstorable(service, cache, target, scope, receive, send)
            return _answer_known(fast_path, known, plain, scope, receive, send)
    reading = GetResponder(fast_path.service, fast_path.cache, scope, receive, send)
    reading.content = content
    return reading.run(fast_path, plain)


async def _answer_known(  # noqa: PLR0917 - as ASGI calls an application
    fast_path: FastPath,
    known: KnownRequest,
    plain: Plain,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Answer a request that an earlier one like it, or a near copy, made known."""
    prepared = fast_path.near(known, scope["headers"])
    if prepared is not None and (prepared.confirm is None or await prepared.confirm()):
        known.route.counts.hits += 1
        routed = known.routed if known.is_remembered else fast_path.routed(known, scope)
        if routed is not None:
            set_route(scope, routed)
        # A new list: layers around the middleware may add headers.
        headers = list(prepared.headers)
        await send({"type": "http.response.start", "status": prepared.status, "headers": headers})
        await send({"type": "http.response.body", "body": prepared.body})
        return
    service, cache, target = fast_path.service, fast_path.cache, known.target
    if target is None:
        # The copy is gone, and nothing else is known of the request.
        await GetResponder(service, cache, scope, receive, send).run(fast_path, plain)
    else:
        await _look_known_up(fast_path, known, target, scope, receive, send)


async def _look_known_up(  # noqa: PLR0917 - as ASGI calls an application
    fast_path: FastPath,
    known: KnownRequest,
    target: Target,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Look a known request up; all requests that share the lookup share its prepared response."""
    service, cache, found, wanted = fast_path.service, fast_path.cache, None, None
    if fast_path.may_prepare():
        headers = Headers(tuple(map(pair, scope["headers"])))
        if known.purges != cache.purger.serial:
            # This process has purged something since the last lookup.
            known.purges = cache.purger.serial
            if known.form[0] == "GET":
                wanted = cache.claim_if_absent(target, known.key)
        try:
            found = await cache.lookup(target, known.key, headers, wanted)
        except StoreUnavailableError:
            reading = GetResponder(service, cache, scope, receive, send)
            reading.target = target
            await reading.bypass(Bypass.STORE_AWAY)
            return
        prepared = fast_path.prepared(known, found, headers)
        if prepared is not None:
            if wanted is not None:
                cache.note_lookup(target, found, wanted, forwards=False)
            target.counts.hits += 1
            if target.routed is not None:
                set_route(scope, target.routed)
            lines = list(prepared.headers)
            await send({"type": "http.response.start", "status": prepared.status, "headers": lines})
            await send({"type": "http.response.body", "body": prepared.body})
            return
    reading = GetResponder(service, cache, scope, receive, send)
    reading.target, reading.wanted = target, wanted
    reading.request = Request(
        method=known.form[0], headers=reading.headers, key_parts=known.key_parts,
        is_bare=known.form[1] is None,
    )  # fmt: skip
    await (reading.run(None, None) if found is None else reading.answer(found))


@final
class GetResponder(ReadResponder):
    """Answers one GET or HEAD without a prepared response, or a QUERY whose content was read."""

    async def run(self, fast_path: FastPath | None, plain: Plain | None) -> None:
        """Serve a stored response, or forward and perhaps store.

        Args:
            fast_path: is to know the next request like this one; None: this one is known, and so
                admitted already.
            plain: what the request has besides its URL (`FastPath.plain`); None: it is not plain.
        """
        if fast_path is not None:
            reason = find_target(self, plain)
            if reason is None and (plain is None or not self.target.terms.is_plain):
                reason = await identify(self)
            if reason is not None:
                await self.bypass(reason)
                return
        cache, target = self.cache, self.target
        if (
            target.unstorable
            and target.is_unstorable(
                cache.monotonic(), fragments=self.headers.has_any(FRAGMENT_HEADERS)
            )
            and (plain is not None or b"cache-control" not in self.headers)
        ):
            # A lookup would find nothing, and the response would not be stored.
            self._learn(fast_path)
            await pass_unstorable(self.service, cache, target, self.scope, self.receive, self.send)
            return
        key = target.key(self.request.all_parts())
        near = cache.nearby(target, key, self.headers)
        served = None if near is None else await self.hit_of(near)
        if served is not None:
            self._learn(fast_path)
            await self._serve(served)
            return
        try:
            found = self._lookup(key, plain)
            found = found if isinstance(found, LookupResult) else await found
        except StoreUnavailableError:
            await self.bypass(Bypass.STORE_AWAY)
            return
        if found.entry is not None:
            self._learn(fast_path)
        await self.answer(found, plain)

    def _lookup(self, key: bytes, plain: Plain | None) -> LookupResult | Awaitable[LookupResult]:
        cache, target = self.cache, self.target
        # A request with directives of its own may not share a response.
        if cache.may_claim(target, self.request, self.outer) and (
            plain is not None or b"cache-control" not in self.headers
        ):
            self.wanted = cache.wanted_claim(target, key)
        return cache.begin_lookup(target, key, self.headers, self.wanted)

    def _learn(self, fast_path: FastPath | None) -> None:
        """Let the next request like this one be known."""
        known = self.content is None and not self.request.carries_credentials
        if fast_path is not None and known:
            fast_path.learn(self.scope, self.target)

    def answer(self, found: LookupResult, plain: Plain | None = None) -> Awaitable[None]:
        """Serve or forward as the rules decide about the result of the lookup.

        Without `plain` the request may have directives of its own.
        """
        self.found = found
        decision: Decision
        if plain is not None and found.entry is None and not found.vary_miss:
            decision = _NOT_STORED
        else:
            decision = self.cache.decide(self.target, self.request, found)
        if self.wanted is not None:
            forwards = isinstance(decision, Forward) and decision.reason != "request"
            self.cache.note_lookup(self.target, found, self.wanted, forwards=forwards)
        return self._forward(decision) if isinstance(decision, Forward) else self._end(decision)

    async def hit_of(self, near: LookupResult) -> Serve | None:
        """Return the response of a near copy; None: the copy may not answer without a lookup."""
        self.found = near
        decision = self.decide()
        if not isinstance(decision, Serve) or decision.stale:
            return None
        return decision if near.confirm is None or await near.confirm() else None

    def _end(self, decision: Serve | OnlyIfCached) -> Awaitable[None]:
        """Answer without the application."""
        return self._serve(decision) if isinstance(decision, Serve) else self._gateway_timeout()

    # serve

    async def _serve(self, decision: Serve) -> None:
        """Serve a stored response, or one that another request fetched."""
        if decision.refresh:
            begin_refresh(self)
        fwd = None
        if self.waited is None:
            self.target.counts.hits += 1
        else:
            self.target.counts.collapsed += 1
            fwd = self.forwarded(self.waited, ttl=decision.ttl)
        await self.serve(decision, fwd=fwd)

    async def _gateway_timeout(self) -> None:
        """Answer 504: nothing stored, and the client wants nothing else (RFC 9111 5.2.1.7)."""
        # No Cache-Status. RFC 9211 section 2: "An intermediary SHOULD NOT append a Cache-Status
        # member to responses that it generates locally, even if that intermediary contains a cache,
        # unless the generated response is based upon a stored response".
        lines = (b"content-length", b"0"), (b"cache-control", b"no-store")
        headers = self.service.outgoing(Headers(lines), self.cache.clock)
        start = {"type": "http.response.start", "status": 504, "headers": headers}
        self.target.counts.forwards[Outcome.ONLY_IF_CACHED] += 1
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    # forward

    def _forward(self, decision: Forward, collapsing: Collapsing | None = None) -> Awaitable[None]:
        """Call the application, unless another request or process is fetching the response.

        `collapsing` is the waiting for other requests that is over; None: there was none.
        """
        cache, found, wanted = self.cache, self.found, self.wanted
        key = found.collapse_key()
        if collapsing is None and cache.flights.find(key) is not None:
            return self._join(decision)
        if decision.reason == "request" or (
            wanted is None and not cache.may_collapse(self.target, self.request)
        ):
            return self._call(decision, None)
        flight = cache.flights.lead(key, found.tokens)
        if cache.store.shared:
            flight.claim = None if wanted is None else cache.claims.taken(wanted)
            if flight.claim is None:
                return self._claim(decision, flight, collapsing or Collapsing(self))
        return self._call(decision, flight)

    async def _join(self, decision: Forward) -> None:
        """Wait for another request's response, where that may be taken."""
        collapsing = Collapsing(self)
        joined = await collapsing.with_requests(decision)
        if isinstance(joined, Forward):
            await self._forward(joined, collapsing)
        else:
            await self._end(joined)

    async def _claim(
        self, decision: Forward, flight: Flight[Entry], collapsing: Collapsing
    ) -> None:
        """Fetch the response for all processes, unless another one does."""
        fetched = await collapsing.with_processes(decision, flight)
        await (self._call(decision, flight) if fetched is None else self._serve(fetched))

    def _call(self, decision: Forward, flight: Flight[Entry] | None) -> Awaitable[None]:
        """Call the application, and store what it answers (`Exchange`)."""
        self.target.counts.forwards[decision.reason] += 1
        exchange = exchange_of(self, decision, flight)
        seconds = patience(self, decision) if decision.stale_if_error else 0.0
        return run_in_time(exchange, seconds) if seconds else exchange.run()

    async def bypass(self, reason: Bypass) -> None:
        """Pass the request on; nothing is looked up and nothing stored."""
        # Some reasons are found before the target is, such as a long URL.
        target = getattr(self, "target", None)
        counts = self.cache.tally.of_route(None) if target is None else target.counts
        await pass_by(self.service, self.cache, counts, reason, self.scope, self.receive, self.send)
