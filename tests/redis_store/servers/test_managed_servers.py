"""Servers and proxies that lack commands: one line names what cannot be had, and the rest works."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import pytest

from maxage import CacheSettings, RedisStore, StoreUnavailableError
from maxage.redis import RedisCache
from maxage.redis_store.servers.node import Node
from maxage.redis_store.sync_redis_store import SyncRedisStore
from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.anyio

UNKNOWN = "ERR unknown command"


def bulk(text: bytes) -> bytes:
    """A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


Refusal = Callable[[FaultProxy, str], None]
REFUSALS: dict[str, Refusal] = {
    "unknown": lambda proxy, name: proxy.error(UNKNOWN, commands=(name,)),
    "forbidden": lambda proxy, name: proxy.error("NOPERM", commands=(name,)),
    "closes": lambda proxy, name: proxy.cut(after=0, commands=(name,)),
    "empty": lambda proxy, name: proxy.garbage(data=bulk(b""), commands=(name,)),
    "without role": lambda proxy, name: proxy.garbage(
        data=bulk(b"# Replication\r\nconnected_slaves:0\r\n"), commands=(name,)
    ),
    "without replid": lambda proxy, name: proxy.garbage(
        data=bulk(b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"), commands=(name,)
    ),
}


def settings_for(proxy: FaultProxy, **more: object) -> CacheSettings:
    """Settings for a machine that is busy."""
    values = {"cache_read_budget": 2, "cache_write_budget": 2, "cache_namespace": "m"} | more
    return CacheSettings(redis_url=proxy.url, **values)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Await until something holds."""
    deadline = time.monotonic() + 20
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def reads(store: RedisStore) -> Callable[[], Awaitable[bool]]:
    """Whether the store answers."""

    async def answers() -> bool:
        try:
            await store.read((b"m:k",), ("n",))
        except StoreUnavailableError:
            return False
        return True

    return answers


async def stores(store: RedisStore, blocking: SyncRedisStore) -> None:
    """A value is stored, read in both ways, and purged."""
    await until(reads(store))
    (token,) = (await store.read((b"m:k",), ("n",))).tokens
    assert token is not None
    value = secrets.token_bytes(8)
    assert await store.write(((b"m:k", value),), keep_for=60, tokens={"n": token})
    reply = await asyncio.to_thread(blocking.read_now, (b"m:k",), ("n",))
    assert (reply.values, reply.tokens) == ([value], [token])
    (purged,) = await store.renew(("n",))
    assert purged not in (None, token)
    reply = await asyncio.to_thread(blocking.read_now, (b"m:k",), ("n",))
    assert reply.tokens == [purged]


@pytest.mark.parametrize("how", REFUSALS)
async def test_without_info_the_cache_works_and_says_what_it_costs(
    fault_proxy: FaultProxy, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO is unknown, forbidden, ends the connection, or tells nothing."""
    REFUSALS[how](fault_proxy, "INFO")
    settings = settings_for(fault_proxy)
    store, blocking = (
        RedisStore(fault_proxy.url, settings),
        SyncRedisStore(fault_proxy.url, settings),
    )
    await store.open()
    await stores(store, blocking)
    (before,) = (await store.read((b"m:k",), ("n",))).tokens
    fault_proxy.drop_connections()

    async def is_emptied() -> bool:
        try:
            (now,) = (await store.read((b"m:k",), ("n",))).tokens
        except StoreUnavailableError:
            return False
        return now not in (None, before)

    await until(is_emptied)

    async def blocking_reads() -> bool:
        try:
            await asyncio.to_thread(blocking.read_now, (b"m:k",), ("n",))
        except StoreUnavailableError:
            # Its own connections were lost too.
            return False
        return await reads(store)()

    await until(blocking_reads)
    await stores(store, blocking)
    said = [r.getMessage() for r in caplog.records if "hides its replication ID" in r.getMessage()]
    assert len(said) == 1
    blocking.close()
    await store.close()
    store.redis_state.close()


async def test_a_server_that_answered_info_once_is_asked_again(fault_proxy: FaultProxy) -> None:
    """A server that dies while it is asked is not taken for one that has no INFO."""
    store = RedisStore(fault_proxy.url, settings_for(fault_proxy))
    await store.read((b"m:k",), ("n",))
    fault_proxy.cut(after=0, commands=("INFO",))
    fault_proxy.drop_connections()
    for _ in range(4):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"m:k",), ("n",))
    node = store.redis_state.node
    assert isinstance(node, Node)
    assert not node.closes_on_info
    fault_proxy.pass_through()
    await until(reads(store))
    await store.close()
    store.redis_state.close()


@pytest.mark.parametrize("how", ["unknown", "forbidden", "closes"])
@pytest.mark.parametrize("name", ["CLIENT", "HELLO"])
async def test_without_tracking_there_is_no_near_cache(
    fault_proxy: FaultProxy, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hits ask Redis."""
    REFUSALS[how](fault_proxy, name)
    settings = settings_for(fault_proxy, cache_near_bytes=1_000_000)
    store, blocking = (
        RedisStore(fault_proxy.url, settings),
        SyncRedisStore(fault_proxy.url, settings),
    )
    await store.open()
    for _ in range(2):
        await stores(store, blocking)
    near = store.near
    assert near is not None
    assert not near.listeners.hear()
    said = [r.getMessage() for r in caplog.records if "near cache is off" in r.getMessage()]
    assert len(said) <= 1
    assert not [r for r in caplog.records if "Redis unavailable" in r.getMessage()]
    blocking.close()
    await store.close()
    store.redis_state.close()


async def test_no_more_is_asked_of_a_server_than_is_needed(fault_proxy: FaultProxy) -> None:
    """Commands that managed servers refuse: CONFIG, SELECT 0, CLIENT SETINFO, scripts."""
    settings = settings_for(fault_proxy)
    store, blocking = (
        RedisStore(fault_proxy.url, settings),
        SyncRedisStore(fault_proxy.url, settings),
    )
    await store.open()
    await stores(store, blocking)
    typed = RedisCache[int](int, prefix="typed", settings=settings)
    assert await asyncio.to_thread(typed.set, 1, 5)
    assert await asyncio.to_thread(typed.get, 1) == 5
    allowed = {
        "EXPIRE", "GET", "HDEL", "HGET", "HGETALL", "HSET", "INFO", "MGET", "PING", "SET",
        "SETRANGE", "TIME", "UNLINK", "PTTL",
    }  # fmt: skip
    assert set(fault_proxy.seen) <= allowed
    blocking.close()
    await store.close()
    store.redis_state.close()
