"""The store on a Redis Cluster: where keys lie, masters that die, slots that move."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from redis.crc import key_slot

from maxage.errors import StoreUnavailableError
from maxage.redis_store.observer import Observer
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.node import UNMET, Node
from maxage.settings import CacheSettings
from maxage.store.base import CLAIM_ENDED, StoreReply, StoreWrite
from maxage.store.tokens import HIDDEN_HISTORY, NAMESPACE_GROUP, softened, token_key
from maxage.store.wanted_claim import WantedClaim
from tests.store.test_store_contract import eventually_read, fresh_settings, tokens_of
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import RedisCluster, start_cluster
from tests.support.timing import in_time
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """Three masters, each with a replica, to be killed and paused."""
    with start_cluster(replicas=1) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster_url: str) -> AsyncIterator[RedisStore]:
    """A store on the shared cluster, with generous budgets."""
    made = RedisStore(cluster_url, fresh_settings())
    await made.open()
    yield made
    await end(made)


async def end(made: RedisStore) -> None:
    await made.close()
    await asyncio.to_thread(made.redis_state.close)


def group_on(made: RedisStore, cluster: RedisCluster, master: RedisServer) -> str:
    """A group whose token lies on this master."""
    names = (f"g:{number}" for number in range(1000))
    keys = ((name, token_key(made.redis_state.namespace, name)) for name in names)
    return next(name for name, key in keys if cluster.master_of(key) is master)


async def test_keys_and_tokens_are_spread_over_the_masters(
    store: RedisStore, shared_cluster: RedisCluster
) -> None:
    """By their slots, without any hash tag of ours."""
    groups = [f"g:{number}" for number in range(30)]
    await store.read([], groups)
    await store.write(
        [(b"%d" % n, b"v") for n in range(30)], keep_for=60, tokens=dict.fromkeys(groups, b"token")
    )
    for master in shared_cluster.masters:
        kept = master.call("KEYS", "*")
        assert any(b":t:" in key for key in kept)
        assert any(b":t:" not in key for key in kept)


async def test_soft_purges_and_claims_lie_on_any_master(store: RedisStore) -> None:
    """Two commands for one key each, which go to one master in their order."""
    groups = [f"g:{number}" for number in range(20)]
    before = (await store.read([], groups)).tokens
    assert await store.soften([*groups, "g:new"])
    after = (await store.read([], groups)).tokens
    for old, new in zip(before, after, strict=True):
        assert old is not None
        assert old != new
        assert softened(old, new)
    for number in range(20):
        key = b"claim %d" % number
        assert await store.claim(key, b"mine", keep_for=60) == b"mine"
        assert await store.claim(key, b"other", keep_for=60) == b"mine"
        assert await store.write_all([StoreWrite([(b"%d" % number, b"v")], 60, {}, ended=key)])
        assert await store.claim(key, b"other", keep_for=60) == CLAIM_ENDED


async def test_a_lookup_is_answered_though_a_full_master_refuses_its_claim(
    store: RedisStore, shared_cluster: RedisCluster
) -> None:
    """A full server refuses writes, and still answers reads: a claim is a write."""
    groups = [f"g:{number}" for number in range(9)]
    expected = [token or b"" for token in (await store.read([], groups)).tokens]
    try:
        for master in shared_cluster.masters:
            master.call("CONFIG", "SET", "maxmemory", "1")
        wanted = WantedClaim(b"key", groups, expected=expected)
        assert (await store.read([b"key"], groups, wanted)).tokens == expected
        assert wanted.present is None
    finally:
        for master in shared_cluster.masters:
            master.call("CONFIG", "SET", "maxmemory", "0")


async def test_each_token_names_the_history_of_its_own_master(
    store: RedisStore, shared_cluster: RedisCluster
) -> None:
    """A shard that fails over loses its own tokens, no others."""
    groups = [group_on(store, shared_cluster, master) for master in shared_cluster.masters]
    histories = [
        master.info("replication")["master_replid"][:12] for master in shared_cluster.masters
    ]
    tokens = await tokens_of(store, *groups)
    assert [token.split(b"-")[0].decode() for token in tokens if token] == histories


async def test_a_hanging_master_costs_a_read_no_more_than_its_budget_and_stops_no_other(
    cluster_url: str, shared_cluster: RedisCluster
) -> None:
    """Reads that need only the other masters go on."""
    settings = fresh_settings(cache_read_budget=0.2, cache_write_budget=0.2)
    made = RedisStore(cluster_url, settings)
    registry = f"{settings.cache_namespace}:leases"
    well, hung = (
        shared_cluster.master_of(registry),
        next(m for m in shared_cluster.masters if m is not shared_cluster.master_of(registry)),
    )
    there, away = (group_on(made, shared_cluster, master) for master in (well, hung))
    await eventually_read(made, [], [there, away])
    hung.pause()
    try:
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await made.read([], [there, away])
            in_time(time.monotonic() - began, 1)
            assert (await made.read([], [there])).tokens[0] is not None
        assert not made.redis_state.trusted
    finally:
        hung.resume()
    shared_cluster.wait_ok()
    await eventually_read(made, [], [there, away])
    await eventually(lambda: made.redis_state.trusted)
    await end(made)


async def test_a_purge_that_one_master_did_not_take_stops_every_hit(
    cluster_url: str, shared_cluster: RedisCluster
) -> None:
    """The journal is the whole store's."""
    made = RedisStore(cluster_url, fresh_settings(cache_read_budget=0.2, cache_write_budget=0.2))
    groups = [group_on(made, shared_cluster, master) for master in shared_cluster.masters]
    before = (await eventually_read(made, [], groups)).tokens
    hung = shared_cluster.masters[1]
    hung.pause()
    try:
        renewed = await made.renew(groups)
        assert [token is None for token in renewed] == [False, True, False]
        with pytest.raises(StoreUnavailableError):
            await made.read([], groups[:1])
    finally:
        hung.resume()
    shared_cluster.wait_ok()
    after = (await eventually_read(made, [], groups)).tokens
    assert not set(before) & set(after)
    await end(made)


async def read_again(made: RedisStore, groups: Sequence[str]) -> StoreReply:
    return await eventually_read(made, [], groups, within=30)


async def test_a_replica_that_takes_over_revives_nothing(own_cluster: RedisCluster) -> None:
    """Its tokens are of another history, and the namespace is purged before anything is trusted."""
    made = RedisStore(own_cluster.url, fresh_settings(cache_read_budget=0.2))
    dead = own_cluster.master_of(token_key(made.redis_state.namespace, NAMESPACE_GROUP))
    other = next(master for master in own_cluster.masters if master is not dead)
    groups = [NAMESPACE_GROUP, group_on(made, own_cluster, dead)]
    before = (await read_again(made, groups)).tokens
    kept = group_on(made, own_cluster, other)
    (unmoved,) = (await read_again(made, [kept])).tokens
    dead.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await made.read([], groups)
    in_time(time.monotonic() - began, 1)
    after = (await read_again(made, groups)).tokens
    assert not set(before) & set(after)
    assert (await read_again(made, [kept])).tokens == [unmoved]
    assert len(made.redis_state.nodes) == 3
    await end(made)


async def test_a_worker_that_starts_while_a_node_of_its_url_is_dead_finds_the_others(
    own_cluster: RedisCluster,
) -> None:
    """Any node that lives tells of all."""
    made = RedisStore(own_cluster.url, fresh_settings())
    await read_again(made, ["g:a"])
    own_cluster.masters[0].kill()
    await asyncio.to_thread(own_cluster.wait_ok)
    late = RedisStore(own_cluster.url, fresh_settings())
    assert None not in (await read_again(late, [NAMESPACE_GROUP, "g:a", "g:b", "g:c"])).tokens
    for store in (made, late):
        await end(store)


class Move:
    """The slot of a key on its way from one master to another."""

    def __init__(
        self, cluster: RedisCluster, key: bytes, *, target: RedisServer | None = None
    ) -> None:
        self.cluster, self.slot = cluster, key_slot(key)
        self.source = cluster.master_of(key)
        self.target = target or next(m for m in cluster.masters if m is not self.source)
        self._ids = {m: m.call("CLUSTER", "MYID") for m in (self.source, self.target)}
        self.target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._ids[self.source])
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._ids[self.target])

    def finish(self) -> None:
        """Move the keys, and tell every master that the slot has moved."""
        keys = self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        for key in keys:
            where = (self.target.host, self.target.port, key, 0, 5000)
            assert self.source.call("MIGRATE", *where) == b"OK"
        for master in (self.target, self.source, *self.cluster.masters):
            master.call("CLUSTER", "SETSLOT", self.slot, "NODE", self._ids[self.target])


async def test_while_a_slot_moves_tokens_are_created_and_purged_where_they_will_lie(
    store: RedisStore, shared_cluster: RedisCluster
) -> None:
    """The old master answers ASK for what it has no more or never had."""
    key = token_key(store.redis_state.namespace, "g:a")
    await store.read([], [NAMESPACE_GROUP])
    move = Move(shared_cluster, key)
    (created,) = await tokens_of(store, "g:a")
    assert created is not None
    assert await tokens_of(store, "g:a") == [created]
    (renewed,) = await store.renew(["g:a"])
    assert renewed not in (None, created)
    assert await tokens_of(store, "g:a") == [renewed]
    await asyncio.to_thread(move.finish)
    assert await tokens_of(store, "g:a") == [renewed]
    assert shared_cluster.master_of(key) is move.target
    assert move.target.call("GET", key) == renewed


async def test_a_token_that_moved_counts_as_missing_and_nothing_else_is_lost(
    store: RedisStore, shared_cluster: RedisCluster
) -> None:
    """MOVED costs no request its answer; what depended on the token is a miss."""
    key = token_key(store.redis_state.namespace, "g:a")
    before, kept = await tokens_of(store, "g:a", NAMESPACE_GROUP)
    assert await store.write([(b"k", b"v")], keep_for=60, tokens={"g:a": b"token"}) is True
    move = Move(shared_cluster, key)
    await asyncio.to_thread(move.finish)
    reading = await store.read([b"k"], ["g:a", NAMESPACE_GROUP])
    assert reading.values == [b"v"]
    assert reading.tokens[0] not in (None, before)
    assert reading.tokens[1] == kept
    assert await tokens_of(store, "g:a") == [reading.tokens[0]]
    (renewed,) = await store.renew(["g:a"])
    assert await tokens_of(store, "g:a") == [renewed]


async def test_another_workers_purge_after_a_move_is_seen(
    cluster_url: str, shared_cluster: RedisCluster
) -> None:
    """However old the other's map of the slots."""
    settings = fresh_settings()
    one, other = RedisStore(cluster_url, settings), RedisStore(cluster_url, fresh_settings())
    other.redis_state.namespace  # noqa: B018 - a map of its own, of another namespace
    await tokens_of(one, "g:a")
    await tokens_of(other, "g:a")
    move = Move(shared_cluster, token_key(one.redis_state.namespace, "g:a"))
    await asyncio.to_thread(move.finish)
    (renewed,) = await one.renew(["g:a"])
    assert renewed is not None
    assert await tokens_of(one, "g:a") == [renewed]
    for made in (one, other):
        await end(made)


async def test_a_master_that_joins_empties_the_cache_once(own_cluster: RedisCluster) -> None:
    """Also while its first slot is on its way, and it keeps none by another node's word."""
    made = RedisStore(own_cluster.url, fresh_settings())
    before = (await read_again(made, [NAMESPACE_GROUP])).tokens
    own_cluster.replicas[0].call("CLUSTER", "RESET", "HARD")
    own_cluster.replicas[0].call("CLUSTER", "MEET", "127.0.0.1", own_cluster.masters[1].port)
    await asyncio.to_thread(own_cluster.wait_ok)
    own_cluster.masters.append(own_cluster.replicas[0])
    key = token_key(made.redis_state.namespace, "g:a")
    move = Move(own_cluster, key, target=own_cluster.replicas[0])
    assert None not in (await read_again(made, ["g:a"])).tokens
    after = (await read_again(made, [NAMESPACE_GROUP, "g:a"])).tokens
    assert after[0] not in before
    # Longer than the interval in which the masters are learned anew.
    for _ in range(5):
        await asyncio.sleep(0.5)
        assert (await read_again(made, [NAMESPACE_GROUP, "g:a"])).tokens == after
    await asyncio.to_thread(move.finish)
    assert (await read_again(made, [NAMESPACE_GROUP, "g:a"])).tokens == after
    await end(made)


def test_a_server_that_took_over_is_another_one_even_where_histories_are_hidden() -> None:
    """No client has lost a connection to it, for none had one."""
    redis_state = RedisStore("redis+cluster://127.0.0.1:1", fresh_settings()).redis_state
    first = Node("redis://127.0.0.1:1", redis_state)
    later = Node("redis://127.0.0.1:1", redis_state, history=UNMET)
    assert first.changed(HIDDEN_HISTORY) is False
    assert later.changed(HIDDEN_HISTORY) is True
    assert later.changed(HIDDEN_HISTORY) is False


async def test_ping_says_whether_every_master_answers(
    own_cluster: RedisCluster,
) -> None:
    """The health page's question."""
    made = RedisStore(own_cluster.url, fresh_settings(cache_read_budget=0.3))
    await read_again(made, ["g:a"])
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=own_cluster.url), 1.0).answers)
        is True
    )
    own_cluster.masters[2].pause()
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=own_cluster.url), 0.2).answers)
        is False
    )
    own_cluster.masters[2].resume()
    await end(made)
    assert (
        await asyncio.to_thread(
            Observer(CacheSettings(redis_url="redis+cluster://127.0.0.1:1"), 0.2).answers
        )
        is False
    )


async def test_the_documented_user_is_enough_on_a_cluster(
    cluster_url: str, shared_cluster: RedisCluster
) -> None:
    """The one of docs/security.md, with what it says that a cluster needs besides."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    (rights,) = re.findall(r"^user cache on >change-this (.*)$", text, flags=re.MULTILINE)
    (more,) = re.findall(r"A Redis Cluster needs `([^`]+)`", text)
    settings = fresh_settings()
    patterns = rights.replace("~maxage:*", f"~{settings.cache_namespace}:*")
    words = [word for word in f"{patterns} {more}".split() if not word.startswith("~item")]
    for master in shared_cluster.masters:
        master.call("ACL", "SETUSER", "limited", "on", ">pw", *words)
    made = RedisStore(cluster_url.replace("://", "://limited:pw@"), settings)
    key = f"{settings.cache_namespace}:k".encode()
    await eventually_read(made, [], [NAMESPACE_GROUP, "g:a"])
    move = Move(shared_cluster, token_key(settings.cache_namespace, "g:b"))
    (created,) = await tokens_of(made, "g:b")
    assert created is not None
    await asyncio.to_thread(move.finish)
    assert await made.write([(key, b"v")], keep_for=60, tokens={"g:a": b"token"}) is True
    assert (await made.read([key], ["g:a"])).values == [b"v"]
    assert None not in await made.renew(["g:a", "g:b"])
    assert await made.delete([key]) is True
    assert made.redis_state.trusted
    await end(made)
