"""One GET or HEAD, told from top to bottom.

    known request? or admission -> near copy? --------------> serve
                                   \\-> lookup -> decide ----> serve
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
from maxage.cache.collapse import Flight
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.observe.words import Bypass, Outcome
from maxage.reads.admission import admit
from maxage.reads.background_refresh import begin_refresh, run_in_time
from maxage.reads.collapsing import Collapsing, patience
from maxage.reads.fast_path import FastPath
from maxage.reads.forward import Exchange
from maxage.reads.known_request import KnownRequest, Plain
from maxage.reads.responder import ReadResponder, set_route
from maxage.rfc9111.decisions import Decision, Forward, OnlyIfCached, Serve
from maxage.rfc9111.message import Headers, Request
from maxage.store.entry import Entry
from maxage.store.lookup_result import LookupResult


async def answer_get(  # noqa: PLR0917 - as ASGI calls an application
    fast_path: FastPath,
    known: KnownRequest | None,
    plain: Plain | None,
    scope: Scope,
    receive: Receive,
    send: Send,
    content: bytes | None = None,
) -> None:
    """Answer one GET or HEAD, or a QUERY whose content was read.

    Args:
        fast_path: of the middleware.
        known: the known request that this one repeats (`FastPath.recalled`), if any.
        plain: what it has besides its URL (`FastPath.plain`); None: it is not plain.
        scope: of the request.
        receive: of the request.
        send: of the request.
        content: of a QUERY.
    """
    reading: GetResponder | None = None
    target: Target | None = None
    if known is not None:
        prepared = fast_path.near(known, scope["headers"])
        if prepared is not None and (prepared.confirm is None or await prepared.confirm()):
            known.route.counts.hits += 1
            routed = known.routed if known.is_remembered else fast_path.routed(known, scope)
            if routed is not None:
                set_route(scope, routed)
            # A new list: layers around the middleware may add headers.
            headers = list(prepared.headers)
            await send(
                {"type": "http.response.start", "status": prepared.status, "headers": headers}
            )
            await send({"type": "http.response.body", "body": prepared.body})
            return
        target = known.target
    if target is None:
        reading = GetResponder(fast_path, scope, receive, send, content)
        reason = await admit(reading, plain)
        if reason is not None:
            await reading.bypass(reason)
            return
        target = reading.target
    if (
        target.unstorable
        and target.is_unstorable(fast_path.cache.monotonic())
        and not _has_directives(reading)
    ):
        # A lookup would find nothing, and the response would not be stored.
        if reading is not None:
            reading.learn()
        service, cache = fast_path.service, fast_path.cache
        await pass_unstorable(service, cache, target, scope, receive, send)
        return
    if reading is not None:
        await reading.run()
    elif known is not None:
        await _answer_known(fast_path, known, target, scope, receive, send)


async def _answer_known(  # noqa: PLR0917 - as ASGI calls an application
    fast_path: FastPath,
    known: KnownRequest,
    target: Target,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Look a known request up; all requests that share the lookup share its prepared response."""
    cache, found, wanted = fast_path.cache, None, None
    if fast_path.may_prepare():
        headers = Headers.of(tuple(map(pair, scope["headers"])))
        if known.purges != cache.purger.serial:
            # This process has purged something since the last lookup.
            known.purges = cache.purger.serial
            if known.form[0] == "GET":
                wanted = cache.claim_if_absent(target, known.key)
        try:
            found = await cache.lookup(target, known.key, headers, wanted)
        except StoreUnavailableError:
            reading = GetResponder(fast_path, scope, receive, send)
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
    reading = GetResponder(fast_path, scope, receive, send)
    reading.target, reading.wanted = target, wanted
    reading.request = Request(
        method=known.form[0], headers=reading.headers, key_parts=known.key_parts
    )
    await reading.run(found, learns=False)


def _has_directives(reading: "GetResponder | None") -> bool:
    """Return whether the request has directives of its own; a known one has none."""
    return reading is not None and b"cache-control" in reading.headers


@final
class GetResponder(ReadResponder):
    """Answers one GET or HEAD without a prepared near copy, or a QUERY whose content was read."""

    def __init__(
        self,
        fast_path: FastPath,
        scope: Scope,
        receive: Receive,
        send: Send,
        content: bytes | None = None,
    ) -> None:
        super().__init__(fast_path.service, fast_path.cache, scope, receive, send)
        self.content = content
        self._fast_path: Final = fast_path

    async def run(self, found: LookupResult | None = None, *, learns: bool = True) -> None:
        """Serve a stored response, or forward and perhaps store; the request is admitted.

        Args:
            found: the result of its lookup, where one was made.
            learns: whether the next request like this one is to be known.
        """
        key = self.target.key(self.request.all_parts)
        near = None if found is not None else self.cache.nearby(self.target, key, self.headers)
        decision: Decision | None = None if near is None else await self.hit_of(near)
        if decision is None:
            try:
                self.found = found or await self._lookup(key)
            except StoreUnavailableError:
                await self.bypass(Bypass.STORE_AWAY)
                return
            decision = self.decide()
            if self.wanted is not None:
                forwards = isinstance(decision, Forward) and decision.reason != "request"
                self.cache.note_lookup(self.target, self.found, self.wanted, forwards=forwards)
        if learns and self.found.entry is not None:
            self.learn()
        await self._answer(decision)

    def _lookup(self, key: bytes) -> Awaitable[LookupResult]:
        cache, target = self.cache, self.target
        # A request with directives of its own may not share a response.
        if b"cache-control" not in self.headers and cache.may_claim(
            target, self.request, self.outer
        ):
            self.wanted = cache.wanted_claim(target, key)
        return cache.lookup(target, key, self.headers, self.wanted)

    def learn(self) -> None:
        """Let the next request like this one be known."""
        if self.content is None and not self.request.carries_credentials:
            self._fast_path.learn(self.scope, self.target)

    async def hit_of(self, near: LookupResult) -> Serve | None:
        """Return the response of a near copy; None: the copy may not answer without a lookup."""
        self.found = near
        decision = self.decide()
        if not isinstance(decision, Serve) or decision.stale:
            return None
        return decision if near.confirm is None or await near.confirm() else None

    def _answer(self, decision: Decision) -> Awaitable[None]:
        if isinstance(decision, Serve):
            return self._serve(decision)
        if isinstance(decision, OnlyIfCached):
            return self._gateway_timeout()
        return self._forward(decision)

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
        lines = [(b"content-length", b"0"), (b"cache-control", b"no-store")]
        headers = self.service.outgoing(lines, now=self.cache.clock())
        start = {"type": "http.response.start", "status": 504, "headers": headers}
        self.target.counts.forwards[Outcome.ONLY_IF_CACHED] += 1
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    # forward

    async def _forward(self, decision: Forward) -> None:
        """Call the application, unless another request or process is fetching the response."""
        cache, collapsing = self.cache, None
        if cache.flights.find(self.found.collapse_key) is not None:
            collapsing = Collapsing(self)
            joined = await collapsing.with_requests(decision)
            if not isinstance(joined, Forward):
                await self._answer(joined)
                return
            decision = joined
        flight: Flight[Entry] | None = None
        if decision.reason != "request" and (
            self.wanted is not None or cache.may_collapse(self.target, self.request)
        ):
            flight = cache.flights.lead(self.found.collapse_key, self.found.tokens)
            flight.claim = cache.claim_taken(self.wanted)
            if flight.claim is None and cache.store.shared:
                collapsing = collapsing or Collapsing(self)
                fetched = await collapsing.with_processes(decision, flight)
                if fetched is not None:
                    await self._serve(fetched)
                    return
        self.target.counts.forwards[decision.reason] += 1
        exchange = Exchange(self, decision, flight)
        seconds = patience(self, decision) if decision.stale_if_error else 0.0
        if seconds:
            await run_in_time(exchange, seconds)
        else:
            await exchange.run()

    async def bypass(self, reason: Bypass) -> None:
        """Pass the request on; nothing is looked up and nothing stored."""
        # The target of a long URL is not sought.
        is_long = reason is Bypass.LONG_URL
        counts = self.cache.tally.of_route(None) if is_long else self.target.counts
        await pass_by(self.service, self.cache, counts, reason, self.scope, self.receive, self.send)
