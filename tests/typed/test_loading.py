"""Of several callers that miss the same object one loads it, in a process and between processes."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from maxage import CacheSettings, MemoryStore
from maxage.redis import RedisCache
from maxage.store.tokens import NAMESPACE_GROUP
from maxage.typed.flights import join, leading
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    """What is loaded."""

    id: int
    tags: list[str] = []


class Secret(BaseModel):
    """What cannot be stored."""

    token: SecretStr


@pytest.fixture(params=["redis", "embedded"])
def settings(request: pytest.FixtureRequest) -> CacheSettings:
    """Settings for a Redis server, and for an embedded store of its own."""
    if request.param == "embedded":
        return CacheSettings(redis_url=None, cache_memory_bytes=6_000_000 + free_port())
    url = request.getfixturevalue("redis_url")
    return CacheSettings(redis_url=url, cache_read_budget=5, cache_write_budget=5)


@pytest.fixture
def items(settings: CacheSettings) -> RedisCache[Item]:
    """A cache of items."""
    return RedisCache[Item](Item, prefix="item", settings=settings)


class Loads:
    """Loads slowly, and counts how often."""

    def __init__(self, value: Any = None, seconds: float = 0.2) -> None:
        self.value, self.seconds, self.count = value, seconds, 0
        self.began = threading.Event()

    def __call__(self) -> Any:
        self.count += 1
        self.began.set()
        time.sleep(self.seconds)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    async def soon(self) -> Any:
        return await asyncio.to_thread(self)


def in_threads(count: int, call: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def test_of_fifty_threads_one_loads(items: RedisCache[Item]) -> None:
    """Each gets an object of its own."""
    load = Loads(Item(id=5, tags=["a"]), seconds=1)  # until all have looked, on a busy machine
    given = in_threads(50, lambda: items.get_or_set(5, load))
    assert load.count == 1
    assert all(item == load.value and type(item) is Item for item in given)
    assert len({id(item.tags) for item in given}) == 50


async def test_of_fifty_tasks_one_loads(items: RedisCache[Item]) -> None:
    """With a coroutine function and with a plain one."""
    load = Loads(Item(id=5))
    given = await asyncio.gather(*(items.aget_or_set(5, load.soon) for _ in range(50)))
    assert load.count == 1
    assert given == [load.value] * 50
    assert len({id(item) for item in given}) == 50


async def test_threads_and_event_loops_share_one_load(items: RedisCache[Item]) -> None:
    """Whichever comes first."""
    load = Loads(Item(id=5), seconds=0.5)

    def in_another_loop() -> Any:
        return asyncio.run(items.aget_or_set(5, load.soon))

    # Threads of their own: the loop's threads, six on two cores, must not all wait for a load that
    # needs one of them.
    with ThreadPoolExecutor(6) as pool:
        run = asyncio.get_running_loop().run_in_executor
        given = await asyncio.gather(
            *(items.aget_or_set(5, load.soon) for _ in range(10)),
            *(run(pool, items.get_or_set, 5, load) for _ in range(3)),
            *(run(pool, in_another_loop) for _ in range(3)),
        )
    assert load.count == 1
    assert given == [load.value] * 16


async def test_none_is_loaded_once_too(items: RedisCache[Item]) -> None:
    """There is no such object: those who asked at once are told so together, later ones ask."""
    load = Loads(None)
    given = await asyncio.gather(*(items.aget_or_set(5, load.soon) for _ in range(20)))
    assert given == [None] * 20
    assert load.count == 1
    load.seconds = 0
    assert await items.aget_or_set(5, load.soon) is None
    assert load.count == 2


def test_a_load_that_fails_blocks_nobody(items: RedisCache[Item]) -> None:
    """Each gets the error of a load of its own, and none waits for the bound."""
    load = Loads(LookupError("no row"))

    def call() -> str:
        with pytest.raises(LookupError, match="no row") as caught:
            items.get_or_set(5, load)
        return str(caught.value)

    began = time.monotonic()
    assert in_threads(10, call) == ["no row"] * 10
    in_time(time.monotonic() - began, 3)
    load.value = Item(id=5)
    assert items.get_or_set(5, load) == load.value


async def test_a_leader_that_is_cancelled_blocks_nobody(items: RedisCache[Item]) -> None:
    """The others load."""
    hanging = asyncio.Event()
    leader = asyncio.create_task(items.aget_or_set(5, hanging.wait))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    load = Loads(Item(id=5), seconds=0)
    followers = [asyncio.create_task(items.aget_or_set(5, load.soon)) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert load.count == 0
    leader.cancel()
    assert await asyncio.gather(*followers) == [load.value] * 3
    assert leader.cancelled()


async def test_a_load_that_hangs_blocks_the_others_for_the_bound(settings: CacheSettings) -> None:
    """CACHE_COLLAPSE_WAIT, and not at all where that is 0."""
    for seconds in (0.3, 0):
        bounded = settings.model_copy(update={"cache_collapse_wait": seconds})
        items = RedisCache[Item](Item, prefix=f"bound-{seconds}", settings=bounded)
        hanging = asyncio.Event()
        leader = asyncio.create_task(items.aget_or_set(5, hanging.wait))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert await items.aget_or_set(5, lambda: Item(id=5)) == Item(id=5)
        took = time.monotonic() - began
        assert took > seconds - 0.1
        in_time(took, seconds + 1.5)
        leader.cancel()
        await asyncio.wait([leader])


async def test_a_value_that_is_not_stored_is_loaded_by_each(settings: CacheSettings) -> None:
    """None can be given a copy of it, and on Redis none waits for it again for a while."""
    secrets = RedisCache[Secret](Secret, prefix="secret", settings=settings)
    load = Loads(Secret(token=SecretStr("a")), seconds=0.7)
    given = await asyncio.gather(*(secrets.aget_or_set(5, load.soon) for _ in range(5)))
    assert [secret.token.get_secret_value() for secret in given] == ["a"] * 5
    assert load.count == 5
    if settings.redis_url is not None:
        began = time.monotonic()
        await asyncio.gather(*(secrets.aget_or_set(5, load.soon) for _ in range(5)))
        in_time(time.monotonic() - began, 2 * load.seconds)


async def test_no_caller_gets_a_value_from_before_a_purge(items: RedisCache[Item]) -> None:
    """One who began after it loads, though an older load is under way."""
    old, new = Loads(Item(id=1), seconds=0.6), Loads(Item(id=2), seconds=0)
    leader = asyncio.create_task(items.aget_or_set(5, old.soon))
    await asyncio.to_thread(old.began.wait, PATIENCE)
    assert await items.adelete(5) is True
    assert await items.aget_or_set(5, new.soon) == Item(id=2)
    assert await leader == Item(id=1)
    assert await items.aget(5) != Item(id=1)


async def test_no_caller_gets_a_value_from_before_a_purge_that_redis_did_not_get(
    own_redis: RedisServer,
) -> None:
    """Nothing tells the loads of before from those of after, so that no call waits for another."""
    settings = CacheSettings(redis_url=own_redis.url)
    items = RedisCache[Item](Item, prefix="item", settings=settings)
    own_redis.stop()
    old, new = Loads(Item(id=1), seconds=0.6), Loads(Item(id=2), seconds=0)
    leader = asyncio.create_task(items.aget_or_set(5, old.soon))
    await asyncio.to_thread(old.began.wait, PATIENCE)
    assert await items.adelete(5) is False
    assert await items.aget_or_set(5, new.soon) == Item(id=2)
    assert await asyncio.to_thread(items.get_or_set, 5, new) == Item(id=2)
    assert await leader == Item(id=1)


async def test_a_load_may_ask_for_the_same_object(items: RedisCache[Item]) -> None:
    """It does not wait for itself, in a thread either; nor does a plain call in its event loop."""
    began = time.monotonic()

    async def nested() -> Item:
        inner = await items.aget_or_set(5, lambda: Item(id=1))
        assert inner == await asyncio.to_thread(items.get_or_set, 5, lambda: Item(id=2))
        return inner

    assert await items.aget_or_set(5, nested) == Item(id=1)
    assert items.get_or_set(6, lambda: items.get_or_set(6, lambda: Item(id=6))) == Item(id=6)

    hanging = asyncio.Event()
    leader = asyncio.create_task(items.aget_or_set(7, hanging.wait))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    assert items.get_or_set(7, lambda: Item(id=7)) == Item(id=7)
    leader.cancel()
    in_time(time.monotonic() - began, 2)


# Between processes

PROCESS = """
import asyncio, os, sys, time
from pydantic import BaseModel
from maxage.redis import RedisCache, get_redis

class Item(BaseModel):
    id: int

items = RedisCache[Item](Item, prefix="shared")
counter = get_redis()

def load():
    counter.incr("loads")
    time.sleep(float(sys.argv[2]))
    if sys.argv[3] == "dies":
        os._exit(1)
    return Item(id=5)

async def soon():
    return await asyncio.to_thread(load)

began = time.monotonic()
if sys.argv[1] == "async":
    async def main():
        return await asyncio.gather(*(items.aget_or_set(5, soon) for _ in range(5)))
    given = asyncio.run(main())
else:
    given = [items.get_or_set(5, load)]
print(given, time.monotonic() - began)
"""


def start(url: str, how: str, seconds: float, end: str = "lives") -> "subprocess.Popen[str]":
    env = {
        "PATH": "/usr/bin", "REDIS_URL": url, "PYTHONPATH": "middleware:.",
        "CACHE_READ_BUDGET": "5", "CACHE_WRITE_BUDGET": "5", "CACHE_COLLAPSE_WAIT": "60",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, how, str(seconds), end],
        env=env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def loaded(server: RedisServer, count: int) -> bool:
    deadline = time.monotonic() + 20
    while int(server.call("GET", "loads") or 0) < count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", ["async", "blocking", "both"])
def test_of_several_processes_one_loads(own_redis: RedisServer, how: str) -> None:
    """For as long as that takes: its claim is renewed."""
    kinds = ["async", "blocking"] if how == "both" else [how] * 2
    processes = [start(own_redis.url, kind, 2.0) for kind in (*kinds, *kinds)]
    for process in processes:
        output, _ = process.communicate(timeout=30)
        assert "Item(id=5)" in output
    assert own_redis.call("GET", "loads") == b"1"


@pytest.mark.parametrize("how", ["async", "blocking"])
def test_a_process_that_dies_while_it_loads_blocks_the_others_for_a_second(
    own_redis: RedisServer, how: str
) -> None:
    """Its claim ends."""
    dying = start(own_redis.url, how, 1.0, "dies")
    assert loaded(own_redis, 1)
    others = [start(own_redis.url, how, 0.1) for _ in range(2)]
    dying.communicate(timeout=20)
    for process in others:
        output, _ = process.communicate(timeout=60)
        assert "Item(id=5)" in output
        # The load that was cut short, the claim that outlived it, and a busy machine.
        assert float(output.split()[-1]) < 10
    # Another one loads; once more where the purge on behalf of the dead process comes in between.
    assert own_redis.call("GET", "loads") in {b"2", b"3"}


def test_a_load_whose_coroutine_is_destroyed_lands() -> None:
    """Its end runs in another context; callers that wait for the load must not wait in vain."""
    flight, is_leader = join(b"destroyed")
    assert flight is not None
    assert is_leader
    load = leading(flight)
    contextvars.copy_context().run(load.__enter__)
    load.__exit__(None, None, None)
    assert join(b"destroyed")[1]


async def test_a_purge_of_everything_while_a_value_is_set_ends_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The namespace's token is captured before the purge of the value's own group."""
    settings = CacheSettings(redis_url=None, cache_memory_bytes=6_000_000 + free_port())
    cache = RedisCache[int](int, prefix="purged", settings=settings)
    renew = MemoryStore.renew

    async def renew_and_purge_all(
        store: MemoryStore, groups: Sequence[str]
    ) -> Sequence[bytes | None]:
        tokens = await renew(store, groups)
        await renew(store, (NAMESPACE_GROUP,))
        return tokens

    await cache.aset(1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "renew", renew_and_purge_all)
        await cache.aset(1, 1)
    assert await cache.aget(1) is None
    await cache.aset(1, 2)
    assert await cache.aget(1) == 2


def test_a_stop_iteration_of_load_comes_out_as_it_is(items: RedisCache[Item]) -> None:
    """As of a `next` that finds no row; in a coroutine Python would make another error of it."""
    rows: list[Item] = []
    with pytest.raises(StopIteration):
        items.get_or_set(5, lambda: next(iter(rows)))
    assert items.get(5) is None
