"""What the attempts of one request cost together while Redis hangs."""

import time

import pytest

from maxage import CacheSettings, RedisStore, StoreUnavailableError
from tests.support.fault_proxy import FaultProxy
from tests.support.timing import in_time


@pytest.fixture
async def store(fault_proxy: FaultProxy):
    """A store behind the fault proxy, in use and with a connection."""
    settings = CacheSettings(
        redis_url=fault_proxy.url, cache_read_budget=0.4, cache_write_budget=0.5
    )
    store = RedisStore(fault_proxy.url, settings)
    await store.read((b"key",), ("n",))
    yield store
    fault_proxy.pass_through()
    store.redis_state.close()
    await store.close()


async def test_three_purges_of_one_request_cost_little_more_than_one_budget(
    store: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Before the answer, by the typed cache, and after the application returned."""
    fault_proxy.hang()
    began = time.monotonic()
    for _ in range(3):
        assert await store.renew(("n",)) == [None]
    in_time(time.monotonic() - began, 1.0)
    assert not store.redis_state.trusted


async def test_two_reads_of_one_request_cost_little_more_than_one_budget(
    store: RedisStore, fault_proxy: FaultProxy
) -> None:
    """The response's and the typed cache's."""
    fault_proxy.hang()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await store.read((b"key",), ("n",))
    in_time(time.monotonic() - began, 0.7)


async def test_both_round_trips_of_a_lookup_share_the_read_budget(fault_proxy: FaultProxy) -> None:
    """The second one, which creates tokens, has what the first one left."""
    settings = CacheSettings(redis_url=fault_proxy.url, cache_read_budget=0.8)
    store = RedisStore(fault_proxy.url, settings)
    await store.read((b"key",), ("n",))
    fault_proxy.delay(0.6)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await store.read((b"key",), ("g:new",))
    in_time(time.monotonic() - began, 1.1)
    fault_proxy.pass_through()
    await store.close()
