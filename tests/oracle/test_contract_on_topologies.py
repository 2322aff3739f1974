"""The contract on a Redis Cluster and behind Sentinel, also while nodes die and slots move."""

import asyncio
import os
import random
from pathlib import Path

import pytest
from redis.crc import key_slot

from tests.oracle.play import Player
from tests.oracle.scene import Scene
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import RedisCluster, start_cluster, start_sentinel
from tests.support.workers import UNCONFIRMED

SECONDS = float(os.environ.get("ORACLE_SECONDS", "5"))


@pytest.fixture
def seed() -> int:
    """The seed of the run, printed where the test fails."""
    chosen = int(os.environ.get("ORACLE_SEED", random.SystemRandom().randrange(10**6)))
    print(f"ORACLE_SEED={chosen}")
    return chosen


NEAR = {
    mode: {"CACHE_NEAR_BYTES": "1000000", "CACHE_NEAR": mode} if mode != "off" else {}
    for mode in ("off", "exact", "prompt")
}
LAGS = {"off": 0.0, "exact": 0.0, "prompt": 0.1}
"""Seconds by which a near cache of each mode may be behind."""


@pytest.mark.parametrize(
    ("where", "near"),
    [("cluster_url", mode) for mode in NEAR] + [("sentinel_url", "off")],
)
async def test_healthy_no_read_is_older_than_an_acknowledged_write(
    seed: int,
    where: str,
    near: str,
    tmp_path: Path,
    redis_server: RedisServer,
    redis_url: str,
    request: pytest.FixtureRequest,
) -> None:
    """Not one. A machine so busy that a purge missed its budget is a fault: then 5 seconds."""
    env = {"REDIS_URL": request.getfixturevalue(where), **NEAR[near]}
    with Scene(tmp_path, redis_server, 2, env) as scene:
        history = await Player(scene.workers, seed, seconds=SECONDS / 2).play()
        owed = UNCONFIRMED in scene.log()
    print(history)
    assert not history.older_than(5.0 if owed else LAGS[near]), (seed, history.stale[:5])
    assert not history.wrong
    assert history.writes > 20
    assert history.hits > history.reads / 20, "hardly anything was served from the store"


@pytest.mark.parametrize("near", ["off", "exact"])
async def test_while_a_slot_moves_no_read_is_older_than_an_acknowledged_write(
    seed: int,
    near: str,
    tmp_path: Path,
    redis_server: RedisServer,
    redis_url: str,
    shared_cluster: RedisCluster,
    cluster_url: str,
) -> None:
    """Slots of all keys there are, one after the other, from master to master."""

    async def move(chance: random.Random) -> None:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(_move_one, shared_cluster, chance)

    with Scene(tmp_path, redis_server, 2, {"REDIS_URL": cluster_url, **NEAR[near]}) as scene:
        player = Player(scene.workers, seed, seconds=SECONDS / 2, disturb=move)
        history = await player.play()
        owed = UNCONFIRMED in scene.log()
    print(history)
    assert not history.older_than(5.0 if owed else 0.0), (seed, history.stale[:5])
    assert not history.wrong
    assert history.failed == 0
    assert history.writes > 5


def _move_one(cluster: RedisCluster, chance: random.Random) -> None:
    source, target = chance.sample(cluster.masters, 2)
    keys = source.call("KEYS", "*")
    if not keys:
        return
    slot = key_slot(chance.choice(keys))
    ids = {server: server.call("CLUSTER", "MYID") for server in (source, target)}
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
        for key in keys:
            source.call("MIGRATE", target.host, target.port, key, 0, 5000)
    for server in (target, source, *cluster.masters):
        server.call("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


@pytest.mark.parametrize("near", ["off", "exact"])
async def test_when_a_master_dies_no_read_is_older_than_five_seconds(
    seed: int, near: str, tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    """And every request is answered."""
    with start_cluster(replicas=1) as cluster:
        chance = random.Random(seed)

        async def kill(_: random.Random) -> None:
            await asyncio.sleep(chance.random())
            await asyncio.to_thread(chance.choice(cluster.masters).kill)
            await asyncio.sleep(3600)

        env = {"REDIS_URL": cluster.url, **NEAR[near]}
        with Scene(tmp_path, redis_server, 2, env) as scene:
            player = Player(scene.workers, seed, seconds=SECONDS * 1.4, disturb=kill)
            history = await player.play()
    print(history)
    assert not history.older_than(5), (seed, history.older_than(5)[:5])
    assert not history.wrong
    assert history.failed == 0


async def test_when_the_primary_dies_no_read_is_older_than_five_seconds(
    seed: int, tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    """Whatever its replica has missed."""
    with start_sentinel() as group:
        chance = random.Random(seed)

        async def kill(_: random.Random) -> None:
            await asyncio.sleep(chance.random())
            await asyncio.to_thread(group.primary.kill)
            await asyncio.sleep(3600)

        with Scene(tmp_path, redis_server, 2, {"REDIS_URL": group.url}) as scene:
            player = Player(scene.workers, seed, seconds=SECONDS * 1.4, disturb=kill)
            history = await player.play()
    print(history)
    assert not history.older_than(5), (seed, history.older_than(5)[:5])
    assert not history.wrong
    assert history.failed == 0
