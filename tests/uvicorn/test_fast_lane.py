"""The fast lane sends, byte for byte, what the ordinary way would have sent."""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.uvicorn import FastLaneProtocol
from maxage.uvicorn.conditions import Lane, lane_to
from tests.support.asgi import Receive, Scope, Send
from tests.support.caching import background_done, cache_of, piece, start
from tests.support.clock import ManualClock
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


class App:
    """Answers with its run; some paths vary, some are large, some are not whole."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        path = scope["path"]
        headers = [(b"cache-control", b"public, max-age=20")]
        status = 404 if path == "/missing" else 200
        body = b"run %d" % self.runs * (5000 if path == "/large" else 1)
        if path == "/vary":
            headers.append((b"Vary", b"Accept-Encoding"))
        if path == "/tagged":
            headers += [(b"etag", b'"tag"'), (b"X-Twice", b"1"), (b"X-Twice", b"2")]
        await send(start(*headers, status=status))
        await send(piece(body))


class Transport(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5000), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


class Server:
    """A protocol class in front of an application, without sockets."""

    def __init__(self, app: Any, kind: type[HttpToolsProtocol], **options: Any) -> None:
        self.config = Config(app, log_config=None, lifespan="off", **options)
        self.config.load()
        self.kind = kind
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"uvicorn")]
        self.short = 0
        """Requests that were answered without a task."""

    def connect(self) -> tuple[HttpToolsProtocol, Transport]:
        """Open a connection."""
        transport = Transport()
        protocol = self.kind(self.config, self.state, {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        return protocol, transport

    async def send(self, data: bytes, *, pieces: int = 1) -> Transport:
        """Send bytes on a new connection and wait until they are answered."""
        protocol, transport = self.connect()
        size = max(1, len(data) // pieces)
        for begin in range(0, len(data), size):
            self.receive(protocol, data[begin : begin + size])
        await self.answered()
        protocol.connection_lost(None)
        return transport

    async def converse(self, requests: Sequence[bytes]) -> Transport:
        """Send requests on one connection, each when the one before it was answered."""
        protocol, transport = self.connect()
        for one in requests:
            self.receive(protocol, one)
            await self.answered()
        protocol.connection_lost(None)
        return transport

    def receive(self, protocol: HttpToolsProtocol, data: bytes) -> None:
        """Let a connection that is open receive bytes."""
        before = self.state.total_requests
        if protocol.parser is not None and not protocol.transport.is_closing():
            protocol.data_received(data)
        self.short += self.state.total_requests - before

    async def answered(self) -> None:
        """Wait until everything is answered."""
        while self.state.tasks:
            await asyncio.wait(set(self.state.tasks))


def request(
    method: str = "GET", target: str = "/plain", lines: Sequence[str] = (), version: str = "1.1"
) -> bytes:
    head = f"{method} {target} HTTP/{version}\r\nHost: testserver\r\n"
    return (head + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


LINES = st.lists(
    st.sampled_from(
        [
            "Accept-Encoding: gzip",
            "accept-encoding: br, gzip;q=0.5",
            "Accept-Encoding: gzip, zstd",
            'If-None-Match: "tag"',
            'If-None-Match: "x", "tag"',
            "If-Modified-Since: Wed, 21 Oct 2065 07:28:00 GMT",
            "Range: bytes=0-1",
            "Cache-Control: no-cache",
            "Cache-Control: only-if-cached",
            "Authorization: Bearer a",
            "Cookie: a=b",
            "Content-Length: 0",
            "Connection: close",
            "Connection: keep-alive",
            "Expect: 100-continue",
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Proto: https",
            "User-Agent: test",
            "Host: second",
        ]
    ),
    max_size=3,
    unique=True,
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE"]),
        st.sampled_from(
            ["/plain", "/vary", "/tagged", "/large", "/missing", "/plain?a=%20", "/pl%61in",
             "http://testserver/plain"]
        ),
        LINES,
        st.sampled_from(["1.1", "1.1", "1.0"]),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def shown(transport: Transport) -> tuple[bytes, bool]:
    return re.sub(rb"#\d+:", b"", transport.written), transport.closed


@given(
    rounds=st.lists(
        st.tuples(REQUESTS, st.integers(1, 9), st.sampled_from([0, 0.4, 3])), max_size=5
    ),
    compress=st.booleans(),
)
def test_it_sends_what_the_ordinary_way_sends(rounds: list[Any], compress: bool) -> None:
    """The same requests to two servers that differ in nothing else.

    Pipelined and in pieces, and one after the other, several times.
    """

    async def play() -> None:
        clocks = ManualClock(), ManualClock()
        caches = [cache_of(App(), clock, cache_compress=compress) for clock in clocks]
        fast = Server(caches[0], FastLaneProtocol)
        ordinary = Server(caches[1], HttpToolsProtocol)
        for path in ("/plain", "/vary", "/tagged", "/large", "/missing") * 3:
            for server, cache in zip((fast, ordinary), caches, strict=True):
                await server.send(request(target=path))
                await background_done(cache)
        fast.short = 0
        for requests, pieces, seconds in rounds:
            written = [request(*one) for one in requests]
            answers = []
            for server, cache, clock in zip((fast, ordinary), caches, clocks, strict=True):
                clock.advance(seconds)
                made = [await server.send(b"".join(written), pieces=pieces)]
                await background_done(cache)
                for _ in range(3):
                    made.append(await server.converse(written))
                    await background_done(cache)
                answers.append([shown(transport) for transport in made])
            assert answers[0] == answers[1]
        assert fast.state.total_requests == ordinary.state.total_requests

    asyncio.run(play())


async def test_what_follows_the_last_request_of_a_connection_is_not_processed() -> None:
    """RFC 9112 section 9.6: a server that says `close` must not process any further request."""
    server = await warm()
    before = server.state.total_requests
    last = request(target="/plain", lines=["Connection: keep-alive"], version="1.0")
    transport = await server.send(last + request(method="DELETE", target="/plain"))
    assert transport.closed
    assert server.state.total_requests == before + 1


async def warm(app: Any = None, **options: Any) -> Server:
    """A server whose plain hits are ready."""
    cache = cache_of(app or App(), ManualClock())
    server = Server(cache, FastLaneProtocol, **options)
    for path in ("/plain", "/vary", "/tagged", "/large") * 3:
        await server.send(request(target=path))
        await background_done(cache)
    server.short = 0
    return server


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request("GET", "/vary", ["Accept-Encoding: gzip"]) * 1,
        request("GET", "/large"),
        request(version="1.0"),
        request(lines=["Connection: close"]),
        request(lines=["User-Agent: a", "Accept: */*"]),
    ],
)
async def test_plain_hits_take_the_lane(data: bytes) -> None:
    """Nothing is started for them."""
    server = await warm()
    for _ in range(4):
        await server.send(data)
    assert server.short >= 2
    before = server.short
    await server.send(data)
    assert server.short == before + 1


async def test_pipelined_hits_are_answered_in_their_order() -> None:
    """At once, all of them."""
    server = await warm()
    transport = await server.send(request() + request("GET", "/tagged") + request())
    assert server.short == 3
    assert [m[1] for m in re.findall(rb"(run (\d))", transport.written)] == [b"1", b"3", b"1"]


async def test_a_hit_behind_a_miss_waits_for_its_turn() -> None:
    """It goes the ordinary way."""
    server = await warm()
    transport = await server.send(request("GET", "/new") + request())
    assert server.short == 0
    bodies = re.findall(rb"run (\d)", transport.written)
    assert bodies[1] == b"1"
    assert bodies[0] != b"1"


async def test_a_client_that_does_not_read_gets_nothing_more_at_once() -> None:
    """The ordinary way waits until there is room."""
    server = await warm()
    protocol, transport = server.connect()
    protocol.pause_writing()
    protocol.data_received(request())
    await asyncio.sleep(0)
    assert transport.written == b""
    protocol.resume_writing()
    while server.state.tasks:
        await asyncio.wait(set(server.state.tasks))
    assert b"run 1" in transport.written
    protocol.connection_lost(None)


async def test_the_limit_of_connections_holds() -> None:
    """503, as on the ordinary way."""
    server = await warm(limit_concurrency=2)
    idle, _ = server.connect()
    transport = await server.send(request())
    assert transport.written.startswith(b"HTTP/1.1 503")
    idle.connection_lost(None)


async def test_an_idle_connection_is_closed_after_the_timeout() -> None:
    """And not before, however many answers there were."""
    server = await warm(timeout_keep_alive=1)
    protocol, transport = server.connect()
    for _ in range(3):
        began = time.monotonic()
        protocol.data_received(request())
        await asyncio.sleep(0.4)
        in_time(time.monotonic() - began, 0.9)
        assert not transport.closed
    async with asyncio.timeout(PATIENCE):
        while not transport.closed:  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0.02)
    protocol.connection_lost(None)


async def test_hits_are_logged_like_all_requests(caplog: pytest.LogCaptureFixture) -> None:
    """By uvicorn's own logger, in its own words."""
    server = await warm()
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        await server.send(request("GET", "/plain"))
        await server.send(request("GET", "/plain", ["Content-Length: 0"]))
    lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
    assert len(lines) == 2
    assert lines[0] == lines[1] == '127.0.0.1:5000 - "GET /plain HTTP/1.1" 200'
    assert server.short == 1


def parses(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The request targets that are parsed from now on."""
    seen: list[bytes] = []
    parsed = FastLaneProtocol.on_url

    def on_url(self: FastLaneProtocol, url: bytes) -> None:
        seen.append(url)
        parsed(self, url)

    monkeypatch.setattr(FastLaneProtocol, "on_url", on_url)
    return seen


async def test_a_request_in_the_very_same_bytes_is_not_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On whatever connection it comes; a piece of one is parsed, and so is what is pipelined."""
    server = await warm()
    seen = parses(monkeypatch)
    one = request(lines=["User-Agent: a"])
    first = await server.converse([one])
    again = await server.converse([one, one])
    assert len(seen) == 1
    assert again.written == first.written * 2
    for pieces in (2, len(one)):
        assert (await server.send(one, pieces=pieces)).written == first.written
    assert (await server.send(one + one)).written == first.written * 2
    assert server.short == 7
    assert len(seen) > 3


@pytest.mark.parametrize(
    "last", [request(lines=["Connection: close"]), request(version="1.0"), request("DELETE")]
)
async def test_what_ends_a_connection_or_changes_something_is_parsed_each_time(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what can follow each other for ever is known by its bytes."""
    server = await warm()
    seen = parses(monkeypatch)
    for _ in range(3):
        await server.converse([last])
    assert len(seen) == 3


async def test_a_request_behind_the_rest_of_another_is_no_repetition() -> None:
    """What looks like a request there is a body."""
    server = await warm()
    await server.converse([request(), request()])
    answered = server.state.total_requests
    protocol, _ = server.connect()
    body = request()
    server.receive(protocol, request("PUT", "/other", [f"Content-Length: {2 * len(body)}"]))
    server.receive(protocol, body)
    server.receive(protocol, body)
    await server.answered()
    assert server.state.total_requests == answered + 1
    protocol.connection_lost(None)


@pytest.mark.parametrize(("size", "remembered"), [(1024, 1), (1025, 0), (60_000, 0)])
def test_long_targets_are_not_remembered(size: int, remembered: int) -> None:
    """A client could fill the memory with them."""
    lane = lane_to(cache_of(App()))
    assert isinstance(lane, Lane)
    for _ in range(2):
        assert lane.parsed(b"/x?".ljust(size, b"y"), "") == ("/x", b"/x", b"y" * (size - 3))
        assert len(lane.targets) == remembered


async def test_a_repeated_request_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """As if it had been parsed."""
    server = await warm()
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        await server.converse([request()] * 3)
    lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
    assert lines == ['127.0.0.1:5000 - "GET /plain HTTP/1.1" 200'] * 3
    assert server.short == 3


async def test_a_repeated_request_whose_response_was_purged_is_made_anew() -> None:
    """Its bytes are known, and answer nothing by themselves."""
    server = await warm()
    await server.converse([request()] * 3)
    await server.send(request("DELETE"))
    assert b"run 1" not in (await server.converse([request()])).written


async def test_a_purge_reaches_it() -> None:
    """The next answer is made anew."""
    server = await warm()
    await server.send(request("DELETE"))
    assert b"run 1" not in (await server.send(request())).written


def fastapi_app(*layers: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CacheMiddleware, settings=CacheSettings(), store=MemoryStore())
    for layer in layers:
        app.add_middleware(layer)

    @app.get("/plain")
    async def plain() -> dict[str, int]:
        return {"a": 1}

    return app


async def test_it_works_through_fastapi() -> None:
    """The layers that FastAPI puts around all others change nothing about a plain hit."""
    server = Server(fastapi_app(), FastLaneProtocol)
    answers = [(await server.send(request())).written for _ in range(6)]
    assert server.short >= 2
    assert b"hit" in answers[-1]


async def test_a_layer_that_it_does_not_know_keeps_it_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line says which."""
    server = Server(fastapi_app(CORSMiddleware), FastLaneProtocol)
    for _ in range(6):
        await server.send(request())
    assert server.short == 0
    said = [r.getMessage() for r in caplog.records if "fast lane" in r.getMessage()]
    assert said == ["The fast lane is off: CORSMiddleware lies between the server and the cache."]


def test_why_there_is_no_lane_is_said() -> None:
    """In words that name the setting."""
    off = CacheMiddleware(App(), CacheSettings(use_redis_cache=False))
    assert "the cache is switched off" in str(lane_to(off))
    near = CacheMiddleware(App(), CacheSettings(redis_url="redis://localhost:1"))
    assert "CACHE_NEAR_BYTES" in str(lane_to(near))


def test_a_uvicorn_that_lacks_what_is_needed_keeps_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at when the module is loaded."""
    from maxage.uvicorn import fast_lane as module

    assert module._missing() is None
    monkeypatch.delattr(module.httptools_impl, "STATUS_LINE")
    assert module._missing() == "STATUS_LINE"
