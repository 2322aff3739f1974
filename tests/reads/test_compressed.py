"""A cache around GZipMiddleware stores what was compressed: hits compress nothing again."""

import asyncio
import gzip
import uuid
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.middleware.gzip import GZipMiddleware, GZipResponder

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from tests.support.asgi import Recorded, call
from tests.support.caching import background_done, status_of
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio

BODY = b"A line that is worth compressing.\n" * 2000
ENCODINGS = {"gzip": "gzip, deflate", "identity": "identity"}


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what Starlette's compressor was given, in their order."""
    sizes: list[int] = []
    compress = GZipResponder.apply_compression

    async def counted(self: GZipResponder, body: bytes, *, more_body: bool) -> bytes:
        sizes.append(len(body))
        return await compress(self, body, more_body=more_body)

    monkeypatch.setattr(GZipResponder, "apply_compression", counted)
    return sizes


def site(settings: CacheSettings, *, outermost: bool = True) -> tuple[Any, CacheMiddleware]:
    """An application that compresses, with the cache around that, or inside of it."""
    app = FastAPI()

    @app.get("/text", response_class=PlainTextResponse)
    async def text() -> str:
        return BODY.decode()

    store = MemoryStore() if settings.redis_url is None else None
    if outermost:
        cached = CacheMiddleware(GZipMiddleware(app), settings, store=store)
        return cached, cached
    cached = CacheMiddleware(app, settings, store=store)
    return GZipMiddleware(cached), cached


async def ask(app: Any, encoding: str) -> Recorded:
    return await call(app, path="/text", headers={"accept-encoding": ENCODINGS[encoding]})


def plain(answer: Recorded) -> bytes:
    zipped = answer.header("content-encoding") == b"gzip"
    return gzip.decompress(answer.body) if zipped else answer.body


def settings_for(url: str | None, near: str | None) -> CacheSettings:
    """Settings with a namespace of their own, and budgets for a busy machine."""
    return CacheSettings(
        redis_url=url,
        cache_namespace=f"zip{uuid.uuid4().hex[:8]}",
        cache_near_bytes=0 if near is None else 4_000_000,
        cache_near=near or "exact",
        cache_read_budget=2.0,
        cache_write_budget=2.0,
    )


def lookups(server: RedisServer) -> str:
    """What the server says of how often it was asked for several values."""
    return server.info("commandstats").get("cmdstat_mget", "").partition(",")[0]


@pytest.mark.parametrize("where", ["memory", "redis", "exact", "prompt"])
async def test_each_variant_is_compressed_once(
    where: str, redis_server: RedisServer, redis_url: str, compressions: list[int]
) -> None:
    """For clients that take gzip, and not at all for others; also from the near cache."""
    near = where if where in {"exact", "prompt"} else None
    app, cached = site(settings_for(None if where == "memory" else redis_url, near))
    assert cached.cache is not None
    await cached.cache.open()
    for encoding in ENCODINGS:
        assert plain(await ask(app, encoding)) == BODY
        await background_done(cached)
    assert compressions == [len(BODY)]
    async with asyncio.timeout(PATIENCE):
        while True:
            asked = lookups(redis_server)
            await serve_hits(app)
            looked_up = lookups(redis_server) != asked
            # A near cache answers as soon as it listens, and not while this process is too busy.
            if near is None or not looked_up:
                break
            await asyncio.sleep(0.01)
    assert looked_up is (where == "redis")
    assert compressions == [len(BODY)]
    await cached.aclose()


async def serve_hits(app: Any) -> None:
    """Ask twice for each variant."""
    for encoding in (*ENCODINGS, *ENCODINGS):
        answer = await ask(app, encoding)
        assert status_of(answer).startswith(b"maxage; hit")
        assert (answer.header("content-encoding") == b"gzip") is (encoding == "gzip")
        assert answer.header("content-length") == b"%d" % len(answer.body)
        assert plain(answer) == BODY


async def test_a_cache_inside_compresses_at_every_hit(compressions: list[int]) -> None:
    """Why the guide says to add the cache after GZipMiddleware."""
    app, cached = site(settings_for(None, None), outermost=False)
    for number in range(1, 4):
        answer = await ask(app, "gzip")
        assert plain(answer) == BODY
        assert compressions == [len(BODY)] * number
    assert b"hit" in status_of(answer)
    await cached.aclose()


SOURCE = """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.middleware.gzip import GZipMiddleware, GZipResponder

from maxage import CacheMiddleware

compress = GZipResponder.apply_compression

async def told(self, body, *, more_body):
    print("compressed", len(body), flush=True)
    return await compress(self, body, more_body=more_body)

GZipResponder.apply_compression = told
app = FastAPI()
app.add_middleware(GZipMiddleware)
app.add_middleware(CacheMiddleware)

@app.get("/text", response_class=PlainTextResponse)
async def text() -> str:
    return "A line that is worth compressing. " * 2000
"""


def test_the_fast_lane_sends_what_was_compressed(workers: Workers) -> None:
    """A real server, whose cache was added last and is so the outermost."""
    worker = workers.start(SOURCE, args=["--http", "maxage.uvicorn:FastLaneProtocol"])
    with httpx.Client(base_url=worker.url) as client:
        for encoding in ("gzip, deflate", "identity") * 10:
            answer = client.get("/text", headers={"accept-encoding": encoding})
            assert answer.text == "A line that is worth compressing. " * 2000
            assert ("content-encoding" in answer.headers) is (encoding != "identity")
        assert "; hit" in answer.headers["cache-status"]
    assert worker.log().count("compressed 68000") == 1
