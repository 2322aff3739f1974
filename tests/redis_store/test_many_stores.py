"""Many applications in one process, none of which is told of its end."""

import asyncio
import gc
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from maxage import CacheMiddleware, CacheSettings
from maxage.redis_store import recovery
from maxage.redis_store.redis_store import RedisStore
from tests.support.asgi import call
from tests.support.fault_proxy import FaultProxy
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.workers import UNCONFIRMED

APPLICATIONS = 150
KEPT = 16 + 5
"""Stores that are kept for their next use, and some that are about to end."""


def sockets() -> int:
    """Return how many descriptors of this process are sockets."""
    number = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            number += str(descriptor.readlink()).startswith("socket:")
    return number


def threads(name: str = "maxage") -> int:
    """Return how many threads of ours run."""
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


def settings_for(url: str) -> CacheSettings:
    return CacheSettings(
        redis_url=url,
        cache_namespace=f"t{uuid.uuid4().hex[:12]}",
        cache_read_budget=2.0,
        cache_write_budget=2.0,
    )


async def build_and_ask(url: str) -> None:
    """Build an application, and let it answer a read and a write."""
    app = FastAPI()
    app.add_middleware(CacheMiddleware, settings=settings_for(url))
    app.get("/row")(lambda: 1)
    app.put("/row")(lambda: 1)
    assert (await call(app, path="/row")).status == 200
    assert (await call(app, "PUT", "/row")).status == 200


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of descriptors")
def test_applications_that_are_dropped_keep_neither_threads_nor_connections(
    redis_url: str,
) -> None:
    """Each in an event loop of its own, without a lifespan."""
    gc.collect()
    sockets_before, threads_before = sockets(), threads()
    for _ in range(APPLICATIONS):
        asyncio.run(build_and_ask(redis_url))
    gc.collect()
    # The last ones sign off some seconds after their writes.
    most = threads_before + KEPT
    wait_until(
        lambda: gc.collect() >= 0 and threads() <= most,
        "their threads end",
        timeout=30,
        interval=0.2,
    )
    gc.collect()
    assert sockets() <= sockets_before + 2 * KEPT


def test_stores_of_a_server_that_is_away_keep_no_thread() -> None:
    """Where nothing is owed: their probes end with them."""
    before = threads("maxage-recovery")
    for _ in range(20):
        store = RedisStore(f"redis://127.0.0.1:{free_port()}", settings_for("redis://x"))
        asyncio.run(store.open())
        store.redis_state.recover()
    assert threads("maxage-recovery") > before
    del store
    wait_until(
        lambda: gc.collect() >= 0 and threads("maxage-recovery") <= before, "their probes end"
    )


def test_a_purge_that_is_owed_is_made_though_its_store_is_garbage(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A script that dropped it was told that it is not confirmed, and lives on."""

    async def purge() -> None:
        store = RedisStore(fault_proxy.url, settings_for(fault_proxy.url))
        assert await store.renew(("g:a",)) == [None]

    fault_proxy.refuse()
    asyncio.run(purge())
    assert UNCONFIRMED in caplog.text
    gc.collect()
    owing = len(recovery._owing)
    assert owing > 0
    fault_proxy.pass_through()
    wait_until(lambda: len(recovery._owing) < owing, "it is paid")
