"""A function gives the password of each new connection, so that passwords may change."""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from maxage import CacheSettings, RedisStore, SettingsError, StoreUnavailableError
from maxage.redis import RedisCache, get_async_redis, get_redis
from maxage.redis_store.observer import Observer
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.settings_in_force import register
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import RedisCluster, SentinelGroup
from tests.support.timing import in_time
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class Vault:
    """Knows the present password of a user; counts how often it was asked."""

    def __init__(self, username: str = "rotating") -> None:
        self.username = username
        self.password = ""
        self.asked = 0

    def __call__(self) -> tuple[str, str]:
        self.asked += 1
        return self.username, self.password

    def rotate(self, servers: list[RedisServer]) -> None:
        """Change the password on all servers, and end the connections made with the old one."""
        self.password = secrets.token_hex(8)
        for server in servers:
            rights = ("resetpass", f">{self.password}", "~*", "&*", "+@all")
            server.call("ACL", "SETUSER", self.username, "on", *rights)
            server.call("CLIENT", "KILL", "USER", self.username)


@pytest.fixture(params=["single", "cluster", "sentinel"])
def servers(request: pytest.FixtureRequest) -> tuple[str, list[RedisServer]]:
    """The URL, and the servers whose users are changed."""
    if request.param == "single":
        url: str = request.getfixturevalue("redis_url")
        return url, [request.getfixturevalue("redis_server")]
    if request.param == "cluster":
        url = request.getfixturevalue("cluster_url")
        cluster: RedisCluster = request.getfixturevalue("shared_cluster")
        return url, list(cluster.masters)
    url = request.getfixturevalue("sentinel_url")
    group: SentinelGroup = request.getfixturevalue("shared_sentinel")
    return url, [group.primary]


def patient(url: str, credentials: Callable[[], Any]) -> CacheSettings:
    """Settings for a machine that is busy."""
    return CacheSettings(
        redis_url=url,
        redis_credentials=credentials,
        cache_namespace=secrets.token_hex(4),
        cache_read_budget=10,
        cache_write_budget=10,
        cache_connect_budget=10,
    )


async def test_the_cache_follows_a_changed_password(
    servers: tuple[str, list[RedisServer]],
) -> None:
    """By itself: stores, typed cache, clients and health check."""
    url, changed = servers
    vault = Vault()
    vault.rotate(changed)
    settings = patient(url, vault)
    middleware = object.__new__(type("Middleware", (), {}))
    register(middleware, settings)
    store, blocking = RedisStore(url, settings), SyncRedisStore(url, settings)
    await store.open()

    async def reads() -> bool:
        try:
            await store.read((b"k",), ("n",))
            await asyncio.to_thread(blocking.read_now, (b"k",), ("n",))
        except StoreUnavailableError:
            return False
        return True

    def clients() -> bool:
        typed = RedisCache[int](int, prefix="typed")
        return bool(get_redis().set("name", "v") and typed.set(1, 5) and typed.get(1) == 5)

    for _ in range(3):
        await until(reads)
        await until(lambda: asyncio.to_thread(clients))
        twin = get_async_redis()
        assert await twin.get("name") == b"v"
        await twin.aclose()
        assert await asyncio.to_thread(
            Observer(CacheSettings(redis_url=url, redis_credentials=vault), 2.0).answers
        )
        before = vault.asked
        vault.rotate(changed)
    await until(reads)
    assert vault.asked > before
    assert vault.password not in repr(settings) + repr(store) + str(settings.model_dump())
    blocking.close()
    await store.close()
    store.redis_state.close()


async def until(holds: Callable[[], Any]) -> None:
    """Await until something holds."""
    deadline = time.monotonic() + 20
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    """A server with a password for its default user."""
    with RedisServer.start(password="first") as server:
        yield server


async def test_a_password_alone_is_that_of_the_user_in_the_url(guarded: RedisServer) -> None:
    """Or of the default user; the URL's own password does not count."""
    guarded.call("ACL", "SETUSER", "web", "on", ">other", "~*", "&*", "+@all")
    address = f"127.0.0.1:{guarded.port}"
    for url, password in (
        (f"redis://{address}", "first"),
        (f"redis://:outdated@{address}", "first"),
        (f"redis://web:outdated@{address}", "other"),
        (f"redis://{address}?username=web&password=outdated", "other"),
    ):
        store = RedisStore(url, patient(url, lambda given=password: given))
        assert (await store.read((b"k",), ("n",))).tokens[0] is not None
        await store.close()
        store.redis_state.close()


@pytest.mark.parametrize("kind", ["raises", "wrong type", "three", "none", "wrong password"])
async def test_a_function_that_fails_is_a_server_that_is_away(
    guarded: RedisServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised but that, and neither password nor error text is logged."""

    def credentials() -> Any:
        if kind == "raises":
            raise ValueError("the password is s3cret")
        return {
            "wrong type": b"s3cret",
            "three": ("a", "s3cret", "b"),
            "none": None,
            "wrong password": "s3cret",
        }[kind]

    url = f"redis://127.0.0.1:{guarded.port}"
    store = RedisStore(url, patient(url, credentials))
    for _ in range(4):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"k",), ("n",))
    wait_until(lambda: "Redis unavailable" in caplog.text, "the log says it")
    assert "s3cret" not in caplog.text
    assert ("redis_credentials gave no password" in caplog.text) is (kind != "wrong password")
    await store.close()
    store.redis_state.close()


async def test_a_function_that_hangs_costs_what_a_server_does(guarded: RedisServer) -> None:
    """The event loop goes on, and the requests wait for one connect budget."""
    done = threading.Event()

    def credentials() -> str:
        done.wait(30)
        return "first"

    url = f"redis://127.0.0.1:{guarded.port}"
    settings = CacheSettings(redis_url=url, redis_credentials=credentials, cache_connect_budget=0.4)
    store = RedisStore(url, settings)
    began = time.monotonic()
    for _ in range(6):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"k",), ("n",))
    in_time(time.monotonic() - began, 1.5)
    done.set()
    await store.close()
    store.redis_state.close()


async def unsuited() -> str:
    """An async function."""
    return ""


@pytest.mark.parametrize("value", [unsuited, "password", ("user", "password"), 5])
def test_what_is_no_plain_function_is_refused(value: Any) -> None:
    """In one sentence, without its value."""
    with pytest.raises(SettingsError, match="it takes a plain function") as caught:
        CacheSettings(redis_credentials=value)
    assert "password'" not in str(caught.value)


def test_the_environment_gives_no_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of that name belongs to another program."""
    monkeypatch.setenv("REDIS_CREDENTIALS", "s3cret")
    assert CacheSettings().redis_credentials is None
