"""A resolver that hangs or knows nothing costs no more than a server that does."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.errors import StoreUnavailableError
from maxage.fastapi.health import LONGEST_WAIT, redis_available
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.blocking_calls import run_blocking, start_blocking
from maxage.redis_store.servers.sentinel import Sentinels
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.redis_url import server_group
from maxage.settings import CacheSettings
from tests.store.test_store_contract import eventually_read, fresh_settings
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

AMPLE = 10.0
"""Seconds in which a busy machine does what is due at once; a resolver hangs for longer."""


class Resolver:
    """Looks up names as the system does, until it is told to fail."""

    def __init__(self) -> None:
        self._known = socket.getaddrinfo
        self._free = threading.Event()
        self._free.set()
        self.knows = True
        self.hanging = 0

    def hang(self) -> None:
        self._free.clear()

    def answer(self) -> None:
        self.knows = True
        self._free.set()

    def __call__(self, host: Any, *args: Any, **more: Any) -> Any:
        if host == "localhost":
            self.hanging += not self._free.is_set()
            self._free.wait(60)
            if not self.knows:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._known(host, *args, **more)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """The system's resolver for all of this process."""
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.answer()


def url_of(server: RedisServer) -> str:
    """The server by a name."""
    return f"redis://localhost:{server.port}"


def brisk(**more: Any) -> CacheSettings:
    """Settings with budgets far below `AMPLE`."""
    return fresh_settings(cache_read_budget=0.2, cache_write_budget=0.2, **more)


async def assert_away(store: RedisStore) -> None:
    """Read and purge, many at once: no answer, in time, and the loop's own threads are free."""
    began = time.monotonic()
    reads = [store.read([b"k%d" % n], [f"g:{n}"]) for n in range(50)]
    for answer in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(answer, StoreUnavailableError)
    assert await store.renew(["g:a"]) == [None]
    free = [asyncio.to_thread(threading.get_ident) for _ in range(50)]
    assert len(await asyncio.gather(*free)) == 50
    in_time(time.monotonic() - began, AMPLE)


@pytest.mark.parametrize("fault", ["hangs", "knows nothing"])
async def test_a_resolver_that_fails_from_the_start(
    resolver: Resolver, own_redis: RedisServer, fault: str
) -> None:
    """Nothing waits for it, and when it answers again the store is in use by itself."""
    resolver.hang() if fault == "hangs" else setattr(resolver, "knows", False)
    store = RedisStore(url_of(own_redis), brisk())
    for _ in range(4):
        await assert_away(store)
    # One question is put at a time, however many want the answer.
    assert resolver.hanging <= 1
    resolver.answer()
    await eventually_read(store, [], ["n"])
    await store.close()
    await asyncio.to_thread(store.redis_state.close)


async def test_a_resolver_that_hangs_later(resolver: Resolver, own_redis: RedisServer) -> None:
    """Connections that last need none; those that were lost are not made anew."""
    store = RedisStore(url_of(own_redis), brisk())
    await eventually_read(store, [], ["n"])
    resolver.hang()
    await eventually_read(store, [], ["n"])
    own_redis.kill()
    own_redis.launch()
    await assert_away(store)
    resolver.answer()
    await eventually_read(store, [], ["n"])
    await store.close()
    await asyncio.to_thread(store.redis_state.close)


def test_plain_functions_wait_for_a_resolver_within_the_budget(
    resolver: Resolver, own_redis: RedisServer
) -> None:
    """Else a few of them would hold all threads in which a framework runs handlers."""
    resolver.hang()
    store = SyncRedisStore(url_of(own_redis), brisk())

    def read(_: int) -> None:
        with pytest.raises(StoreUnavailableError):
            store.read_now([b"k"], ["n"])

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(40)))
    in_time(time.monotonic() - began, AMPLE)
    assert resolver.hanging <= 1
    resolver.answer()
    store.close()
    store.redis_state.close()


async def test_health_does_not_wait_for_a_resolver(
    resolver: Resolver, own_redis: RedisServer
) -> None:
    """However often it is asked."""
    resolver.hang()
    settings = brisk(redis_url=url_of(own_redis))
    began = time.monotonic()
    answers = await asyncio.gather(*(redis_available(settings) for _ in range(100)))
    assert answers == [False] * 100
    in_time(time.monotonic() - began, LONGEST_WAIT + AMPLE)
    resolver.answer()
    assert await redis_available(settings)


def test_sentinels_are_asked_within_their_time(resolver: Resolver) -> None:
    """Also those whose name is not looked up."""
    resolver.hang()
    group = server_group("redis+sentinel://localhost:1,localhost:2/primary/0")
    assert group is not None
    began = time.monotonic()
    with pytest.raises(RedisConnectionError):
        Sentinels(group).primary(0.2)
    in_time(time.monotonic() - began, AMPLE)


# Aside


async def test_equal_lookups_share_an_answer_that_survives_a_cancelled_one() -> None:
    """Each question has one thread at most."""
    free, asked = threading.Event(), []

    def question(name: str) -> str:
        asked.append(name)
        free.wait(30)
        return name * 2

    first, second = (asyncio.create_task(run_blocking(question, "a")) for _ in range(2))
    other = asyncio.create_task(run_blocking(question, "b"))
    await asyncio.to_thread(wait_until, lambda: len(asked) == 2, "both are asked")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    free.set()
    assert await second == "aa"
    assert await other == "bb"
    assert sorted(asked) == ["a", "b"]
    assert await run_blocking(question, "a") == "aa"
    assert sorted(asked) == ["a", "a", "b"]


def test_an_error_is_raised_where_the_answer_is_waited_for() -> None:
    """And is forgotten with it."""
    with pytest.raises(ZeroDivisionError):
        start_blocking(divmod, 1, 0).result(AMPLE)
    assert start_blocking(divmod, 7, 2).result(AMPLE) == (3, 1)


async def test_without_a_thread_it_fails_like_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is a miss; and the question can be asked again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread"):
            await run_blocking(divmod, 7, 2)
    assert await run_blocking(divmod, 7, 2) == (3, 1)


def in_a_fork(play: Callable[[], bool]) -> bool:
    """What comes of it in a forked process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if play() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_asks_anew() -> None:
    """The thread that would have answered is the parent's."""
    free = threading.Event()

    def question() -> int:
        free.wait(30)
        return os.getpid()

    def asked_again() -> bool:
        free.set()
        return start_blocking(question).result(AMPLE) == os.getpid()

    parents = start_blocking(question)
    assert in_a_fork(asked_again)
    free.set()
    assert parents.result(AMPLE) == os.getpid()
