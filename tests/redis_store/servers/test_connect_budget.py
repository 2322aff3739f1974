"""Making a connection has a budget of its own, which the first requests may use up once."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from maxage import CacheMiddleware, CacheSettings, RedisStore, StoreUnavailableError
from maxage.redis import get_async_redis, get_redis
from maxage.redis_store.sync_redis_store import SyncRedisStore
from tests.support.asgi import call
from tests.support.caching import piece, start, status_of
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.tls_proxy import TlsProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

HANDSHAKE = 0.4
"""Seconds that the handshake takes: several read budgets."""


@pytest.fixture
def slow(redis_server: RedisServer, redis_url: str) -> Iterator[TlsProxy]:
    """TLS whose handshakes begin late."""
    del redis_url
    with TlsProxy(redis_server.port, delay=HANDSHAKE) as proxy:
        yield proxy


def settings_for(url: str) -> CacheSettings:
    """A connect budget for a machine that is busy."""
    return CacheSettings(redis_url=url, cache_connect_budget=3, cache_read_budget=0.15)


async def test_the_first_read_waits_for_the_connection(slow: TlsProxy) -> None:
    """Also those that come while it is made; without `open`."""
    store = RedisStore(slow.url, settings_for(slow.url))
    replies = await asyncio.gather(*(store.read((b"k%d" % n,), ("n",)) for n in range(5)))
    assert len({reply.tokens[0] for reply in replies} - {None}) == 1
    await store.close()


async def test_the_first_write_waits_for_the_connection(slow: TlsProxy) -> None:
    """A purge is confirmed, and the lease of its worker is taken."""
    store = RedisStore(slow.url, settings_for(slow.url))
    async with store.mutating():
        assert (await store.renew(("n",)))[0] is not None
        assert store.redis_state.owed_purges.empty
        await eventually(lambda: store.redis_state.trustworthy)
    await store.close()


def test_the_first_blocking_read_waits_for_the_connection(slow: TlsProxy) -> None:
    """As in a plain function that uses a typed cache."""
    store = SyncRedisStore(slow.url, settings_for(slow.url))
    assert store.read_now((b"k",), ("n",)).tokens[0] is not None
    assert store.renew_now(("n",))[0] is not None
    store.close()


async def test_the_first_request_without_a_lifespan_is_no_bypass(slow: TlsProxy) -> None:
    """It is stored, and the second one is a hit."""

    async def app(scope: object, receive: object, send: object) -> None:
        del scope, receive
        assert callable(send)
        await send(start((b"content-length", b"1"), (b"cache-control", b"max-age=60")))
        await send(piece(b"x"))

    middleware = CacheMiddleware(app, settings_for(slow.url))
    first = await call(middleware, "GET", "/first")
    assert status_of(first) == b"maxage; fwd=uri-miss; stored"
    assert status_of(await call(middleware, "GET", "/first")).startswith(b"maxage; hit")
    await middleware.aclose()


async def test_clients_wait_for_the_connection_over_tls(
    slow: TlsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`get_redis` and its twin."""
    monkeypatch.setenv("REDIS_URL", slow.url)
    monkeypatch.setenv("CACHE_CONNECT_BUDGET", "3")
    monkeypatch.setenv("CACHE_READ_BUDGET", "0.15")
    assert await asyncio.to_thread(lambda: get_redis().set("k", "v"))
    twin = get_async_redis()
    assert await twin.get("k") == b"v"
    await twin.aclose()


async def test_a_server_that_hangs_from_the_start_costs_one_connect_budget(
    fault_proxy: FaultProxy,
) -> None:
    """All that come before it is over wait for its end, and those after it do not wait."""
    fault_proxy.hang()
    settings = CacheSettings(redis_url=fault_proxy.url, cache_connect_budget=0.4)
    store = RedisStore(fault_proxy.url, settings)
    began = time.monotonic()
    for _ in range(6):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"k",), ("n",))
    in_time(time.monotonic() - began, 0.9)
    fault_proxy.pass_through()
    store.redis_state.close()
    await store.close()


async def test_a_lost_connection_is_made_again_within_the_read_budget(
    fault_proxy: FaultProxy,
) -> None:
    """A server that hangs later costs what it did before."""
    settings = CacheSettings(redis_url=fault_proxy.url, cache_connect_budget=5)
    store = RedisStore(fault_proxy.url, settings)
    await store.open()
    await store.read((b"k",), ("n",))
    fault_proxy.hang()
    fault_proxy.drop_connections()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"k",), ("n",))
    in_time(time.monotonic() - began, 0.6)
    fault_proxy.pass_through()
    store.redis_state.close()
    await store.close()
