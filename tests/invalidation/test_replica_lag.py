"""Applications that read from a replica of their database, which lags behind what they write."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore, apurge_all, cached
from maxage.redis import RedisCache
from maxage.store.tokens import is_quarantined, token_key
from maxage.store_factory import store_for
from tests.support.asgi import Exchange, call, http_scope
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

LAG = 1.0
"""Seconds. Short, since a real server's clock cannot be passed; long enough for a busy machine."""


class Replicated:
    """A row that is written at once and read as it was, until the replica has caught up."""

    def __init__(self, settings: CacheSettings, *stores: Any) -> None:
        self.settings = settings
        self.numbers = RedisCache[int](int, prefix="n", settings=settings)
        self.primary = self.replica = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.app = app = FastAPI(openapi_url=None)

        @app.get("/row")
        @cached(tags=["row"])
        async def row() -> int:
            shown = self.replica
            await self.gate.wait()
            return shown

        @app.get("/typed")
        async def typed() -> int:
            return await self.numbers.aget_or_set(1, lambda: self.replica)

        @app.get("/other")
        @cached(isolated=True)
        async def other() -> int:
            return self.replica

        @app.put("/row")
        async def change() -> None:
            self.primary += 1
            await self.numbers.adelete(1)

        self.processes = [CacheMiddleware(app, settings, store=store) for store in stores]

    async def get(self, path: str = "/row", process: int = 0) -> tuple[bytes, bool]:
        """The body, and whether it came from the store."""
        answer = await call(self.processes[process], path=path)
        assert answer.status == 200
        return answer.body, b"hit" in (answer.header("cache-status") or b"")

    async def put(self, process: int = 0) -> None:
        """Change the row; the replica does not know yet."""
        await call(self.processes[process], "PUT", "/row")

    def catch_up(self) -> None:
        """Let the replica have what was written."""
        self.replica = self.primary


def settings_for(url: str | None, lag: float = LAG) -> CacheSettings:
    """A namespace of its own, and patience with a busy machine."""
    return CacheSettings(
        redis_url=url,
        cache_namespace=f"t{uuid.uuid4().hex[:12]}",
        cache_read_budget=5.0,
        cache_write_budget=5.0,
        cache_replica_lag=lag,
    )


async def test_nothing_is_stored_in_a_group_for_so_long_after_its_purge() -> None:
    """On both sides of the boundary; what is not in the group is stored as ever."""
    clock = ManualClock()
    store = MemoryStore(replica_lag=10, clock=clock)
    site = Replicated(settings_for(None, 10), store)
    assert [await site.get() for _ in range(2)] == [(b"0", False), (b"0", True)]
    await site.put()
    clock.advance(9.99)
    assert [await site.get() for _ in range(2)] == [(b"0", False), (b"0", False)]
    assert [await site.get("/other") for _ in range(2)] == [(b"0", False), (b"0", True)]
    site.catch_up()
    clock.advance(0.01)
    assert [await site.get() for _ in range(2)] == [(b"1", False), (b"1", True)]


async def test_each_purge_begins_it_anew_and_a_soft_one_does_not_end_it() -> None:
    """Writes that follow each other closely keep the group out of the store."""
    clock = ManualClock()
    store = MemoryStore(replica_lag=10, clock=clock)
    site = Replicated(settings_for(None, 10), store)
    await site.put()
    clock.advance(6)
    await site.put()
    await store.soften(("g:row", "p:/row"))
    clock.advance(6)
    assert [await site.get() for _ in range(2)] == [(b"0", False), (b"0", False)]
    clock.advance(4)
    assert [await site.get() for _ in range(2)] == [(b"0", False), (b"0", True)]


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Replicated]:
    """Two processes on the shared server."""
    settings = settings_for(redis_url)
    made = Replicated(settings, *(RedisStore(redis_url, settings) for _ in range(2)))
    for process in range(2):
        await made.get(process=process)
        await made.get("/typed", process)
    yield made
    for one in made.processes:
        await one.aclose()
    await store_for(settings).close()


async def test_it_holds_in_every_process(site: Replicated) -> None:
    """The token carries it, and Redis ends it."""
    began = time.monotonic()
    await site.put(0)
    while True:
        answers = [await site.get(path, 1) for path in ("/row", "/typed")]
        if time.monotonic() - began > LAG * 0.3:
            break
        assert answers == [(b"0", False)] * 2
    site.catch_up()
    await asyncio.sleep(LAG)
    assert await site.get(process=1) == (b"1", False)
    async with asyncio.timeout(PATIENCE):
        while not (await site.get(process=1))[1]:  # noqa: ASYNC110 - the write is under way
            await asyncio.sleep(0.01)
    assert await site.numbers.aget(1) in (None, 1)


async def test_a_typed_value_that_is_set_is_kept_and_one_that_is_loaded_is_not(
    site: Replicated,
) -> None:
    """What is set comes from the one who wrote it, what is loaded perhaps from the replica."""
    await site.numbers.adelete(1)
    assert await site.numbers.aget_or_set(1, lambda: 7) == 7
    assert await site.numbers.aget(1) is None
    await site.numbers.aset(1, 8)
    assert await site.numbers.aget(1) == 8


async def test_a_fill_that_was_under_way_does_not_make_it_last_longer(
    site: Replicated, redis_server: RedisServer
) -> None:
    """What is written for an older token leaves the new one alone."""
    await site.put()
    await asyncio.sleep(LAG * 1.2)
    site.gate.clear()
    filling = Exchange(site.processes[0], http_scope(path="/row")).start()
    await asyncio.sleep(0.1)
    await apurge_all(settings=site.settings)
    await site.processes[1].cache.store.renew(("g:row",))  # type: ignore[union-attr]
    site.gate.set()
    await filling.finish()
    await asyncio.sleep(0.1)
    for group in ("n", "g:row"):
        key = token_key(site.settings.cache_namespace, group)
        assert redis_server.call("PTTL", key) <= LAG * 1000


async def test_a_purge_that_was_made_up_for_counts_too(own_redis: RedisServer) -> None:
    """From the moment when it reached Redis."""
    settings = settings_for(own_redis.url, 5.0)
    store = RedisStore(own_redis.url, settings)
    await store.read((), ("g:row",))
    store.redis_state.owe(["g:row"])
    async with asyncio.timeout(PATIENCE):
        while not store.redis_state.trusted:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.01)
    (token,) = (await store.read((), ("g:row",))).tokens
    assert token is not None
    assert is_quarantined(token)
    await store.close()


async def test_without_the_setting_it_is_stored_at_once(redis_url: str) -> None:
    """The default."""
    settings = settings_for(redis_url, 0)
    site = Replicated(settings, RedisStore(redis_url, settings))
    await site.put()
    assert [(await site.get())[1] for _ in range(2)] == [False, True]
    await site.processes[0].aclose()
    await store_for(settings).close()
