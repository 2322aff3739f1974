"""Connections of event loops that end: at most one is left, however many loops have ended."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from maxage import CacheSettings, apurge
from maxage.redis import RedisCache, get_async_redis
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.per_loop import PerLoop

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of descriptors")

LOOPS = 20


def sockets() -> int:
    """Return how many descriptors of this process are sockets."""
    number = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            number += str(descriptor.readlink()).startswith("socket:")
    return number


def run_and_close(main: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Run in a loop of one's own, without what `asyncio.run` does at its end."""
    loop.run_until_complete(main)
    loop.close()


RUNNERS: dict[str, Callable[[Any], object]] = {
    "asyncio.run": asyncio.run,
    "uvloop.run": uvloop.run,
    "loop.close": lambda main: run_and_close(main, asyncio.new_event_loop()),
    "uvloop.close": lambda main: run_and_close(main, uvloop.new_event_loop()),
}


def settings_for(url: str) -> CacheSettings:
    return CacheSettings(
        redis_url=url, cache_near_bytes=0, cache_read_budget=5.0, cache_write_budget=5.0
    )


async def purge(settings: CacheSettings) -> None:
    assert await apurge("/items/5", settings=settings)


async def set_value(settings: CacheSettings) -> None:
    assert await RedisCache[int](int, prefix="n", settings=settings).aset(1, 1)


async def ask(_: CacheSettings) -> None:
    assert await get_async_redis().set("k", "v")


def collect(main: Coroutine[Any, Any, None]) -> None:
    """Free what the last loop left, with its warnings, in the test that made it."""
    asyncio.run(main)
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("use", [purge, set_value, ask])
def test_an_event_loop_that_ends_keeps_no_connection(
    runner: str,
    use: Callable[[CacheSettings], Coroutine[Any, Any, None]],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scripts, tests and task queues make a loop each time."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CACHE_READ_BUDGET", "5")
    settings = settings_for(redis_url)
    RUNNERS[runner](use(settings))
    gc.disable()
    try:
        before = sockets()
        for _ in range(LOOPS):
            RUNNERS[runner](use(settings))
        assert sockets() <= before + 1
    finally:
        gc.enable()
        collect(use(settings))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("runner", RUNNERS)
def test_an_event_loop_that_ends_keeps_no_connection_to_a_cluster(
    runner: str, cluster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the last loop are at most its connections to each master."""
    monkeypatch.setenv("REDIS_URL", cluster_url)
    monkeypatch.setenv("CACHE_READ_BUDGET", "5")
    settings = settings_for(cluster_url)
    RUNNERS[runner](ask(settings))
    gc.disable()
    try:
        before = sockets()
        for _ in range(5):
            RUNNERS[runner](ask(settings))
        assert sockets() <= before + 3
    finally:
        gc.enable()
        collect(ask(settings))


def test_a_near_cache_ends_with_its_event_loop(redis_url: str) -> None:
    """It has a connection of its own."""
    settings = settings_for(redis_url).model_copy(update={"cache_near_bytes": 1_000_000})
    asyncio.run(purge(settings))
    before = sockets()
    for _ in range(LOOPS):
        asyncio.run(purge(settings))
    assert sockets() <= before + 1


def test_a_store_of_two_loops_at_once_serves_both(redis_url: str) -> None:
    """A loop in another thread: each has connections of its own."""
    store = RedisStore(redis_url, settings_for(redis_url))

    async def main() -> None:
        assert None not in await store.renew(("g:a",))
        await asyncio.to_thread(asyncio.run, other())
        assert None not in await store.renew(("g:a",))
        await store.close()

    async def other() -> None:
        assert None not in await store.renew(("g:a",))

    asyncio.run(main())


def test_a_value_is_closed_once_at_the_end_of_its_loop() -> None:
    """And made anew by the next one; after `close` also in the same loop."""
    seen: list[str] = []

    async def close(value: str) -> None:
        await asyncio.sleep(0)
        seen.append(value)

    values = PerLoop(lambda: f"value {len(seen)}", close, lambda _: seen.append("abandoned"))

    async def main(*, closes: bool) -> None:
        first = values.get()
        assert values.get() is first
        if closes:
            await values.close()
            assert values.get() != first

    asyncio.run(main(closes=False))
    assert seen == ["value 0"]
    asyncio.run(main(closes=True))
    assert seen == ["value 0", "value 1", "value 2"]
    loop = asyncio.new_event_loop()
    run_and_close(main(closes=False), loop)
    assert seen[3:] == []
    asyncio.run(main(closes=False))
    assert seen[3:] == ["abandoned", "value 4"]
