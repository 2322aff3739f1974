"""A write that is cancelled, again and again as anyio does it, purges all that it has changed."""

import asyncio
from typing import Any

import anyio
import pytest

from maxage import CacheMiddleware, CacheSettings
from maxage.redis import RedisCache
from tests.support.asgi import Exchange, Receive, Scope, Send, call, http_scope
from tests.support.caching import background_done

pytestmark = pytest.mark.anyio


class Row:
    """A row that a write commits when it is ended, after its answer has left."""

    def __init__(self, settings: CacheSettings) -> None:
        self.value = b"old"
        self.typed = RedisCache[str](str, prefix="row", settings=settings)
        self.answered = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Show the row, which a typed value belongs to; or change it, late."""
        writes = scope["method"] != "GET"
        if scope["path"] != "/row":
            await (self.typed.aset(1, "new") if writes else self.typed.aget(1))
        headers = [(b"cache-control", b"max-age=60")]
        body = b"changed" if writes else self.value
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if writes:
            self.answered.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.value = b"new"


@pytest.fixture
def settings(redis_url: str) -> CacheSettings:
    """Budgets for a busy machine; an answer to POST is kept."""
    return CacheSettings(
        redis_url=redis_url, cache_store_post=True, cache_read_budget=5, cache_write_budget=5
    )


@pytest.mark.parametrize(
    ("method", "path", "reads"),
    [("PUT", "/row", "/row"), ("POST", "/row", "/row"), ("PUT", "/typed", "/shown")],
    ids=["path", "kept answer", "typed value"],
)
async def test_what_commits_when_it_is_cancelled_is_purged(
    settings: CacheSettings, method: str, path: str, reads: str
) -> None:
    """anyio's scopes cancel at each await until they are left: nothing may hang on the next one."""
    row, scope = Row(settings), anyio.CancelScope()
    middleware = CacheMiddleware(row, settings)

    async def impatient(*asgi: Any) -> None:
        with scope:
            await middleware(*asgi)

    write = Exchange(impatient, http_scope(method, path)).start()
    await row.answered.wait()
    await background_done(middleware)
    for _ in range(2):
        assert (await call(middleware, path=reads)).body in {b"old", b"changed"}
        await background_done(middleware)
    scope.cancel()
    await write.finish()
    await background_done(middleware)
    assert (await call(middleware, path=reads)).body == b"new"
    await middleware.aclose()
