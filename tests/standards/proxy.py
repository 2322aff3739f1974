"""A proxying ASGI application behind the cache, for conformance suites that bring their own origin.

    ORIGIN=127.0.0.1:8000 python -m uvicorn tests.standards.proxy:preset --no-date-header

`preset` has `CacheSettings.standards()`, `defaults` the defaults with `CACHE_EXPIRATION=0`. Header
lines and content pass unchanged, but for what belongs to one connection.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

from maxage import CacheMiddleware, CacheSettings
from tests.support.asgi import Pairs, Receive, Scope, Send, serve_lifespan

OF_ONE_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"te", b"upgrade", b"expect"})
_END: Final = b"\r\n"


class Proxy:
    """Asks the origin on a connection of its own for each request; passes on piece by piece."""

    def __init__(self, origin: str) -> None:
        """Take the origin as `host:port`."""
        self._host, _, self._port = origin.rpartition(":")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        reader, writer = await asyncio.open_connection(self._host, int(self._port))
        try:
            await self._ask(writer, scope, receive)
            await self._answer(reader, send, head_only=scope["method"] == "HEAD")
        finally:
            writer.close()

    async def _ask(self, writer: asyncio.StreamWriter, scope: Scope, receive: Receive) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        framing = (b"content-length", b"transfer-encoding")
        lines = [
            line
            for line in scope["headers"]
            if line[0] not in OF_ONE_CONNECTION and line[0] not in framing
        ]
        lines.append((b"connection", b"close"))
        if any(name in framing for name, _ in scope["headers"]):
            lines.append((b"content-length", b"%d" % len(content)))
        head = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target)]
        head += [b"%b: %b" % line for line in lines]
        writer.write(_END.join((*head, b"", content)))
        await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, send: Send, *, head_only: bool) -> None:
        status, headers = await _head(reader)
        while status < 200:
            # ASGI has no way to pass an interim response on.
            status, headers = await _head(reader)
        kept = [line for line in headers if not _is_of_the_origin(line)]
        # uvicorn raises for statuses that HTTP does not have.
        await send({"type": "http.response.start", "status": min(status, 599), "headers": kept})
        if not head_only and status not in (204, 304):
            async for piece in _pieces(reader, headers):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _head(reader: asyncio.StreamReader) -> tuple[int, Pairs]:
    status = int((await reader.readuntil(_END)).split(b" ", 2)[1])
    headers: Pairs = []
    while (line := await reader.readuntil(_END)) != _END:
        name, _, value = line.partition(b":")
        headers.append((name, value.strip()))
    return status, headers


async def _pieces(reader: asyncio.StreamReader, headers: Pairs) -> AsyncIterator[bytes]:
    values = {name.lower(): value for name, value in headers}
    if values.get(b"transfer-encoding", b"").lower() == b"chunked":
        while size := int((await reader.readuntil(_END)).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(len(_END))
        return
    left = int(values.get(b"content-length", b"%d" % (1 << 62)))
    while left and (piece := await reader.read(min(left, 65_536))):
        left -= len(piece)
        yield piece


def _is_of_the_origin(line: tuple[bytes, bytes]) -> bool:
    """Whether the line is about the connection to the origin, and not the origin's test case."""
    name, value = line[0].lower(), line[1].lower()
    return (
        name == b"transfer-encoding"
        or (name == b"connection" and value in (b"close", b"keep-alive"))
        or (name == b"keep-alive" and value.startswith(b"timeout="))
    )


_proxy: Final = Proxy(os.environ.get("ORIGIN", "127.0.0.1:8000"))
preset: Final = CacheMiddleware(_proxy, CacheSettings.standards())
defaults: Final = CacheMiddleware(_proxy, CacheSettings(cache_expiration=0))
