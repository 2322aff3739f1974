"""`get_redis` and its twin on a Redis Cluster, and behind Sentinel."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
import redis
from fastapi import Depends, FastAPI
from redis.exceptions import RedisClusterException

from maxage.errors import UnsupportedWhileAwayError
from maxage.redis import AsyncRedis, Redis, get_async_redis, get_redis
from maxage.redis.cluster_clients import AsyncRedisCluster, RedisCluster
from tests.support.ports import free_port
from tests.support.redis_topology import (
    RedisCluster as Servers,
)
from tests.support.redis_topology import (
    SentinelGroup,
    start_cluster,
    start_sentinel,
)
from tests.support.timing import in_time

pytestmark = pytest.mark.anyio


@pytest.fixture
def here(cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the shared cluster."""
    monkeypatch.delenv("USE_REDIS_CACHE", raising=False)
    monkeypatch.setenv("REDIS_URL", cluster_url)


@pytest.fixture
def own_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Three masters to be killed; the slots of a dead one are no reason to refuse the others'."""
    options = ("--cluster-require-full-coverage", "no")
    with start_cluster(args=options) as servers:
        monkeypatch.setenv("REDIS_URL", servers.url)
        yield servers


def until(condition: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("here")
def test_on_a_cluster_it_is_redis_pys_cluster_client() -> None:
    """With keys in all slots; a pipeline goes to several masters."""
    client: Any = get_redis()
    assert isinstance(client, RedisCluster)
    assert isinstance(client, redis.RedisCluster)
    assert client is get_redis()
    keys = [f"k{number}" for number in range(20)]
    assert all(client.set(key, key) for key in keys)
    assert [client.get(key) for key in keys] == [key.encode() for key in keys]
    pipeline = client.pipeline()
    for key in keys:
        pipeline.get(key)
    assert pipeline.execute() == [key.encode() for key in keys]
    assert client.delete(*keys) == 20
    assert client.eval("return redis.call('INCR', KEYS[1])", 1, "n") == 1
    with client.lock("l", timeout=5) as lock:
        assert lock.owned()


@pytest.mark.usefixtures("here")
async def test_the_twin_is_too() -> None:
    """The awaitable client."""
    client: Any = get_async_redis()
    assert isinstance(client, AsyncRedisCluster)
    assert await client.set("a", 1) is True
    pipeline = client.pipeline()
    for key in "abc":
        pipeline.get(key)
    assert await pipeline.execute() == [b"1", None, None]
    async with client.lock("l", timeout=5) as lock:
        assert await lock.owned()
    await client.aclose()


def connections(servers: Servers) -> int:
    """How many connections the masters have accepted; one more each time for the question."""
    stats = [master.info("stats") for master in servers.masters]
    return sum(int(found["total_connections_received"]) for found in stats)


@pytest.mark.usefixtures("here")
async def test_the_twin_as_a_dependency_makes_the_connections_of_one_client(
    shared_cluster: Servers,
) -> None:
    """Requests share one client of their event loop; a handler that closes it closes no other's."""
    app = FastAPI()

    @app.get("/{key}")
    async def read(key: str, client: Annotated[Any, Depends(get_async_redis)]) -> int:
        async with client:
            pipeline = client.pipeline()
            pipeline.incr(key)
            (number,) = await pipeline.execute()
            assert await client.get(key) == str(number).encode()
        await client.aclose()
        return int(number)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        keys = [f"k{number}" for number in range(8)]
        for key in keys:
            assert (await http.get(f"/{key}")).json() == 1
        # The background thread that asks for the nodes makes connections of its own.
        until(lambda: all(thread.name != "maxage-recovery" for thread in threading.enumerate()))
        before = connections(shared_cluster)
        for number in range(2, 8):
            for key in keys:
                assert (await http.get(f"/{key}")).json() == number
        assert connections(shared_cluster) - before == len(shared_cluster.masters)


@pytest.mark.usefixtures("here")
def test_the_twin_serves_several_event_loops() -> None:
    """One after the other, and a client that was made before the loop runs."""
    client: Any = get_async_redis()

    async def use() -> None:
        assert await client.set("k", "v") is True
        assert await asyncio.gather(*(get_async_redis().get("k") for _ in range(5))) == [b"v"] * 5
        async with client.lock("l", timeout=5) as lock:
            assert await lock.owned()
        async with client.pubsub() as channel:
            await channel.subscribe("c")
        assert await client.eval("return KEYS[1]", 1, "k") == b"k"
        assert client.keyslot("k") == 7629

    for _ in range(3):
        asyncio.run(use())


@pytest.mark.usefixtures("here")
def test_a_mistake_of_the_caller_is_raised() -> None:
    """Keys in several slots, another type, an unknown command."""
    client: Any = get_redis()
    client.rpush("l", 1)
    with pytest.raises(RedisClusterException):
        client.mget("a", "b", "c")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("l")
    assert client.away is False


def test_a_dead_master_answers_as_if_empty_and_the_others_go_on(own_cluster: Servers) -> None:
    """Within the budgets."""
    client: Any = get_redis()
    keys = [f"k{number}" for number in range(30)]
    until(lambda: all(client.set(key, 1) for key in keys))
    dead = own_cluster.masters[0]
    lost = {key for key in keys if own_cluster.master_of(key) is dead}
    assert 0 < len(lost) < 30
    dead.kill()
    for key in sorted(lost)[:4]:
        began = time.monotonic()
        assert client.get(key) is None
        assert client.set(key, 2) is False
        in_time(time.monotonic() - began, 1)
    until(lambda: all(client.get(key) == b"1" for key in set(keys) - lost))
    pipeline = client.pipeline()
    for key in keys:
        pipeline.get(key)
    assert pipeline.execute() == [None] * 30
    with pytest.raises(UnsupportedWhileAwayError):
        client.lock(min(lost), timeout=1).acquire(blocking=False)
    dead.launch()
    until(lambda: client.set(min(lost), 3))


@pytest.mark.usefixtures("here")
async def test_the_twin_connects_again_where_servers_have_closed_idle_connections(
    shared_cluster: Servers,
) -> None:
    """By a time-out of theirs, a changed password or a proxy; no command is lost by that."""
    client: Any = get_async_redis()
    keys = [f"k{number}" for number in range(8)]
    for round_number in range(1, 4):
        assert [await client.incr(key) for key in keys] == [round_number] * 8
        for master in shared_cluster.masters:
            master.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)  # the event loop has to hear of it


async def test_the_twin_goes_on_when_a_master_is_back(own_cluster: Servers) -> None:
    """One client lives through the outage of a master, and of all of them."""
    client: Any = get_async_redis()
    keys = [f"k{number}" for number in range(30)]

    async def set_all() -> bool:
        return all([await client.set(key, 1) for key in keys])

    await until_awaited(set_all)
    for dead in (own_cluster.masters[:1], own_cluster.masters):
        lost = {key for key in keys if own_cluster.master_of(key) in dead}
        for master in dead:
            master.kill()
        for key in lost:
            assert await client.get(key) is None
        for master in dead:
            master.launch()
        await until_awaited(set_all)
    await client.aclose()


async def until_awaited(condition: Callable[[], Awaitable[bool]], *, within: float = 20.0) -> None:
    """Wait until something holds, asking in this event loop."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_cluster_that_is_not_there_is_as_away_as_any_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the first command on; the twin too."""
    monkeypatch.setenv("REDIS_URL", f"redis+cluster://127.0.0.1:{free_port()}")
    for _ in range(3):
        client: Any = get_redis()
        assert await asyncio.to_thread(client.get, "k") is None
        assert client.set("k", 1) is False
        pipeline = client.pipeline()
        pipeline.get("k")
        assert pipeline.execute() == [None]
        with pytest.raises(UnsupportedWhileAwayError):
            client.lock("l", timeout=1).acquire(blocking=False)
        twin: Any = get_async_redis()
        assert await twin.get("k") is None
        assert await twin.set("k", 1) is False
        await twin.aclose()


async def test_behind_sentinel_the_client_follows_the_primary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The very client that was there before the failover, and its twin."""
    with start_sentinel() as group:
        monkeypatch.setenv("REDIS_URL", group.url)
        client, twin = get_redis(), get_async_redis()
        assert isinstance(client, Redis)
        assert isinstance(twin, AsyncRedis)
        await asyncio.to_thread(until, lambda: client.set("k", 1))
        assert await twin.get("k") == b"1"
        await asyncio.to_thread(_kill_primary, group)
        await asyncio.to_thread(until, lambda: client.set("k", 2))
        assert group.primary.call("GET", "k") == b"2"
        assert await twin.get("k") == b"2"
        await twin.aclose()


def _kill_primary(group: SentinelGroup) -> None:
    old = group.primary
    old.kill()
    group.wait_promoted(old)
