"""Requests that are cancelled at any moment: no answer of Redis reaches another request.

`poe redis-versions` runs this with the lowest and the highest redis-py that the library allows.
"""

import asyncio
import os
import random
from contextlib import suppress

import pytest
import redis

from maxage import CacheSettings, RedisStore
from maxage.errors import StoreUnavailableError
from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.anyio
ROUNDS = int(os.environ.get("CANCELLATIONS", "600"))
KEYS = [b"maxage:e:%d" % number for number in range(20)]


def test_the_version_is_the_one_that_was_asked_for() -> None:
    """Else the task would prove nothing."""
    assert redis.__version__.startswith(os.environ.get("REDIS_PY_VERSION", ""))


async def test_no_answer_reaches_another_request(fault_proxy: FaultProxy) -> None:
    """Reads, writes and purges are cancelled after 0 to 3 ms, while others go on."""
    seed = int(os.environ.get("CANCELLATION_SEED", str(random.randrange(10**6))))
    print("seed", seed)
    source = random.Random(seed)
    patient = CacheSettings(cache_read_budget=5, cache_write_budget=5)
    store = RedisStore(fault_proxy.url, patient)
    await store.read((), ["n"])
    assert await store.write(
        [(key, b"of " + key) for key in KEYS], keep_for=60, tokens={"n": b"token"}
    )
    fault_proxy.delay(0.001, "both")
    answered = cancelled = 0

    async def ask(key: bytes, *, way: int) -> None:
        nonlocal answered
        if way == 0:
            await store.write([(key, b"of " + key)], keep_for=60, tokens={"n": b"token"})
        elif way == 1:
            await asyncio.shield(store.renew([f"g:{key!r}"]))  # as the library does it
        else:
            reading = await store.read([key], ["n"])
            assert reading.values == [b"of " + key], (key, reading)
            answered += 1

    async def one() -> None:
        nonlocal cancelled
        task = asyncio.create_task(ask(source.choice(KEYS), way=source.randrange(6)))
        if source.random() < 0.5:
            await asyncio.sleep(source.random() * 0.003)
            cancelled += task.cancel()
        with suppress(asyncio.CancelledError, StoreUnavailableError):
            await task

    async def client(rounds: int) -> None:
        for _ in range(rounds):
            await one()

    await asyncio.gather(*(client(ROUNDS // 12) for _ in range(12)))
    await store.close()
    assert answered > ROUNDS // 10
    assert cancelled > ROUNDS // 10
