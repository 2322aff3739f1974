"""The proxy that conformance suites are run against passes on what it gets, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.standards.proxy import Proxy
from tests.support.asgi import call

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def origin(answer: bytes, asked: list[bytes]) -> AsyncIterator[Proxy]:
    """A server that notes each request and gives one answer, and a proxy in front of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        asked.append(head + await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_request_and_answer_pass_unchanged() -> None:
    """Line by line and byte by byte, but for what is about one connection."""
    asked: list[bytes] = []
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 201 Made\r\nX-One: a\r\nConnection: x-two\r\nX-Two: b\r\nx-one: c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with origin(answer, asked) as proxy:
        headers = [("x-a", "1"), ("x-a", "2"), ("content-length", "4"), ("te", "trailers")]
        got = await call(proxy, "PUT", target=b"/p%20q?r=%73", headers=headers, body=b"body")
    assert got.status == 201
    assert got.headers == [
        (b"X-One", b"a"), (b"Connection", b"x-two"), (b"X-Two", b"b"), (b"x-one", b"c"),
    ]  # fmt: skip
    assert got.chunks == [b"abc", b"de", b""]
    (request,) = asked
    assert request.startswith(b"PUT /p%20q?r=%73 HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\nbody")
    assert b"\r\nx-a: 1\r\nx-a: 2\r\n" in request
    assert b"trailers" not in request


async def test_an_origin_that_hangs_up_is_an_exception() -> None:
    """As of any application that fails."""
    async with origin(b"", []) as proxy:
        got = await call(proxy, raises=False)
    assert isinstance(got.exception, asyncio.IncompleteReadError)
