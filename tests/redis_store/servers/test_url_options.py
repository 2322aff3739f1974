"""URLs with options on real servers: stores, clients and health check make the same of them."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from maxage import CacheSettings, RedisStore, StoreUnavailableError
from maxage.redis import RedisCache, get_async_redis, get_redis
from maxage.redis_store.observer import Observer
from maxage.redis_store.sync_redis_store import SyncRedisStore
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.tls_proxy import AUTHORITY, CERTIFICATE, KEY, TlsProxy

pytestmark = pytest.mark.anyio

OPTIONS = (
    "protocol=3&socket_timeout=5&socket_connect_timeout=5&retry_on_timeout=true&db={db}"
    "&client_name=cache&health_check_interval=1&max_connections=50&decode_responses=true"
    "&encoding=utf-8&socket_read_size=4096"
)
CLUSTER_OPTIONS = OPTIONS.replace("&health_check_interval=1", "")


@pytest.fixture(params=["redis_url", "cluster_url", "sentinel_url", "unix"])
def url(request: pytest.FixtureRequest) -> str:
    """One server, a cluster, a sentinel, a socket: with nearly all options."""
    if request.param == "unix":
        request.getfixturevalue("redis_url")
        server: RedisServer = request.getfixturevalue("redis_server")
        return f"{server.unix_url}?{OPTIONS.format(db=2)}"
    plain: str = request.getfixturevalue(request.param)
    if request.param == "cluster_url":
        return f"{plain}?{CLUSTER_OPTIONS.format(db=0)}"
    return f"{plain}?{OPTIONS.format(db=2)}"


async def works(url: str) -> None:
    """What one store writes the other reads, and both clients and the health check answer."""
    settings = CacheSettings(redis_url=url)
    store, blocking = RedisStore(url, settings), SyncRedisStore(url, settings)
    await store.open()
    (token,) = (await store.read((b"k",), ("n",))).tokens
    assert token is not None
    assert await store.write(((b"k", b"value \xff"),), keep_for=60, tokens={"n": token})
    for _ in range(2):
        read = await store.read((b"k",), ("n",))
        assert (read.values, read.tokens) == ([b"value \xff"], [token])
        read = await asyncio.to_thread(blocking.read_now, (b"k",), ("n",))
        assert (read.values, read.tokens) == ([b"value \xff"], [token])
    assert await asyncio.to_thread(Observer(CacheSettings(redis_url=url), 2.0).answers)
    blocking.close()
    await store.close()


async def test_the_stores_work_with_every_option(url: str) -> None:
    """Ours win, and those of a client change nothing in a store."""
    await works(url)


async def test_clients_and_typed_cache_work_with_every_option(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`decode_responses` and `encoding` are those of the clients."""
    monkeypatch.setenv("REDIS_URL", url)

    def blocking() -> object:
        client = get_redis()
        assert client.set("name", "gr\xfc\xdf")
        typed = RedisCache[int](int, prefix="typed")
        assert typed.set(1, 5)
        assert typed.get(1) == 5
        return client.get("name")

    assert await asyncio.to_thread(blocking) == "gr\xfc\xdf"
    twin = get_async_redis()
    assert await twin.get("name") == "gr\xfc\xdf"
    await twin.aclose()


async def test_a_timeout_in_the_url_does_not_lengthen_a_budget(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung server costs all callers what it costs without one."""
    url = f"{own_redis.url}?socket_timeout=5&socket_connect_timeout=5&retry_on_timeout=true"
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("CACHE_READ_BUDGET", "0.1")
    settings = CacheSettings()
    store, blocking = RedisStore(url, settings), SyncRedisStore(url, settings)
    await store.open()
    own_redis.pause()
    began = time.monotonic()
    with suppress(StoreUnavailableError):
        await store.read((b"k",), ("n",))
    with suppress(StoreUnavailableError):
        await asyncio.to_thread(blocking.read_now, (b"k",), ("n",))
    assert await asyncio.to_thread(get_redis().get, "k") is None
    assert await get_async_redis().get("k") is None
    in_time(time.monotonic() - began, 1.5)
    own_redis.resume()
    await store.close()


@pytest.fixture
def tls(redis_server: RedisServer, redis_url: str) -> Iterator[TlsProxy]:
    """A TLS endpoint in front of the shared server."""
    del redis_url
    with TlsProxy(redis_server.port) as proxy:
        yield proxy


async def test_tls_with_an_authority_of_ones_own(
    tls: TlsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores, clients, health check."""
    await works(tls.url)
    monkeypatch.setenv("REDIS_URL", tls.url)
    assert await asyncio.to_thread(lambda: get_redis().set("tls", 1))
    twin = get_async_redis()
    assert await twin.get("tls") == b"1"
    await twin.aclose()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize(
    "options",
    [
        "ssl_cert_reqs=none",
        f"ssl_ca_certs={AUTHORITY}&ssl_min_version=772&protocol=3",
        f"ssl_ca_certs={AUTHORITY}&ssl_certfile={CERTIFICATE}&ssl_keyfile={KEY}",
        f"ssl_ca_certs={AUTHORITY}&ssl_include_verify_flags=VERIFY_X509_STRICT",
        f"ssl_ca_certs={AUTHORITY}&ssl_ciphers=ECDHE%2BAESGCM&ssl_check_hostname=no",
    ],
    ids=["unverified", "version", "certificate", "flags", "ciphers"],
)
async def test_options_of_tls(tls: TlsProxy, options: str, scheme: str) -> None:
    """Verified or not, with a certificate of the client, versions and ciphers."""
    await works(f"{scheme}://127.0.0.1:{tls.port}?{options}")


@pytest.mark.usefixtures("redis_url")
async def test_a_server_may_ask_for_a_certificate(redis_server: RedisServer) -> None:
    """Mutual TLS."""
    with TlsProxy(redis_server.port, asks_client=True) as proxy:
        await works(f"{proxy.url}&ssl_certfile={CERTIFICATE}&ssl_keyfile={KEY}")


async def test_an_unknown_authority_is_no_server(tls: TlsProxy) -> None:
    """Nothing is read from it or written to it."""
    url = f"rediss://localhost:{tls.port}"
    store = RedisStore(url, CacheSettings(redis_url=url))
    await store.open()
    with pytest.raises(StoreUnavailableError):
        await store.read((b"k",), ("n",))
    assert not await asyncio.to_thread(Observer(CacheSettings(redis_url=url), 2.0).answers)
    store.redis_state.close()
    await store.close()
