"""The cache of a test: empty, apart from the application's own, with a clock that is moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from fastapi import FastAPI, Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore, SettingsError, purge
from maxage.redis import RedisCache
from maxage.testing import assert_hit, assert_miss
from maxage.testing.isolation import IsolatedCache, without_cache
from tests.sqlalchemy.shop import Order, Shop

pytestmark = pytest.mark.anyio

NOWHERE = "redis://127.0.0.1:1/0"


def shop() -> FastAPI:
    """An application that counts the calls of its handler."""
    app = FastAPI()
    app.state.calls = 0

    @app.get("/items")
    async def read(response: Response) -> int:
        app.state.calls += 1
        response.headers["cache-control"] = "max-age=60"
        return int(app.state.calls)

    return app


def client(app: object) -> httpx.AsyncClient:
    """A client of an application in this process."""
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://shop.test")


@pytest.fixture(params=["embedded", "redis"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The server of the test's cache; None: the embedded store."""
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else None


@contextmanager
def isolated(url: str | None = None) -> Iterator[IsolatedCache]:
    """One test's cache."""
    cache = IsolatedCache(url)
    with cache.installed():
        yield cache
    cache.end()


async def test_the_application_has_an_empty_cache_and_its_own_one_afterwards(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was made, and has answered, before the test."""
    monkeypatch.setenv("REDIS_URL", "memory://")
    app = shop()
    app.add_middleware(CacheMiddleware)
    async with client(app) as http:
        await http.get("/items")
        with isolated(url):
            inside = await http.get("/items")
            assert_miss(inside)
            again = await http.get("/items")
            assert_hit(again)
            assert again.text == inside.text == "2"
        after = await http.get("/items")
    assert_hit(after)
    assert after.text == "1"


async def test_an_application_that_first_answers_in_the_test_has_its_own_cache_afterwards() -> None:
    """Starlette builds the middleware with the first request."""
    app = shop()
    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url="memory://"))
    async with client(app) as http:
        with isolated():
            await http.get("/items")
            assert_hit(await http.get("/items"))
        after = await http.get("/items")
    assert_miss(after)
    assert after.text == "2"


async def test_a_wrapped_application_and_a_given_store_are_found(redis_url: str) -> None:
    """A shared store that was given is not asked."""
    app = CacheMiddleware(shop(), store=RedisStore(NOWHERE))
    async with client(app) as http:
        with isolated(redis_url):
            await http.get("/items")
            assert_hit(await http.get("/items"))


async def test_a_store_of_the_process_that_was_given_is_empty() -> None:
    """Before the test and after it."""
    store = MemoryStore()
    app = CacheMiddleware(shop(), settings=CacheSettings(redis_url="memory://"), store=store)
    async with client(app) as http:
        await http.get("/items")
        with isolated():
            assert_miss(await http.get("/items"))
            assert_hit(await http.get("/items"))
        assert len(store) == 0


async def test_the_next_test_finds_nothing_of_the_one_before(url: str | None) -> None:
    """Neither responses nor typed values."""
    app = CacheMiddleware(shop())
    prices = RedisCache[int](int, prefix="price")
    cache = IsolatedCache(url)
    async with client(app) as http:
        for _ in range(2):
            with cache.installed():
                assert await prices.aget(5) is None
                assert_miss(await http.get("/items"))
                assert await prices.aset(5, 40)
                assert await prices.aget(5) == 40
    cache.end()


async def test_two_applications_with_namespaces_of_their_own_stay_apart(redis_url: str) -> None:
    """As they do outside of tests."""
    apps = [
        CacheMiddleware(shop(), settings=CacheSettings(redis_url=NOWHERE, cache_namespace=name))
        for name in ("public", "admin")
    ]
    with isolated(redis_url):
        for app in apps:
            async with client(app) as http:
                assert_miss(await http.get("/items"))
                assert_hit(await http.get("/items"))


async def test_purges_by_hand_reach_the_cache_of_the_test(url: str | None) -> None:
    """Without settings, and with those of the application."""
    settings = CacheSettings(redis_url=NOWHERE)
    app = CacheMiddleware(shop(), settings=settings)
    async with client(app) as http:
        with isolated(url):
            for given in (None, settings):
                await http.get("/items")
                assert_hit(await http.get("/items"))
                assert purge("/items", settings=given)
                assert_miss(await http.get("/items"))


async def test_commits_reach_the_cache_of_the_test(url: str | None, tmp_path: Path) -> None:
    """Those of a script, outside of any request."""
    shop = Shop(tmp_path)
    shop.middleware = CacheMiddleware(shop._answer, CacheSettings(redis_url=NOWHERE))

    def total(session: Session) -> int:
        return session.scalars(select(Order.total)).one()

    def change(session: Session) -> None:
        session.execute(update(Order).values(total=2))

    with isolated(url):
        path = await shop.stored(total)
        shop.write(change)
        assert not await shop.is_hit(path)
    shop.engine.dispose()


async def test_responses_and_typed_values_age_by_the_clock(url: str | None) -> None:
    """Both sides of the boundary of each lifetime."""
    app = CacheMiddleware(shop())
    prices = RedisCache[int](int, prefix="price", ttl=30)
    with isolated(url) as cache:
        cache.clock.stop()
        async with client(app) as http:
            await http.get("/items")
            await prices.aset(5, 40)
            cache.clock.advance(29)
            assert await prices.aget(5) == 40
            cache.clock.advance(1)
            assert await prices.aget(5) is None
            assert (await http.get("/items")).headers["age"] == "30"
            cache.clock.advance(29)
            assert_hit(await http.get("/items"))
            cache.clock.advance(1)
            assert_miss(await http.get("/items"))


async def test_time_stands_still_and_never_runs_backwards() -> None:
    """Until the clock is reset by the end of the test."""
    with isolated() as cache:
        cache.clock.stop()
        assert cache.clock.monotonic() == cache.clock.monotonic()
        before = cache.clock.time()
        cache.clock.advance(0.5)
        assert cache.clock.time() == before + 0.5
        with pytest.raises(ValueError, match=r"got -1; it takes seconds from 0 up"):
            cache.clock.advance(-1)


async def test_without_a_cache_all_requests_pass() -> None:
    """Within a cache of a test too, which is there again afterwards."""
    app = CacheMiddleware(shop())
    prices = RedisCache[int](int, prefix="price")
    async with client(app) as http:
        with isolated():
            await http.get("/items")
            with without_cache():
                passed = await http.get("/items")
                assert passed.text == "2"
                assert "cache-status" not in passed.headers
                assert not await prices.aset(5, 40)
            assert_hit(await http.get("/items"))


async def test_workers_that_the_environment_names_do_not_switch_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images for production set them."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    app = CacheMiddleware(shop())
    async with client(app) as http:
        with isolated():
            await http.get("/items")
            assert_hit(await http.get("/items"))


async def test_nothing_is_left_on_the_server(redis_url: str) -> None:
    """Keys of others are not touched, not even those that typed values have outside of tests."""
    with redis.Redis.from_url(redis_url) as server:
        server.set("price:5", "39")
        async with client(CacheMiddleware(shop())) as http:
            with isolated(redis_url):
                await http.get("/items")
                await RedisCache[int](int, prefix="price").aset(5, 40)
                assert len(server.keys()) > 3
                assert server.get("price:5") == b"39"
        assert server.keys() == [b"price:5"]


def test_a_server_that_does_not_answer_is_named() -> None:
    """In one sentence."""
    named = pytest.raises(SettingsError, match=r"cache_redis_url names does not answer")
    with named, IsolatedCache(NOWHERE).installed():
        pass


async def test_a_shadow_that_the_environment_asks_for_does_not_hide_hits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under a shadow the handlers answer every request."""
    monkeypatch.setenv("CACHE_SHADOW", "true")
    monkeypatch.setenv("CACHE_VERIFY", "1")
    app = CacheMiddleware(shop())
    async with client(app) as http:
        with isolated():
            await http.get("/items")
            assert_hit(await http.get("/items"))
