"""Background refresh (stale-while-revalidate): call the application while no client waits."""

import asyncio
from typing import Any, Final, final

from msgspec.structs import replace

from maxage.asgi.body_replay import replaying, whole_request
from maxage.asgi.types import Message, Scope
from maxage.cache.flights import Flight
from maxage.cache.target import REFRESH_PAUSE
from maxage.reads.collapsing import may_refresh
from maxage.reads.forward import CONDITIONAL, Exchange, exchange_of
from maxage.reads.responder import ReadResponder
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request
from maxage.store.entry import Entry

_OF_THE_CLIENT: Final = CONDITIONAL | {b"cache-control", b"pragma"}
"""Request fields that are the wishes of one client. A refresh is for all of them."""


@final
class BackgroundResponder(ReadResponder):
    """A responder without a client: the application's answer reaches the store alone."""

    def __init__(
        self, reading: ReadResponder, scope: Scope, request: Request, *, body_read: bool = False
    ) -> None:
        body = [] if body_read else [whole_request(reading.content or b"")]
        receive = replaying(body, _never)
        super().__init__(reading.service, reading.cache, scope, receive, self._discard)
        self.target, self.found, self.request = reading.target, reading.found, request
        self.content = reading.content

    async def serve(self, decision: Serve, *, fwd: bytes | None = None) -> None:
        """Send nothing."""

    async def _discard(self, message: Message) -> None:
        """Send nothing."""


async def _never() -> Message:
    # The client whose request began the refresh has its answer and may be gone. The application
    # must not take that for a client that hung up.
    await asyncio.Event().wait()
    raise AssertionError


def begin_refresh(reading: ReadResponder) -> None:
    """Call the application in the background, once for all requests that want it."""
    flight = reading.cache.begin_refresh(reading.target, reading.found)
    if flight is not None:
        reading.cache.background.spawn(_refresh(_own_request(reading), flight))


def _own_request(reading: ReadResponder) -> BackgroundResponder:
    """Return a request of our own for the same response, without its client's wishes."""
    scope = dict(reading.scope)
    lines = tuple(line for line in reading.headers.raw if line[0] not in _OF_THE_CLIENT)
    method = "GET" if reading.content is None else reading.request.method
    scope["method"], scope["headers"] = method, list(lines)
    # A file that the server sends by itself cannot be copied.
    extensions: dict[str, Any] = scope.get("extensions") or {}
    scope["extensions"] = {
        name: extensions[name] for name in extensions if not name.startswith("http.response.")
    }
    request = replace(reading.request, method=method, headers=Headers(lines))
    return BackgroundResponder(reading, scope, request)


async def _refresh(responder: BackgroundResponder, flight: Flight[Entry]) -> None:
    cache = responder.cache
    exchange = exchange_of(responder, cache.revalidation(responder.found), flight)
    try:
        if not await may_refresh(responder, flight):
            cache.flights.finish(flight)
            return
    except BaseException:
        cache.flights.finish(flight)
        raise
    try:
        await exchange.run()
    finally:
        if flight.in_vain:
            # A failing application is not called again at once.
            responder.target.refresh_after = cache.monotonic() + REFRESH_PAUSE


async def run_in_time(exchange: Exchange, seconds: float) -> None:
    """Run an exchange; where it has not begun to answer by then, a stale response answers.

    The application call goes on, and its answer is stored. To cancel it would throw away the one
    answer that ends the staleness: an application that is always a little too slow would never get
    one through, and each request would begin the same work again.
    """
    call = asyncio.ensure_future(exchange.run())
    try:
        await asyncio.wait({call}, timeout=seconds)
    except asyncio.CancelledError:
        call.cancel()
        await asyncio.wait({call})
        exchange.capture.finish_flight()  # a call that never began did not
        raise
    if call.done() or exchange.has_begun:
        await call
        return
    reading = exchange.reading
    exchange.reading = BackgroundResponder(
        reading, reading.scope, reading.request, body_read=exchange.body_read
    )
    reading.cache.background.spawn(_until_done(call))
    await exchange.answer_stale(reading, 504)


async def _until_done(call: asyncio.Future[None]) -> None:
    await call
