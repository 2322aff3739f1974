"""The near cache on a Redis Cluster: used only while every master is listened to."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.crc import key_slot

from maxage.redis_store.near.listeners import names_in_all_slots
from maxage.redis_store.near.near_cache import SILENCE, NearCache
from maxage.redis_store.redis_store import RedisStore
from maxage.store.tokens import NAMESPACE_GROUP, fresh_token, token_key
from tests.redis_store.near.test_near_cache import (
    confirmed,
    end,
    end_tracking,
    made,
    settings,
    tracking,
    usable,
)
from tests.redis_store.test_cluster_store import Move, group_on
from tests.store.test_store_contract import eventually_read
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import RedisCluster, start_cluster, wait_acknowledging
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

WITHIN = 30.0
"""Seconds for what takes a second or two on a quiet machine."""


@pytest.fixture(params=["exact", "prompt"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both modes."""
    return str(request.param)


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """Three masters, each with a replica, to be killed and demoted."""
    with start_cluster(replicas=1) as cluster:
        yield cluster


async def begin(cluster: RedisCluster, mode: str) -> tuple[RedisStore, NearCache]:
    """Return a store whose near cache listens to every master."""
    store = RedisStore(cluster.url, settings(cluster.url, mode))
    await store.open()
    near = store.near
    assert near is not None
    await eventually_read(store, [], [NAMESPACE_GROUP, "g:a"], within=WITHIN)
    await eventually(lambda: usable(near), within=WITHIN)
    return store, near


@pytest.fixture
async def pair(
    cluster_url: str, shared_cluster: RedisCluster, mode: str
) -> AsyncIterator[tuple[RedisStore, NearCache]]:
    """A store with a near cache on the shared cluster, in both modes."""
    assert cluster_url
    store, near = await begin(shared_cluster, mode)
    yield store, near
    await end(store)


async def keep(store: RedisStore, near: NearCache, group: str, key: bytes = b"k") -> bool:
    """Look up and keep, as `Cache.lookup` does."""
    since = near.begin()
    groups = (NAMESPACE_GROUP, group)
    # A purge may be owed again while a replica takes over.
    tokens = (await eventually_read(store, (), groups, within=WITHIN)).tokens
    assert None not in tokens
    near.keep(made(key, tokens, groups), since=since, ends=time.monotonic() + 60)
    return near.copies.find(key) is not None


async def kept(store: RedisStore, near: NearCache, group: str) -> None:
    """Keep a copy as soon as that is possible."""
    async with asyncio.timeout(WITHIN):
        while True:
            await eventually_read(store, [], [NAMESPACE_GROUP, group], within=WITHIN)
            if await keep(store, near, group):
                return
            await asyncio.sleep(0.02)


def renew(cluster: RedisCluster, store: RedisStore, group: str) -> None:
    """Purge a group as another worker does, on whatever master keeps it now."""
    key = token_key(store.redis_state.namespace, group)
    master = cluster.master_of(key)
    history = master.info("replication")["master_replid"][:12].encode()
    master.call("SET", key, fresh_token(history))


async def answers(near: NearCache) -> bool:
    """Whether a copy would answer a request that comes now."""
    copy = near.find(b"k")
    return copy is not None and await near.confirm(copy)


async def test_another_workers_purge_on_any_master_is_seen(
    pair: tuple[RedisStore, NearCache], shared_cluster: RedisCluster
) -> None:
    """Each master tells of its own tokens."""
    store, near = pair
    for master in shared_cluster.masters:
        group = group_on(store, shared_cluster, master)
        await kept(store, near, group)
        assert await answers(near)
        await asyncio.to_thread(renew, shared_cluster, store, group)
        await eventually(lambda: near.copies.find(b"k") is None)


async def test_a_confirmed_copy_is_current_whatever_master_its_tokens_lie_on(
    cluster_url: str, shared_cluster: RedisCluster
) -> None:
    """`exact`: whatever was purged before the question is known when the answers are there."""
    assert cluster_url
    store, near = await begin(shared_cluster, "exact")
    groups = [group_on(store, shared_cluster, master) for master in shared_cluster.masters]
    for number in range(30):
        group = groups[number % 3]
        await kept(store, near, group)
        # Blocking: the message cannot be worked off before `find`.
        renew(shared_cluster, store, group)
        copy = near.find(b"k")
        assert copy is not None
        assert not await near.confirm(copy)
    await end(store)


async def test_nothing_is_found_while_one_master_is_not_listened_to(
    pair: tuple[RedisStore, NearCache], shared_cluster: RedisCluster
) -> None:
    """Not even what depends on the others; and nothing of before is found afterwards."""
    store, near = pair
    first, *_, last = shared_cluster.masters
    group = group_on(store, shared_cluster, first)
    await kept(store, near, group)
    await asyncio.to_thread(end_tracking, last)
    await eventually(lambda: near.copies.find(b"k") is None)
    await eventually(lambda: usable(near), within=WITHIN)
    assert near.find(b"k") is None
    assert await keep(store, near, group)


async def test_one_master_that_does_not_answer_stops_every_hit(
    pair: tuple[RedisStore, NearCache], shared_cluster: RedisCluster
) -> None:
    """SIGSTOP: the kernel keeps the connection."""
    store, near = pair
    first, *_, last = shared_cluster.masters
    await kept(store, near, group_on(store, shared_cluster, first))
    last.pause()
    try:
        await asyncio.sleep(SILENCE * 1.5)
        assert not (await confirmed(near, 0.1) if near.exact else near.find(b"k"))
    finally:
        last.resume()
        await asyncio.to_thread(shared_cluster.wait_ok)


async def test_a_master_that_dies_and_the_replica_that_takes_over(
    own_cluster: RedisCluster, mode: str
) -> None:
    """No copy answers until the replica is listened to; its purges are seen from then on."""
    store, near = await begin(own_cluster, mode)
    dead = own_cluster.masters[1]
    group = group_on(store, own_cluster, dead)
    await kept(store, near, group)
    dead.kill()
    await eventually(lambda: near.copies.find(b"k") is None)
    assert not await answers(near)
    await asyncio.to_thread(own_cluster.wait_ok)
    await kept(store, near, group)
    heard = {node for node, listener in near.listeners._of.items() if listener.hears()}
    assert heard == set(store.redis_state.nodes)
    await asyncio.to_thread(renew, own_cluster, store, group)
    await eventually(lambda: near.copies.find(b"k") is None)
    await end(store)


async def test_a_master_that_was_demoted_is_no_longer_asked(
    own_cluster: RedisCluster, mode: str
) -> None:
    """It would answer a PING, and hear of purges only when its new master tells it of them."""
    store, near = await begin(own_cluster, mode)
    demoted, heir = own_cluster.masters[1], own_cluster.replicas[1]
    group = group_on(store, own_cluster, demoted)
    await asyncio.to_thread(wait_acknowledging, demoted)
    await kept(store, near, group)
    await asyncio.to_thread(heir.call, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(
        wait_until, lambda: is_master(heir) and not is_master(demoted), "it took over", timeout=60
    )
    if near.exact:
        assert not await answers(near)
    else:
        # A copy that is asked for keeps the PINGs going.
        await eventually(lambda: near.find(b"k") is None and near.copies.find(b"k") is None)
    await asyncio.to_thread(own_cluster.wait_ok)
    await kept(store, near, group)
    await asyncio.to_thread(renew, own_cluster, store, group)
    await eventually(lambda: near.copies.find(b"k") is None)
    await end(store)


def is_master(server: RedisServer) -> bool:
    return bool(server.info("replication")["role"] == "master")


async def test_a_slot_that_moves_takes_its_copies_with_it(
    pair: tuple[RedisStore, NearCache], shared_cluster: RedisCluster
) -> None:
    """Between two masters that are listened to: both tell of the tokens that move."""
    store, near = pair
    group = group_on(store, shared_cluster, shared_cluster.masters[0])
    await kept(store, near, group)
    move = Move(shared_cluster, token_key(store.redis_state.namespace, group))
    await asyncio.to_thread(move.finish)
    await eventually(lambda: near.copies.find(b"k") is None)
    await kept(store, near, group)
    await asyncio.to_thread(renew, shared_cluster, store, group)
    await eventually(lambda: near.copies.find(b"k") is None)


def test_a_master_may_keep_any_single_slot() -> None:
    """There is a key of its own that it can be asked for."""
    assert {key_slot(name) for name in names_in_all_slots("n")} == set(range(16384))


async def test_a_master_that_joins_is_listened_to_before_anything_of_it_is_kept(
    own_cluster: RedisCluster, mode: str
) -> None:
    """Also what a node serves that keeps no slot yet, while its first one is on its way."""
    store, near = await begin(own_cluster, mode)
    joined = own_cluster.replicas[0]
    joined.call("CLUSTER", "RESET", "HARD")
    joined.call("CLUSTER", "MEET", "127.0.0.1", own_cluster.masters[1].port)
    await asyncio.to_thread(own_cluster.wait_ok)
    own_cluster.masters.append(joined)
    move = Move(own_cluster, token_key(store.redis_state.namespace, "g:b"), target=joined)
    for _ in range(20):
        await eventually_read(store, [], [NAMESPACE_GROUP, "g:b"], within=WITHIN)
        assert not await keep(store, near, "g:b")
        await asyncio.sleep(0.1)
    await asyncio.to_thread(move.finish)
    await kept(store, near, "g:b")
    assert await answers(near) or not near.exact
    await asyncio.to_thread(renew, own_cluster, store, "g:b")
    await eventually(lambda: near.copies.find(b"k") is None)
    await end(store)


async def test_closing_leaves_no_connection_on_any_master(
    shared_cluster: RedisCluster, cluster_url: str
) -> None:
    """Nor a listener."""
    assert cluster_url
    store, near = await begin(shared_cluster, "prompt")
    await end(store)
    assert not near.listeners._of
    assert not usable(near)
    await eventually(lambda: not any(list(tracking(m)) for m in shared_cluster.masters))
