"""Leases on a real server: who takes part, when a lease is renewed, and what its end does."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maxage import CacheSettings
from maxage.errors import StoreUnavailableError
from maxage.redis_store.leases.lease import LEASE_SECONDS, LOOK_INTERVAL, Record, Standing
from maxage.redis_store.leases.registry import REGISTRY_SECONDS, registry_key
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.store.tokens import NAMESPACE_GROUP, token_key
from tests.support import raw_http
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.workers import Worker, Workers

ROOT = Path(__file__).parents[2]
BOUND = LEASE_SECONDS + LOOK_INTERVAL
SLACK = 1.0
"""Seconds for a busy machine."""


def registry(server: RedisServer, namespace: str) -> dict[str, Record]:
    """Return the record of each worker."""
    parts = server.call("HGETALL", registry_key(namespace))
    return {k.decode(): Record.decode(v) for k, v in zip(parts[::2], parts[1::2], strict=True)}


def standings(server: RedisServer, namespace: str) -> list[str]:
    """Return what the records say of their workers."""
    return sorted(record.standing for record in registry(server, namespace).values())


@pytest.fixture
def settings() -> CacheSettings:
    """A namespace of the test's own, and budgets for a busy machine."""
    return CacheSettings(
        redis_url=None,
        cache_namespace=f"t{uuid.uuid4().hex[:12]}",
        cache_read_budget=5.0,
        cache_write_budget=5.0,
    )


@pytest.fixture
async def near(redis_server: RedisServer, redis_url: str, settings: CacheSettings):
    """A process that reaches the server at all times."""
    async for store in _store(redis_url, settings):
        yield store


@pytest.fixture
async def far(fault_proxy: FaultProxy, settings: CacheSettings):
    """Another process, behind the fault proxy."""
    async for store in _store(fault_proxy.url, settings):
        yield store
    fault_proxy.pass_through()


async def _store(url: str, settings: CacheSettings) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, settings)
    await store.open()
    yield store
    await store.close()
    await asyncio.to_thread(store.redis_state.close)


# taking part


async def test_an_open_store_holds_a_lease_and_is_trusted_at_once(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The first request of a worker finds it done; the registry has an end, a late one."""
    assert near.redis_state.trusted
    assert near.redis_state.lease_manager.lease.valid
    assert standings(redis_server, settings.cache_namespace) == ["leased"]
    kept = redis_server.call("TTL", registry_key(settings.cache_namespace))
    assert REGISTRY_SECONDS - 60 < kept <= REGISTRY_SECONDS


async def test_without_open_the_first_read_looks_by_itself(
    redis_url: str, settings: CacheSettings
) -> None:
    """Where the server runs no lifespan; it is answered, not refused."""
    store = RedisStore(redis_url, settings)
    assert not store.redis_state.trusted
    assert None not in (await store.read((), (NAMESPACE_GROUP,))).tokens
    assert store.redis_state.trusted
    await store.close()


async def test_without_open_a_mutating_request_holds_a_lease_before_it_runs(
    redis_url: str, settings: CacheSettings
) -> None:
    """What it changes and cannot purge will be noticed."""
    store = RedisStore(redis_url, settings)
    async with store.mutating() as may_be_confirmed:
        assert may_be_confirmed
        assert store.redis_state.lease_manager.lease.valid
    await store.close()


def test_the_synchronous_half_takes_part_too(
    redis_url: str, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """A script that writes through the typed cache can lose a purge as well."""
    store = SyncRedisStore(redis_url, settings)
    assert None not in store.renew_now(("g:a",))
    assert standings(redis_server, settings.cache_namespace) == ["leased"]


def test_a_script_signs_off_at_its_end(redis_url: str, redis_server: RedisServer) -> None:
    """A process that ended in good order is not suspected."""
    script = (
        "from maxage.redis import RedisCache\nassert RedisCache[int](int, prefix='n').set(1, 1)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "middleware"), "REDIS_URL": redis_url}
    subprocess.run([sys.executable, "-c", script], check=True, env=env)
    assert standings(redis_server, "maxage") == ["left"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_worker_takes_part_as_itself(redis_url: str, redis_server: RedisServer) -> None:
    """`--preload`: the master used the cache before it forked."""
    script = (
        "import os, sys\n"
        "from maxage.redis import RedisCache\n"
        "numbers = RedisCache[int](int, prefix='n')\n"
        "assert numbers.set(1, 1)\n"
        "if os.fork():\n"
        "    os.wait()\n"
        "elif numbers.set(2, 2):\n"
        "    os._exit(0)\n"
        "numbers.get(1)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "middleware"), "REDIS_URL": redis_url}
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    subprocess.run(run, check=True, env=env, timeout=30)
    assert standings(redis_server, "maxage") == ["leased", "left"], "the child did not sign off"


async def test_closing_signs_off_and_use_begins_anew(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """As another worker, so that the tombstone stays true."""
    await near.close()
    assert standings(redis_server, settings.cache_namespace) == ["left"]
    assert not near.redis_state.trusted
    await near.read((), (NAMESPACE_GROUP,))
    assert standings(redis_server, settings.cache_namespace) == ["leased", "left"]


async def test_a_process_does_not_sign_off_during_a_mutating_request(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """Its purge is still to come, and may be lost."""
    async with near.mutating():
        await near.close()
    assert standings(redis_server, settings.cache_namespace) == ["leased"]


async def test_a_process_does_not_sign_off_with_a_purge_owed(
    near: RedisStore, far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer,
    settings: CacheSettings,
) -> None:  # fmt: skip
    """It would be lost with the process."""
    fault_proxy.error("OOM", commands={"SET"})
    assert await far.renew(("g:a",)) == [None]
    await far.close()
    assert standings(redis_server, settings.cache_namespace) == ["leased", "leased"]


# renewal


async def test_a_lease_is_renewed_while_nothing_is_owed(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """Once per look, from a thread: also while the event loop is blocked."""
    (before,) = registry(redis_server, settings.cache_namespace).values()
    time.sleep(1.6 * LOOK_INTERVAL)  # noqa: ASYNC251 - it is blocked on purpose
    (after,) = registry(redis_server, settings.cache_namespace).values()
    assert after.due > before.due


async def test_a_lease_is_not_renewed_while_a_purge_is_owed(
    far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The server takes the renewal and not the purge, as one shard of a Cluster may."""
    fault_proxy.error("OOM", commands={"SET"})
    assert await far.renew(("g:a",)) == [None]
    (before,) = registry(redis_server, settings.cache_namespace).values()
    await asyncio.sleep(1.6 * LOOK_INTERVAL)
    assert list(registry(redis_server, settings.cache_namespace).values()) == [before]
    fault_proxy.pass_through()
    await eventually(lambda: far.redis_state.trusted)

    def is_renewed() -> bool:
        (after,) = registry(redis_server, settings.cache_namespace).values()
        return after.due > before.due

    await eventually(is_renewed)


# the end of a lease


async def test_a_cut_off_worker_is_purged_after_within_a_lease_and_a_look(
    near: RedisStore, far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer,
    settings: CacheSettings,
) -> None:  # fmt: skip
    """And again once per lease while it stays away, since it goes on acknowledging."""
    (before,) = (await near.read((), (NAMESPACE_GROUP,))).tokens
    key = token_key(settings.cache_namespace, NAMESPACE_GROUP)
    fault_proxy.refuse()
    took = await eventually(lambda: redis_server.call("GET", key) != before)
    assert LEASE_SECONDS - LOOK_INTERVAL - 0.5 < took < BOUND + SLACK
    await eventually(lambda: near.redis_state.trusted)
    assert standings(redis_server, settings.cache_namespace) == ["leased", "suspect"]
    first = redis_server.call("GET", key)
    assert await eventually(lambda: redis_server.call("GET", key) != first) < BOUND + SLACK
    fault_proxy.pass_through()
    await eventually(
        lambda: standings(redis_server, settings.cache_namespace) == ["leased", "leased"]
    )


async def test_after_a_flush_all_processes_are_back_and_none_is_suspected(
    near: RedisStore, far: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The records are only data: workers that are well write them anew."""
    await eventually(lambda: len(registry(redis_server, settings.cache_namespace)) == 2)
    redis_server.flush()
    await eventually(
        lambda: standings(redis_server, settings.cache_namespace) == ["leased", "leased"]
    )
    await asyncio.sleep(LOOK_INTERVAL)
    assert standings(redis_server, settings.cache_namespace) == ["leased", "leased"]
    assert near.redis_state.trusted
    assert far.redis_state.trusted


async def test_a_foreign_value_under_the_registrys_key_is_removed(
    redis_server: RedisServer, redis_url: str, settings: CacheSettings
) -> None:
    """Nothing else may lie there."""
    redis_server.call("SET", registry_key(settings.cache_namespace), "x")
    store = RedisStore(redis_url, settings)
    await store.open()
    assert store.redis_state.trusted
    assert standings(redis_server, settings.cache_namespace) == ["leased"]
    await store.close()


async def test_who_cannot_look_trusts_no_hit(
    far: RedisStore, fault_proxy: FaultProxy, settings: CacheSettings
) -> None:
    """Though the server answers lookups: it does not know who else is gone."""
    fault_proxy.error("NOPERM", commands={"HGETALL"})
    await eventually(lambda: not far.redis_state.trustworthy)
    with pytest.raises(StoreUnavailableError):
        await far.read((), (NAMESPACE_GROUP,))
    fault_proxy.pass_through()
    await eventually(lambda: far.redis_state.trusted)


async def test_a_server_that_becomes_another_one_is_noticed_by_the_next_look(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """On a connection that stays open: a replica is promoted, a primary demoted and promoted."""
    (before,) = (await near.read((), (NAMESPACE_GROUP,))).tokens
    history = near.redis_state.node.history
    redis_server.call("REPLICAOF", "127.0.0.1", 1)
    redis_server.call("REPLICAOF", "NO", "ONE")
    await eventually(lambda: near.redis_state.node.history != history and near.redis_state.trusted)
    (after,) = (await near.read((), (NAMESPACE_GROUP,))).tokens
    assert before is not None
    assert after is not None
    assert before.partition(b"-")[0] != after.partition(b"-")[0]


async def test_a_process_that_starts_without_redis_serves_and_counts_its_writes(
    fault_proxy: FaultProxy, settings: CacheSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """No peer watches it, so that its writes are outside the bound; it says so, once."""
    fault_proxy.refuse()
    store = RedisStore(fault_proxy.url, settings)
    await store.open()
    for _ in range(2):
        async with store.mutating() as may_be_confirmed:
            assert not may_be_confirmed
            assert await store.renew(("g:a",)) == [None]
    assert store.redis_state.unwatched_purges == 2
    assert caplog.text.count("has not reached Redis since it started") == 1
    fault_proxy.pass_through()
    await eventually(
        lambda: store.redis_state.trusted and store.redis_state.lease_manager.lease.valid
    )
    await store.close()


# real workers

APP = """
import os
from fastapi import FastAPI
from maxage import CacheMiddleware

app = FastAPI()
app.add_middleware(CacheMiddleware)

@app.get("/row")
async def read() -> int:
    with open(os.environ["ROW"]) as file:
        return int(file.read())

@app.put("/row")
async def write(value: int) -> int:
    with open(os.environ["ROW"], "w") as file:
        file.write(str(value))
    return value
"""


def stale_for(worker: Worker, expected: str) -> float:
    """Return for how many seconds reads through the worker showed something else."""
    began = time.monotonic()
    while raw_http.get(worker.port, "/row").text != expected:
        assert time.monotonic() - began < 3 * BOUND
        time.sleep(0.02)
    return time.monotonic() - began


def is_hit(worker: Worker) -> bool:
    return b"hit" in (raw_http.get(worker.port, "/row").header("cache-status") or b"")


@pytest.fixture
def pair(
    workers: Workers, redis_url: str, fault_proxy: FaultProxy, tmp_path: Path
) -> tuple[Worker, Worker]:
    """A worker that may be cut off, and one that always reaches the server; the row is a hit."""
    row = tmp_path / "row"
    row.write_text("0")
    env = {"ROW": str(row), "CACHE_READ_BUDGET": "2"}
    one = workers.start(APP, env={**env, "REDIS_URL": fault_proxy.url})
    other = workers.start(APP, env={**env, "REDIS_URL": redis_url})
    ends = time.monotonic() + 10
    while not is_hit(other):
        assert time.monotonic() < ends
    return one, other


def test_what_a_cut_off_worker_acknowledges_is_seen_within_five_seconds(
    pair: tuple[Worker, Worker], fault_proxy: FaultProxy
) -> None:
    """Through the other one, which knows of nothing."""
    one, other = pair
    fault_proxy.refuse()
    assert raw_http.request(one.port, "PUT", "/row?value=1").status == 200
    assert stale_for(other, "1") < BOUND + SLACK
    # It is still away, and acknowledges the next one.
    assert raw_http.request(one.port, "PUT", "/row?value=2").status == 200
    assert stale_for(other, "2") < BOUND + SLACK


def test_the_purge_of_a_killed_worker_is_made_up_for_within_five_seconds(
    pair: tuple[Worker, Worker], fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """It died with its journal; on the same machine that is seen sooner, and costs one purge."""
    one, other = pair
    fault_proxy.refuse()
    assert raw_http.request(one.port, "PUT", "/row?value=1").status == 200
    one.kill()
    assert stale_for(other, "1") < BOUND + SLACK
    ends = time.monotonic() + BOUND
    while Standing.LEFT not in standings(redis_server, "maxage"):
        assert time.monotonic() < ends


def test_a_worker_that_ends_in_good_order_costs_no_hit(
    pair: tuple[Worker, Worker], redis_server: RedisServer
) -> None:
    """It leaves a tombstone, and no peer empties the cache."""
    one, other = pair
    one.terminate()
    assert standings(redis_server, "maxage") == ["leased", "left"]
    ends = time.monotonic() + BOUND
    while time.monotonic() < ends:
        assert is_hit(other)
        time.sleep(0.2)
