"""A near copy takes few bytes, all included: measured by what the process has allocated."""

import asyncio
import gc
import subprocess
import sys
import tracemalloc
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maxage import CacheMiddleware, CacheSettings
from maxage.redis_store.near.near_cache import NearCache
from maxage.rfc9111.message import Headers
from maxage.store.codec import Codec
from maxage.store.entry import Entry
from tests.support.asgi import call, http_scope
from tests.support.caching import background_done
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio

BODY = 1024
WARM_UP = 600
"""URLs after which the middleware remembers as many as it ever will without more copies."""


async def read(request: Request) -> Response:
    headers = {"cache-control": "max-age=600", "etag": '"0123456789abcdef01234567"'}
    return Response(b"." * BODY, media_type="text/plain", headers=headers)


async def write(_: Request) -> Response:
    return Response()


async def opened(url: str, near_bytes: int, namespace: str) -> CacheMiddleware:
    """A middleware whose near cache listens."""
    settings = CacheSettings(
        redis_url=url,
        cache_namespace=namespace,
        cache_near="prompt",
        cache_near_bytes=near_bytes,
        cache_read_budget=5.0,
        cache_write_budget=5.0,
    )
    routes = [Route("/items/{number}", read), Route("/items", write, methods=["POST"])]
    middleware = CacheMiddleware(Starlette(routes=routes), settings)
    assert middleware.cache is not None
    await middleware.cache.store.open()
    near = near_of(middleware)
    await eventually(lambda: near._usable(near._clock()))
    return middleware


async def filled(url: str, near_bytes: int, urls: int) -> CacheMiddleware:
    """A middleware with so many stored responses that it has not read."""
    middleware = await opened(url, near_bytes, f"size{uuid.uuid4().hex[:8]}")
    assert middleware.cache is not None
    store = middleware.cache.store
    await call(middleware, path="/items/example")
    await background_done(middleware)
    example = await entry_of(middleware, "/items/example")
    written: list[tuple[bytes, bytes]] = []
    for number in range(urls):
        entry = await entry_of(middleware, f"/items/{number}", example)
        written.append((entry.key, Codec().encode(entry)))
    assert await store.write(written, keep_for=600, tokens={})
    near = near_of(middleware)
    await eventually(lambda: near._usable(near._clock()))
    return middleware


async def entry_of(middleware: CacheMiddleware, path: str, example: Entry | None = None) -> Entry:
    """The stored response of a path, or one like the example."""
    assert middleware.cache is not None
    store, scope = middleware.cache.store, http_scope(path=path)
    target = middleware.targets.find(scope, Headers.copied(scope["headers"]))
    reply = await store.read((target.plain_key,), target.groups)
    if example is None:
        frame = reply.values[0]
        assert isinstance(frame, bytes)
        entry = Codec().decode(frame, target.plain_key)
        assert isinstance(entry, Entry)
        return entry
    lines = tuple(
        (name, b'"%024d"' % hash(path) if name == b"etag" else value)
        for name, value in example.stored.headers
    )
    stored = replace(
        example.stored, headers=Headers.copied(lines), body=path.encode().ljust(BODY, b".")
    )
    tokens = tuple((g, t) for g, t in zip(target.groups, reply.tokens, strict=True) if t)
    return Entry(key=target.plain_key, stored=stored, tokens=tokens)


def near_of(middleware: CacheMiddleware) -> NearCache:
    near = middleware.cache.store.near if middleware.cache is not None else None
    assert isinstance(near, NearCache)
    return near


async def ask(middleware: CacheMiddleware, numbers: range) -> None:
    """Ask for each URL twice: a lookup, and a hit of its copy.

    On a busy machine the near cache may hear too little from the server to keep copies for a while.
    """
    near = near_of(middleware)
    for first in range(numbers.start, numbers.stop, 20):
        await eventually(lambda: near._usable(near._clock()))
        for _ in range(2):
            batch = range(first, min(first + 20, numbers.stop))
            await asyncio.gather(*(call(middleware, path=f"/items/{n}") for n in batch))


async def keep(middleware: CacheMiddleware, numbers: range) -> None:
    """Ask until there is a copy of each: what is remembered of URLs without one takes room too."""
    near = near_of(middleware)
    wanted = len(near) + len(numbers)
    async with asyncio.timeout(PATIENCE):
        while len(near) < wanted:
            await ask(middleware, numbers)


async def growth(url: str, namespace: str, urls: int) -> float:
    """Bytes of memory by which this process grows for each copy."""
    middleware = await opened(url, 1_000_000_000, namespace)
    near = near_of(middleware)
    await ask(middleware, range(WARM_UP))
    before = resident(), len(near)
    await keep(middleware, range(WARM_UP, WARM_UP + urls))
    copies = len(near) - before[1]
    return (resident() - before[0]) / copies


def resident() -> int:
    """The bytes of memory that this process has (VmRSS)."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a process")
async def test_a_process_grows_by_at_most_1600_bytes_for_each_copy_of_a_kilobyte(
    redis_server: RedisServer,
) -> None:
    """With all that its memory has of gaps: nothing that is freed soon lies between the copies."""
    urls = 4000
    middleware = await filled(redis_server.url, 1_000_000_000, WARM_UP + urls)
    assert middleware.cache is not None
    namespace = middleware.cache.settings.cache_namespace
    await middleware.aclose()
    code = f"""
import asyncio
from tests.redis_store.near.test_size_of_a_copy import growth
print(asyncio.run(growth({redis_server.url!r}, {namespace!r}, {urls})))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True
    )
    assert 1024 < float(done.stdout) <= 1600


async def test_a_copy_of_a_kilobyte_takes_at_most_1550_allocated_bytes(
    redis_server: RedisServer,
) -> None:
    """With its body, its head, its places in all tables, and what is remembered of its URL."""
    urls = range(WARM_UP, WARM_UP + 700)
    middleware = await filled(redis_server.url, 1_000_000_000, urls.stop)
    near = near_of(middleware)
    tracemalloc.start()
    try:
        await ask(middleware, range(WARM_UP))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0], near.copies.used_bytes, len(near)
        await keep(middleware, urls)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0], near.copies.used_bytes, len(near)
    finally:
        tracemalloc.stop()
    taken, counted, copies = (b - a for a, b in zip(before, after, strict=True))
    assert taken / copies <= 1550
    assert taken <= counted * 1.1, "the setting counts too little"
    await middleware.aclose()


async def test_the_room_holds_as_many_copies_as_is_said(redis_server: RedisServer) -> None:
    """40,000 of 1 KB in 64 MiB: 2,000 in the twentieth part."""
    room = 64 * 1024 * 1024 // 20
    middleware = await filled(redis_server.url, room, 2400)
    await ask(middleware, range(2400))
    assert near_of(middleware).copies.used_bytes <= room
    assert len(near_of(middleware)) >= 1850
    await middleware.aclose()
