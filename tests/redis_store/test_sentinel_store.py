"""The store behind Sentinel: who is the primary, failovers, and what they lose."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from maxage.errors import StoreUnavailableError
from maxage.redis_store.observer import Observer
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.sentinel import Sentinels
from maxage.redis_url import server_group
from maxage.settings import CacheSettings
from maxage.store.tokens import NAMESPACE_GROUP, token_key
from tests.store.test_store_contract import eventually_read, fresh_settings
from tests.support.ports import free_port
from tests.support.redis_topology import SentinelGroup, start_sentinel, wait_acknowledging
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio

GROUPS = [NAMESPACE_GROUP, "g:a"]


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    """A primary with a password, its replica and a sentinel, to be killed."""
    with start_sentinel(password="s3cret") as started:
        yield started


async def end(made: RedisStore) -> None:
    await made.close()
    await asyncio.to_thread(made.redis_state.close)


async def test_the_primary_is_found_again_after_it_died(group: SentinelGroup) -> None:
    """Within its budget every read meanwhile is a miss; nothing of before is valid afterwards."""
    made = RedisStore(group.url, fresh_settings(cache_read_budget=0.2))
    before = (await eventually_read(made, [], GROUPS)).tokens
    old = group.primary
    old.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await made.read([], GROUPS)
    in_time(time.monotonic() - began, 1)
    after = (await eventually_read(made, [], GROUPS, within=30)).tokens
    assert None not in after
    assert not set(before) & set(after)
    assert group.primary is not old
    key = token_key(made.redis_state.namespace, "g:a")
    assert group.primary.call("GET", key) == after[1]
    await end(made)


async def test_a_purge_that_a_failover_loses_is_not_lost(group: SentinelGroup) -> None:
    """The promoted replica still has the token of before the purge, and it counts as missing."""
    made = RedisStore(group.url, fresh_settings())
    before = (await eventually_read(made, [], GROUPS)).tokens
    assert (
        await made.write([(b"k", b"old")], keep_for=60, tokens=dict.fromkeys(GROUPS, b"token"))
        is True
    )
    old, (replica,) = group.primary, group.replicas
    await asyncio.to_thread(wait_acknowledging, old)
    replica.call("REPLICAOF", "127.0.0.1", free_port())
    (renewed,) = await made.renew(["g:a"])
    assert renewed is not None
    key = token_key(made.redis_state.namespace, "g:a")
    assert replica.call("GET", key) == before[1]
    old.kill()
    await asyncio.to_thread(group.wait_promoted, old)
    assert replica.call("GET", b"k") == b"old"
    after = (await eventually_read(made, [b"k"], GROUPS, within=30)).tokens
    assert not set(before) & set(after)
    await end(made)


async def test_a_planned_failover_is_followed(group: SentinelGroup) -> None:
    """Within a look, though the old primary takes writes until its sentinel tells it."""
    made = RedisStore(group.url, fresh_settings())
    before = (await eventually_read(made, [], GROUPS)).tokens
    new = await asyncio.to_thread(group.failover)
    after = before
    async with asyncio.timeout(PATIENCE):
        while set(before) & set(after):
            after = (await eventually_read(made, [], GROUPS)).tokens
    (renewed,) = await made.renew(["g:a"])
    assert new.call("GET", token_key(made.redis_state.namespace, "g:a")) == renewed
    await end(made)


async def test_with_refuse_a_purge_is_confirmed_only_with_a_replica(group: SentinelGroup) -> None:
    """A primary that the others have left behind confirms what is lost with it."""
    settings = fresh_settings(cache_on_lost_purge="refuse", cache_write_budget=2.0)
    made = RedisStore(group.url, settings)
    await eventually_read(made, [], GROUPS)
    assert None not in await made.renew(["g:a"])
    (replica,) = group.replicas
    # One that was only led astray the sentinel would bring back meanwhile.
    replica.kill()
    assert await made.renew(["g:a"]) == [None]
    await end(made)


async def test_health_follows_the_primary(group: SentinelGroup) -> None:
    """It asks the primary, not the sentinel."""
    made = RedisStore(group.url, fresh_settings())
    await eventually_read(made, [], GROUPS)
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=group.url), 1.0).answers) is True
    )
    group.primary.pause()
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=group.url), 0.2).answers) is False
    )
    group.data_servers[0].resume()
    await eventually(lambda: made.redis_state.trusted)
    await end(made)


def test_the_first_sentinel_that_answers_is_asked_first_from_then_on(
    shared_sentinel: SentinelGroup,
) -> None:
    """A dead one costs its share of the time once."""
    (alive,) = shared_sentinel.sentinels
    url = f"redis+sentinel://127.0.0.1:{free_port()},{alive.host}:{alive.port}/mymaster"
    group = server_group(url)
    assert group is not None
    sentinels = Sentinels(group)
    primary = shared_sentinel.primary
    for _ in range(2):
        assert sentinels.primary(2.0) == (primary.host, primary.port)
    assert sentinels._hosts[0] == (alive.host, alive.port)


async def test_a_name_that_no_sentinel_knows_is_a_miss(shared_sentinel: SentinelGroup) -> None:
    """As if the server were away."""
    url = shared_sentinel.url.replace("mymaster", "other")
    made = RedisStore(url, fresh_settings(cache_read_budget=0.2))
    for _ in range(4):
        with pytest.raises(StoreUnavailableError):
            await made.read([], GROUPS)
    assert not made.redis_state.trusted
    await end(made)
