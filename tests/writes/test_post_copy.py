"""A GET answered from a POST with Content-Location, and the purges that must not be lost."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore
from maxage.store.base import Store
from tests.support.asgi import Receive, Scope, Send, call, read_body

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
    ],
)
async def test_other_methods_and_personal_answers_are_not_kept(
    method: str, header: tuple[str, str] | None
) -> None:
    """Only a POST without credentials."""
    middleware = CacheMiddleware(Echo(), settings_of(), store=MemoryStore())
    await call(middleware, method, headers=[header] if header else [], body=b"1")
    assert await body_of(middleware) == b"GET 2"


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
