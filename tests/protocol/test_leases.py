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
from maxage.redis_store.leases.lease import (
    IDLE_SECONDS,
    LEASE_SECONDS,
    LOOK_INTERVAL,
    Record,
    Standing,
)
from maxage.redis_store.leases.registry import REGISTRY_SECONDS, fields_of, registry_key
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.store.tokens import NAMESPACE_GROUP, token_key
from tests.support import raw_http
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import eventually, wait_until
from tests.support.workers import BUDGETS, Worker, Workers

ROOT = Path(__file__).parents[2]
BOUND = LEASE_SECONDS + LOOK_INTERVAL
SLACK = 1.0
"""Seconds for a busy machine."""


def registry(server: RedisServer, namespace: str) -> dict[str, Record]:
    """Return the record of each worker; those of former watches are no workers'."""
    _, records = fields_of(server.call("HGETALL", registry_key(namespace)))
    return {name: record for name, record in records.items() if ":" not in name}


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


async def write(store: RedisStore, group: str = "g:a") -> bool:
    """Answer a mutating request; return whether its purge was confirmed."""
    async with store.mutating():
        return None not in await store.renew((group,))


# taking part


async def test_an_open_store_is_trusted_at_once_and_holds_no_lease(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """It has looked at the leases of others; it acknowledges nothing that could be lost."""
    assert near.redis_state.trusted
    assert not near.redis_state.lease_manager.lease.valid
    assert standings(redis_server, settings.cache_namespace) == []


async def test_a_mutating_request_holds_a_lease_before_it_is_answered(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The registry has an end, a late one."""
    async with near.mutating():
        await near.renew(("g:a",))
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


async def test_without_open_a_mutating_request_holds_a_lease_before_it_is_answered(
    redis_url: str, settings: CacheSettings
) -> None:
    """What it changes and cannot purge will be noticed."""
    store = RedisStore(redis_url, settings)
    async with store.mutating():
        await store.renew(("g:a",))
        assert store.redis_state.lease_manager.lease.valid
    await store.close()


async def test_a_lease_is_taken_while_the_handler_runs(
    near: RedisStore, settings: CacheSettings
) -> None:
    """A handler that takes its time is not followed by a wait for the lease."""
    async with near.mutating():
        await eventually(lambda: near.redis_state.lease_manager.lease.valid)


async def test_with_refuse_no_lease_is_held(
    redis_url: str, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """No request is acknowledged without its purge."""
    refusing = settings.model_copy(update={"cache_on_lost_purge": "refuse"})
    async for store in _store(redis_url, refusing):
        async with store.mutating() as may_be_confirmed:
            assert may_be_confirmed
            assert None not in await store.renew(("g:a",))
        assert standings(redis_server, settings.cache_namespace) == []


def test_plain_functions_hold_no_lease(
    redis_url: str, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """A script is told whether its purge is confirmed."""
    store = SyncRedisStore(redis_url, settings)
    assert None not in store.renew_now(("g:a",))
    assert store.write_now([(b"k", b"v")], keep_for=10, tokens={})
    assert standings(redis_server, settings.cache_namespace) == []


async def test_an_idle_worker_signs_off_and_signs_on_again_under_its_name(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """Some seconds after its last mutating request; its record is one however often it does so."""
    await write(near)
    (name,) = registry(redis_server, settings.cache_namespace)

    def is_signed_off() -> bool:
        return standings(redis_server, settings.cache_namespace) == ["left"]

    took = await eventually(is_signed_off)
    assert took > IDLE_SECONDS - 0.5
    in_time(took, IDLE_SECONDS + LOOK_INTERVAL + SLACK)
    assert near.redis_state.trusted
    assert standings(redis_server, settings.cache_namespace) == ["left"]
    await write(near)
    assert standings(redis_server, settings.cache_namespace) == ["leased"]
    assert list(registry(redis_server, settings.cache_namespace)) == [name]


async def test_an_idle_worker_that_is_suspected_says_that_it_owes_nothing(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """It stood still during a write, as its peers saw it; now it is back and has paid."""
    name = near.redis_state.lease_manager.lease.identity
    suspect = Record(standing=Standing.SUSPECT, due=2**50, suspicion=60_000)
    redis_server.call("HSET", registry_key(settings.cache_namespace), name, suspect.encode())
    await eventually(lambda: standings(redis_server, settings.cache_namespace) == ["left"])


FORKED = """
import asyncio, os
from maxage import CacheSettings
from maxage.redis_store.redis_store import RedisStore

async def write():
    store = RedisStore(os.environ["REDIS_URL"], CacheSettings())
    async with store.mutating():
        assert None not in await store.renew(("g:a",))

asyncio.run(write())
if os.fork():
    os.wait()
else:
    asyncio.run(write())
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_worker_takes_part_as_itself(
    redis_url: str, redis_server: RedisServer, own_namespace: str
) -> None:
    """`--preload`: the master used the cache before it forked."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "middleware"), "REDIS_URL": redis_url}
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    subprocess.run(run, check=True, env=env, timeout=30)
    assert standings(redis_server, own_namespace) == ["leased", "left"], (
        "the child did not sign off"
    )


async def test_closing_signs_off_and_use_begins_anew(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """As if it had just started."""
    await write(near)
    await near.close()
    assert standings(redis_server, settings.cache_namespace) == ["left"]
    assert not near.redis_state.trusted
    await near.read((), (NAMESPACE_GROUP,))
    assert near.redis_state.trusted
    await write(near)
    assert standings(redis_server, settings.cache_namespace) == ["leased"]


async def test_a_process_does_not_sign_off_during_a_mutating_request(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """Its purge is still to come, and may be lost."""
    async with near.mutating():
        await near.renew(("g:a",))
        await near.close()
    assert standings(redis_server, settings.cache_namespace) == ["leased"]


async def test_a_process_does_not_sign_off_with_a_purge_owed(
    near: RedisStore, far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer,
    settings: CacheSettings,
) -> None:  # fmt: skip
    """It would be lost with the process."""
    assert await write(near)
    fault_proxy.error("OOM", commands={"SET"})
    assert not await write(far)
    await far.close()
    assert standings(redis_server, settings.cache_namespace) == ["leased", "leased"]


async def test_a_worker_that_owed_before_it_could_take_a_lease_says_so_at_once(
    near: RedisStore, far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer,
    settings: CacheSettings,
) -> None:  # fmt: skip
    """Cut off while it was idle: it reaches the registry again, but not what it owes."""
    (before,) = (await near.read((), (NAMESPACE_GROUP,))).tokens
    fault_proxy.refuse()
    assert not await write(far)
    fault_proxy.pass_through()
    fault_proxy.error("OOM", commands={"SET"})
    key = token_key(settings.cache_namespace, NAMESPACE_GROUP)
    await eventually(lambda: redis_server.call("GET", key) != before)
    await eventually(lambda: standings(redis_server, settings.cache_namespace) == ["suspect"])


# renewal


async def test_a_lease_is_renewed_while_nothing_is_owed(
    near: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """Once per look, from a thread: also while the event loop is blocked."""
    await write(near)
    (before,) = registry(redis_server, settings.cache_namespace).values()

    def is_renewed() -> bool:
        (after,) = registry(redis_server, settings.cache_namespace).values()
        return after.due > before.due

    began = time.monotonic()
    wait_until(is_renewed, "the lease is renewed")  # it blocks the event loop
    in_time(time.monotonic() - began, 1.6 * LOOK_INTERVAL)


async def test_a_lease_is_not_renewed_while_a_purge_is_owed(
    far: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The server takes the renewal and not the purge, as one shard of a Cluster may."""
    assert await write(far)
    fault_proxy.error("OOM", commands={"SET"})
    assert not await write(far)
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
    await write(far)
    (before,) = (await near.read((), (NAMESPACE_GROUP,))).tokens
    key = token_key(settings.cache_namespace, NAMESPACE_GROUP)

    def token() -> bytes | None:
        near.redis_state.trusted  # noqa: B018 - it is asked all the time
        found: bytes | None = redis_server.call("GET", key)
        return found

    fault_proxy.refuse()
    took = await eventually(lambda: token() != before)
    assert LEASE_SECONDS - LOOK_INTERVAL - 0.5 < took < BOUND + SLACK
    await eventually(lambda: near.redis_state.trusted)
    assert standings(redis_server, settings.cache_namespace) == ["suspect"]
    first = redis_server.call("GET", key)
    in_time(await eventually(lambda: token() != first), BOUND + SLACK)
    fault_proxy.pass_through()
    await eventually(lambda: standings(redis_server, settings.cache_namespace) == ["left"])


async def test_after_a_flush_all_processes_are_back_and_none_is_suspected(
    near: RedisStore, far: RedisStore, redis_server: RedisServer, settings: CacheSettings
) -> None:
    """The records are only data: workers that are well write them anew."""
    for store in (near, far):
        await write(store)
    assert len(registry(redis_server, settings.cache_namespace)) == 2
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
    assert standings(redis_server, settings.cache_namespace) == []
    await store.close()


async def test_who_cannot_look_trusts_no_hit(
    far: RedisStore, fault_proxy: FaultProxy, settings: CacheSettings
) -> None:
    """Though the server answers lookups: it does not know who else is gone."""
    fault_proxy.error("NOPERM", commands={"HGET", "HGETALL"})
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
        async with store.mutating():
            assert await store.renew(("g:a",)) == [None]
    assert store.redis_state.unwatched_purges == 2
    assert caplog.text.count("held no lease") == 1
    fault_proxy.pass_through()
    await eventually(lambda: store.redis_state.trusted)
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
        in_time(time.monotonic() - began, 3 * BOUND)
        time.sleep(0.02)
    return time.monotonic() - began


def is_hit(worker: Worker) -> bool:
    return b"hit" in (raw_http.get(worker.port, "/row").header("cache-status") or b"")


def hold_a_lease(one: Worker, other: Worker) -> None:
    """Let a worker answer a write, which the other one shows."""
    assert raw_http.request(one.port, "PUT", "/row?value=0").status == 200
    wait_until(lambda: is_hit(other), "the row is a hit")


def hits_for(worker: Worker, seconds: float) -> float:
    """Return the share of hits among reads through the worker."""
    ends, hits = time.monotonic() + seconds, []
    while time.monotonic() < ends:
        hits.append(is_hit(worker))
        time.sleep(0.05)
    return sum(hits) / len(hits)


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
    wait_until(lambda: is_hit(other), "the row is a hit")
    return one, other


def test_what_a_cut_off_worker_acknowledges_is_seen_within_five_seconds(
    pair: tuple[Worker, Worker], fault_proxy: FaultProxy
) -> None:
    """Through the other one, which knows of nothing."""
    one, other = pair
    hold_a_lease(one, other)
    fault_proxy.refuse()
    assert raw_http.request(one.port, "PUT", "/row?value=1").status == 200
    in_time(stale_for(other, "1"), BOUND + SLACK)
    # It is still away, and acknowledges the next one.
    assert raw_http.request(one.port, "PUT", "/row?value=2").status == 200
    in_time(stale_for(other, "2"), BOUND + SLACK)


def test_the_purge_of_a_killed_worker_is_made_up_for_within_five_seconds(
    pair: tuple[Worker, Worker],
    fault_proxy: FaultProxy,
    redis_server: RedisServer,
    own_namespace: str,
) -> None:
    """It died with its journal; on the same machine that is seen sooner, and costs one purge."""
    one, other = pair
    hold_a_lease(one, other)
    fault_proxy.refuse()
    assert raw_http.request(one.port, "PUT", "/row?value=1").status == 200
    one.kill()
    in_time(stale_for(other, "1"), BOUND + SLACK)
    wait_until(lambda: Standing.LEFT in standings(redis_server, own_namespace), "it has left")


def test_a_worker_that_ends_in_good_order_costs_no_hit(
    pair: tuple[Worker, Worker], redis_server: RedisServer, own_namespace: str
) -> None:
    """It leaves a tombstone, and no peer empties the cache."""
    one, other = pair
    hold_a_lease(one, other)
    one.terminate()
    assert standings(redis_server, own_namespace) == ["left"]
    ends = time.monotonic() + BOUND
    while time.monotonic() < ends:
        assert is_hit(other)
        time.sleep(0.2)


JOB = """
import asyncio, multiprocessing, os, time
from maxage import apurge, purge
from maxage.redis import RedisCache

def purge_and_wait(started):
    assert purge("/elsewhere")
    assert RedisCache[int](int, prefix="n").set(1, 1)
    started.set()
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    child = context.Process(target=purge_and_wait, args=(started,))
    child.start()
    started.wait()
    child.terminate()
    child.join()
    assert asyncio.run(apurge("/elsewhere"))
    RedisCache[int](int, prefix="n").get(1)
    os._exit(0)
"""


def test_jobs_that_end_without_signing_off_cost_no_hit(
    pair: tuple[Worker, Worker],
    redis_url: str,
    redis_server: RedisServer,
    tmp_path: Path,
    own_namespace: str,
) -> None:
    """By `os._exit` and by SIGTERM: they purged what they had to, and were told so."""
    _, other = pair
    job = tmp_path / "job.py"
    job.write_text(JOB)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "middleware"), "REDIS_URL": redis_url}
    running = subprocess.Popen([sys.executable, str(job)], env=env | dict.fromkeys(BUDGETS, "10"))
    assert hits_for(other, 4.0) == 1
    assert running.wait(60) == 0
    assert hits_for(other, BOUND + SLACK) == 1
    assert standings(redis_server, own_namespace) == []


@pytest.mark.parametrize("writes", [True, False])
def test_a_worker_that_stands_still_while_it_is_idle_costs_no_hit(
    pair: tuple[Worker, Worker], redis_server: RedisServer, writes: bool, own_namespace: str
) -> None:
    """As on serverless platforms, and after `docker pause`."""
    one, other = pair
    if writes:
        hold_a_lease(one, other)
        wait_until(lambda: standings(redis_server, own_namespace) == ["left"], "it is idle")
    assert hits_for(one, 0.5) > 0
    one.pause()
    try:
        assert hits_for(other, BOUND + 2 * SLACK) == 1
    finally:
        one.resume()
    assert raw_http.request(one.port, "PUT", "/row?value=7").status == 200
    assert raw_http.get(other.port, "/row").text == "7"


def test_a_worker_that_stands_still_during_a_write_is_a_suspect(
    pair: tuple[Worker, Worker], redis_server: RedisServer, own_namespace: str
) -> None:
    """Its row may be committed, and nothing of it is purged."""
    one, other = pair
    hold_a_lease(one, other)
    one.pause()
    try:
        began = time.monotonic()
        while standings(redis_server, own_namespace) != ["suspect"]:
            in_time(time.monotonic() - began, BOUND + SLACK)
            is_hit(other)
    finally:
        one.resume()
