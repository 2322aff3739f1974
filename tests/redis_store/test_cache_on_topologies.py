"""The whole cache on a Redis Cluster and behind Sentinel: hits, purges, masters that die."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from maxage import CacheMiddleware, CacheSettings
from maxage.redis import RedisCache
from tests.support.asgi import call
from tests.support.ports import free_port
from tests.support.redis_topology import (
    RedisCluster,
    SentinelGroup,
    start_cluster,
    start_sentinel,
    wait_acknowledging,
)
from tests.support.timing import in_time

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    """What the typed cache keeps."""

    value: int


class Items:
    """Items that count how often they were read; reading goes through the typed cache too."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self.app = FastAPI()
        cache = RedisCache[Item](Item, prefix="item")

        @self.app.get("/items")
        async def every() -> dict[int, int]:
            return self.values

        @self.app.get("/items/{item_id}")
        async def one(item_id: int) -> int:
            return self.values.get(item_id, 0)

        @self.app.get("/typed/{item_id}")
        async def typed(item_id: int) -> int:
            def load() -> Item:
                return Item(value=self.values.get(item_id, 0))

            return (await cache.aget_or_set(item_id, load)).value

        @self.app.put("/items/{item_id}")
        async def change(item_id: int, value: int) -> int:
            self.values[item_id] = value
            await cache.adelete(item_id)
            return value


@pytest.fixture
def generous(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Budgets for a busy machine, for the typed cache as well."""
    monkeypatch.setenv("CACHE_READ_BUDGET", "2")
    monkeypatch.setenv("CACHE_WRITE_BUDGET", "2")
    return {"cache_read_budget": 2.0, "cache_write_budget": 2.0}


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """Three masters, each with a replica, to be killed."""
    with start_cluster(replicas=1) as cluster:
        yield cluster


@asynccontextmanager
async def workers(url: str, app: Any, **settings: Any) -> AsyncGenerator[list[CacheMiddleware]]:
    """Two middlewares over one application and one store."""
    async with AsyncExitStack() as stack:
        made = [CacheMiddleware(app, CacheSettings(redis_url=url, **settings)) for _ in range(2)]
        for middleware in made:
            stack.push_async_callback(middleware.aclose)
        yield made


async def get(app: Any, path: str) -> tuple[bytes, bool]:
    """The body, and whether it is a hit."""
    answer = await call(app, path=path)
    assert answer.status == 200
    return answer.body, b"hit" in (answer.header("cache-status") or b"")


async def hits(app: Any, path: str, *, within: float = 30.0) -> bytes:
    """Ask until the answer is a hit; return its body."""
    async with asyncio.timeout(within):
        while True:
            body, is_hit = await get(app, path)
            if is_hit:
                return body
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("where", ["cluster_url", "sentinel_url"])
async def test_hits_and_purges_over_all_nodes(
    where: str,
    request: pytest.FixtureRequest,
    generous: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thirty items, their list and their typed values, purged by the other worker."""
    url = request.getfixturevalue(where)
    monkeypatch.setenv("REDIS_URL", url)
    items = Items()
    async with workers(url, items.app, **generous) as (one, other):
        paths = [f"/{kind}/{n}" for kind in ("items", "typed") for n in range(15)]
        for path in (*paths, "/items"):
            assert await hits(one, path) in (b"0", b"{}")
        for number in range(15):
            assert (await call(other, "PUT", f"/items/{number}", "value=7")).status == 200
        for path in paths:
            assert await get(one, path) == (b"7", False), path
            assert await hits(one, path) == b"7"
        assert (await get(one, "/items"))[1] is False


async def test_a_dead_master_is_never_in_the_way_and_revives_nothing(
    own_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests go on within the budget; a write meanwhile is never followed by the old value."""
    monkeypatch.setenv("REDIS_URL", own_cluster.url)
    items = Items()
    async with workers(own_cluster.url, items.app) as (one, other):
        for number in range(10):
            await hits(one, f"/items/{number}")
        await asyncio.to_thread(own_cluster.masters[1].kill)
        slowest = 0.0
        for number in range(10):
            began = time.monotonic()
            assert (await call(other, "PUT", f"/items/{number}", "value=1")).status == 200
            assert (await get(other, f"/items/{number}"))[0] == b"1"
            slowest = max(slowest, time.monotonic() - began)
        in_time(slowest, 2)
        await asyncio.to_thread(own_cluster.wait_ok)
        for number in range(10):
            assert await hits(one, f"/items/{number}") == b"1"
            assert await hits(other, f"/items/{number}") == b"1"


async def test_a_failover_that_loses_the_last_purge_shows_nothing_of_before_it(
    generous: dict[str, Any],
) -> None:
    """The replica that is promoted has the response and the token of before the write."""
    items = Items()
    with start_sentinel() as group:
        async with workers(group.url, items.app, **generous) as (one, other):
            assert await hits(one, "/items/5") == b"0"
            old = await asyncio.to_thread(_cut_off_the_replica, group)
            assert (await call(other, "PUT", "/items/5", "value=1")).status == 200
            old.kill()
            await asyncio.to_thread(group.wait_promoted, old)
            for middleware in (one, other):
                assert await hits(middleware, "/items/5") == b"1"


def _cut_off_the_replica(group: SentinelGroup) -> Any:
    old, (replica,) = group.primary, group.replicas
    wait_acknowledging(old)
    replica.call("REPLICAOF", "127.0.0.1", free_port())
    assert any(b":t:" in key for key in replica.call("KEYS", "*"))
    return old
