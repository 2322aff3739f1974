"""Asking the application in the background: what a stored response is refreshed by."""

import asyncio
from typing import Any, Final, final

from msgspec.structs import replace

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.responder import ReadResponder
from maxage.asgi.types import Message, Scope
from maxage.cache.collapse import Flight
from maxage.reads.collapsing import may_refresh
from maxage.reads.forward import CONDITIONAL, Exchange
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request
from maxage.rfc9111.verdicts import MayNotStore, Reason
from maxage.store.entry import Entry

_OF_THE_CLIENT: Final = CONDITIONAL | {b"cache-control", b"pragma"}
"""Request fields that are one client's wishes. A refresh is ours, and for everybody."""

_SAYS_NOTHING: Final = frozenset(
    {Reason.CONDITIONAL, Reason.CREDENTIALS, Reason.PARTIAL, Reason.SERVER_ERROR}
)
"""Reasons not to store an answer that do not show that the stored response is outdated."""


@final
class BackgroundResponder(ReadResponder):
    """A responder that nobody listens to: what it is to send is only for the store."""

    def __init__(
        self, reading: ReadResponder, scope: Scope, request: Request, *, body_read: bool = False
    ) -> None:
        super().__init__(reading.service, reading.cache, scope, self._receive, self._discard)
        self.target, self.found, self.request = reading.target, reading.found, request
        self.content = reading.content
        self._body_read = body_read
        self.status: int | None = None
        """What the application answered itself, or None."""

    async def serve(self, decision: Serve, *, fwd: CacheStatus | None = None) -> None:
        """Send nothing: nobody is there."""

    async def _discard(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]

    async def _receive(self) -> Message:
        # The client of the request that began it is answered and gone; the application must not
        # take that for a client that hung up.
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": self.content or b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError


def begin_refresh(reading: ReadResponder) -> None:
    """Ask the application in the background; one refresh, however many requests want it."""
    flight = reading.cache.begin_refresh(reading.target, reading.found)
    if flight is not None:
        reading.cache.background.spawn(_refresh(_own_request(reading), flight))


def _own_request(reading: ReadResponder) -> BackgroundResponder:
    """Return a request of our own for what the reading asks for, without its client's wishes."""
    scope = dict(reading.scope)
    lines = tuple(line for line in reading.headers.raw if line[0] not in _OF_THE_CLIENT)
    method = "GET" if reading.content is None else reading.request.method
    scope["method"], scope["headers"] = method, list(lines)
    # A file that the server sends by itself cannot be copied.
    extensions: dict[str, Any] = scope.get("extensions") or {}
    scope["extensions"] = {
        name: extensions[name] for name in extensions if not name.startswith("http.response.")
    }
    request = replace(reading.request, method=method, headers=Headers.of(lines))
    return BackgroundResponder(reading, scope, request)


async def _refresh(unheard: BackgroundResponder, flight: Flight[Entry]) -> None:
    cache = unheard.cache
    exchange = Exchange(unheard, cache.revalidate(unheard.found), flight)
    try:
        if not await may_refresh(unheard, flight):
            cache.finish(flight)
            return
    except BaseException:
        cache.finish(flight)
        raise
    try:
        await exchange.run()
    finally:
        if flight.in_vain:
            cache.refresh_failed(unheard.target)
    if _shows_outdated(exchange.verdict, unheard.status):
        # It is no longer what the application would answer, and its successor is for nobody else.
        cache.drop(unheard.found)


def _shows_outdated(verdict: object, status: int | None) -> bool:
    if not isinstance(verdict, MayNotStore) or status is None:
        return False
    # The other 4xx are about who asked: a client whose request begins a refresh, and is refused,
    # takes nothing out of the store.
    about_the_resource = status < 400 or status in (404, 410)
    return about_the_resource and verdict.reason in set(Reason) - _SAYS_NOTHING


async def run_in_time(exchange: Exchange, seconds: float) -> None:
    """Run an exchange; where it has not begun to answer by then, a stale response answers.

    The application call goes on, and what it brings is stored. To cancel it would throw away the
    one answer that ends the staleness: an application that is always a little too slow would never
    get one through, and each request would begin the same work again.
    """
    call = asyncio.ensure_future(exchange.run())
    try:
        await asyncio.wait({call}, timeout=seconds)
    except asyncio.CancelledError:
        call.cancel()
        await asyncio.wait({call})
        exchange.cache.finish(exchange.flight)  # a call that never began did not
        raise
    if call.done() or exchange.begun:
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
