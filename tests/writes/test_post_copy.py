"""A GET answered from a POST with Content-Location, and the purges that must not be lost."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.datastructures import Headers

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore
from maxage.store.base import Store
from tests.support.asgi import (
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    call,
    http_scope,
    read_body,
    routed,
)
from tests.support.caching import piece, start
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


@dataclass(slots=True, kw_only=True)
class Echo:
    """Says method and run; a POST can be held before its handler changes anything, or after."""

    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"cache-control", b"max-age=60"),
        (b"content-location", b"/x"),
    )
    runs: int = 0
    posted: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    after: asyncio.Event | None = None
    length: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; after the answer a POST may go on for a while, as background tasks do."""
        await read_body(receive)
        self.runs += 1
        body = b"%b %d" % (scope["method"].encode(), self.runs)
        mine = scope["method"] == "POST"
        if mine and self.gate is not None:
            self.posted.set()
            await self.gate.wait()
        headers = list(self.headers)
        if self.length is not None:
            headers.append((b"content-length", self.length))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:2], "more_body": True})
        await send({"type": "http.response.body", "body": body[2:]})
        if mine and self.after is not None:
            self.posted.set()
            await self.after.wait()


def settings_of(**values: Any) -> CacheSettings:
    """POST answers are stored; budgets are generous, since the machine may be busy."""
    budgets = {"cache_read_budget": 5.0, "cache_write_budget": 5.0}
    return CacheSettings(**({"cache_store_post": True} | budgets | values))


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store of the middleware."""
    if request.param == "memory":
        return MemoryStore()
    return RedisStore(request.getfixturevalue("redis_url"), settings_of())


async def body_of(middleware: CacheMiddleware, method: str = "GET", **more: Any) -> bytes:
    """The body of the answer."""
    return (await call(middleware, method, **more)).body


async def test_a_get_is_answered_from_the_post_before_it(store: Store) -> None:
    """Also a HEAD, but never another POST."""
    app = Echo()
    middleware = CacheMiddleware(app, settings_of(), store=store)
    assert await body_of(middleware) == b"GET 1"
    assert await body_of(middleware, "POST", body=b"1") == b"POST 2"
    assert await body_of(middleware) == b"POST 2"
    assert (await call(middleware, "HEAD")).status == 200
    assert app.runs == 2
    assert await body_of(middleware, "POST", body=b"1") == b"POST 3"
    assert await body_of(middleware) == b"POST 3"
    await middleware.aclose()


async def test_by_default_it_is_not() -> None:
    """The POST purges, and the GET asks the handler."""
    middleware = CacheMiddleware(Echo(), settings_of(cache_store_post=False), store=MemoryStore())
    await call(middleware, "POST", body=b"1")
    assert await body_of(middleware) == b"GET 2"


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("PUT", None),
        ("PATCH", None),
        ("POST", ("authorization", "Bearer x")),
        ("POST", ("cookie", "a=b")),
        ("POST", ("cache-control", "no-store")),
        ("POST", ("x-http-method-override", "DELETE")),
        ("POST", ("X-HTTP-Method-Override", "DELETE")),
        ("POST", ("hx-request", "true")),
        ("POST", ("X-Requested-With", "XMLHttpRequest")),
    ],
)
async def test_other_methods_and_personal_answers_are_not_kept(
    method: str, header: tuple[str, str] | None
) -> None:
    """Only a POST without credentials, which asks for no fragment of a page."""
    middleware = CacheMiddleware(Echo(), settings_of(), store=MemoryStore())
    await call(middleware, method, headers=[header] if header else [], body=b"1")
    assert await body_of(middleware) == b"GET 2"


@pytest.mark.parametrize("look", [lambda h: h.get("x-tenant"), lambda h: dict(h)["x-tenant"]])
async def test_an_answer_for_a_header_that_was_looked_up_is_not_kept(look: Any) -> None:
    """The GET may have another tenant."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        head = [(b"cache-control", b"max-age=60"), (b"content-location", b"/x")]
        await send(start(*head))
        await send(piece(str(look(Headers(scope=scope))).encode()))

    middleware = CacheMiddleware(app, settings_of(), store=MemoryStore())
    for method, tenant in (("POST", "a"), ("GET", "b")):
        answer = await body_of(middleware, method, headers={"x-tenant": tenant})
        assert answer == tenant.encode()


async def test_an_answer_that_came_cut_is_not_kept() -> None:
    """Its Content-Length promised more."""
    middleware = CacheMiddleware(Echo(length=b"7"), settings_of(), store=MemoryStore())
    await call(middleware, "POST", body=b"1")
    assert await body_of(middleware) == b"GET 2"


async def test_an_answer_over_the_limit_is_passed_on_and_not_kept() -> None:
    """As for any body."""
    settings = settings_of(cache_max_body_bytes=5)
    middleware = CacheMiddleware(Echo(), settings, store=MemoryStore())
    assert await body_of(middleware, "POST", body=b"1") == b"POST 1"
    assert await body_of(middleware) == b"GET 2"


@pytest.mark.parametrize("hold", [False, True])
async def test_a_purge_while_the_handler_runs_is_not_lost(store: Store, hold: bool) -> None:
    """A PUT that was answered after the POST had read its data makes the copy worthless."""
    app = Echo(gate=asyncio.Event())
    settings = settings_of(cache_strict_hold=hold)
    middleware = CacheMiddleware(app, settings, store=store)
    posting = asyncio.create_task(call(middleware, "POST", body=b"1"))
    await app.posted.wait()
    await call(middleware, "PUT", body=b"2")
    assert app.gate is not None
    app.gate.set()
    await posting
    assert await body_of(middleware) == b"GET 3"
    await middleware.aclose()


@pytest.mark.parametrize("hold", [False, True])
async def test_nothing_is_kept_while_a_replica_may_lag(hold: bool) -> None:
    """The handler may have read what it answers with from there, and the POST itself purges."""
    settings = settings_of(cache_strict_hold=hold, cache_replica_lag=60)
    middleware = CacheMiddleware(Echo(), settings, store=MemoryStore(replica_lag=60))
    assert await body_of(middleware, "POST", body=b"1") == b"POST 1"
    assert await body_of(middleware) == b"GET 2"


async def test_a_purge_between_the_answer_and_its_end_is_not_lost(store: Store) -> None:
    """The POST's answer is out, its application call has not returned, and a PUT is answered."""
    app = Echo(after=asyncio.Event())
    middleware = CacheMiddleware(app, settings_of(), store=store)
    posting = asyncio.create_task(call(middleware, "POST", body=b"1"))
    await app.posted.wait()
    await call(middleware, "PUT", body=b"2")
    assert app.after is not None
    app.after.set()
    await posting
    assert await body_of(middleware) == b"GET 3"
    await middleware.aclose()


async def test_a_purge_after_the_post_drops_its_answer(store: Store) -> None:
    """It is a stored response like any other."""
    middleware = CacheMiddleware(Echo(), settings_of(), store=store)
    await call(middleware, "POST", body=b"1")
    await call(middleware, "PUT", body=b"2")
    assert await body_of(middleware) == b"GET 3"
    await middleware.aclose()


async def nothing() -> None:
    """Return at once."""


class Messages:
    """Answers a POST with the given messages and a GET with `GET`; then it may do something."""

    def __init__(self, *messages: Message, then: Callable[[], Awaitable[None]] = nothing) -> None:
        self.messages, self.then = messages, then
        self.middleware = CacheMiddleware(self, settings_of(), store=MemoryStore())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"GET"})
            return
        for message in self.messages:
            await send(message)
        await self.then()

    @property
    def bytes_copied(self) -> int:
        """Bytes that the middleware counts as copied or waiting to be written."""
        assert self.middleware.cache is not None
        return self.middleware.cache.pending_writes.reserved_bytes


def answer_of(*lengths: bytes) -> Message:
    """The start of an answer to POST that may be stored, with these lines of Content-Length."""
    lines = [(b"content-length", length) for length in lengths]
    headers = [(b"cache-control", b"max-age=60"), (b"content-location", b"/x"), *lines]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@pytest.mark.parametrize(
    "lengths",
    [
        [b"4", b"4"],
        [b"4", b"7"],
        [b"abc"],
        [b""],
        [b"+4"],
        [b"-4"],
        [b"4 4"],
        [b"4, 4"],
        [b"0_4"],
        [b"4.0"],
        [b"0x4"],
        [b"\xb2"],
        ["٤".encode()],
        [b"9" * 5000],
        [b"0" * 5000 + b"4"],
        [b"3"],
        [b"5"],
    ],
    ids=lambda lengths: repr(lengths)[:20],
)
async def test_an_answer_without_a_valid_length_of_its_body_is_passed_on_and_not_kept(
    lengths: list[bytes],
) -> None:
    """It cannot be told whether the body is whole (RFC 9112 section 6.3)."""
    site = Messages(answer_of(*lengths), piece(b"PO", more=True), piece(b"ST"))
    answer = await call(site.middleware, "POST", body=b"1")
    assert (answer.status, answer.body) == (200, b"POST")
    assert answer.headers_named("content-length") == lengths
    assert await body_of(site.middleware) == b"GET"
    assert site.bytes_copied == 0


@pytest.mark.parametrize("lengths", [[], [b"4"], [b"04"]], ids=repr)
async def test_an_answer_whose_body_has_the_declared_length_is_kept(lengths: list[bytes]) -> None:
    """So is one that declares no length."""
    site = Messages(answer_of(*lengths), piece(b"PO", more=True), piece(b"ST"))
    await call(site.middleware, "POST", body=b"1")
    assert await body_of(site.middleware) == b"POST"


@pytest.mark.parametrize("lengths", [[], [b"0"]], ids=repr)
async def test_an_answer_whose_only_piece_has_no_bytes_is_kept_as_empty(
    lengths: list[bytes],
) -> None:
    """ASGI lets an application leave `body` out."""
    site = Messages(answer_of(*lengths), {"type": "http.response.body"})
    await call(site.middleware, "POST", body=b"1")
    assert await body_of(site.middleware) == b""


async def test_an_answer_without_a_body_message_is_not_kept() -> None:
    """The application did not end it."""
    site = Messages(answer_of())
    await call(site.middleware, "POST", body=b"1", raises=False)
    assert await body_of(site.middleware) == b"GET"


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
async def test_an_answer_that_the_server_sends_from_a_file_is_not_kept(kind: str) -> None:
    """Its bytes do not pass through the middleware, also if others do."""
    file = {"type": kind, "path": "/tmp/file", "file": 3, "more_body": True}
    site = Messages(answer_of(), file, piece(b"POST"))
    extensions: dict[str, Any] = {kind: {}}
    await call(site.middleware, "POST", body=b"1", extensions=extensions, raises=False)
    assert await body_of(site.middleware) == b"GET"


async def test_an_answer_of_an_application_that_saw_its_client_leave_is_not_kept() -> None:
    """The application may have stopped half way and ended its answer in good order."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            while (await receive())["type"] != "http.disconnect":
                pass
            await send(answer_of())
            await send(piece(b"half"))
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(piece(b"GET"))

    middleware = CacheMiddleware(app, settings_of(), store=MemoryStore())
    await call(middleware, "POST", body=b"1", disconnect_after=0, raises=False)
    assert await body_of(middleware) == b"GET"


@pytest.mark.parametrize("how", ["exception", "cancelled"])
async def test_an_answer_whose_application_fails_is_not_kept_and_frees_its_bytes(how: str) -> None:
    """Else no response could be stored any more after some failures."""
    answered = asyncio.Event()

    async def fail() -> None:
        answered.set()
        if how == "exception":
            raise RuntimeError("after the answer")
        await asyncio.Event().wait()

    site = Messages(answer_of(), piece(b"POST"), then=fail)
    exchange = Exchange(site.middleware, http_scope("POST", "/x"), body=b"1").start()
    await asyncio.wait_for(answered.wait(), PATIENCE)
    if how == "cancelled":
        exchange.cancel()
    assert (await exchange.finish()).exception is not None
    assert site.bytes_copied == 0
    assert await body_of(site.middleware) == b"GET"
