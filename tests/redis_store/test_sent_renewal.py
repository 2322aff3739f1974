"""Purges that are sent without a task: they are confirmed, or owed before their caller goes on."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from maxage import CacheSettings, StoreUnavailableError
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.packing import packed, packed_renewals
from maxage.store.tokens import token_keys
from tests.redis_store.servers.test_per_loop import RUNNERS
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

GROUPS = ("p:/items/5", "c:/items", "o")
PATIENT = {"cache_read_budget": 10.0, "cache_write_budget": 10.0, "cache_connect_budget": 10.0}


def store_at(url: str, **more: Any) -> RedisStore:
    return RedisStore(url, CacheSettings(**{**PATIENT, **more}))


@pytest.fixture
async def store(redis_url: str) -> AsyncGenerator[RedisStore]:
    store = store_at(redis_url)
    await store.open()
    yield store
    await store.close()


def owed(store: RedisStore) -> set[str]:
    return set(store.redis_state.owed_purges.snapshot()[0])


@pytest.mark.parametrize("keys", [(b"a",), (b"", b"\0" * 40, b"k\r\n" * 90), (b"a", b"b", b"c")])
@pytest.mark.parametrize("token", [b"hidden-0123456789abcdef", b"x"])
def test_the_bytes_are_those_of_one_command_for_each_key(
    keys: tuple[bytes, ...], token: bytes
) -> None:
    """However the keys look, and whether or not the same ones were written before."""
    for seconds in (1, 3600, 3600):
        commands = [("SET", key, token, "EX", seconds) for key in keys]
        assert packed_renewals(keys, token, seconds) == b"".join(packed(commands))


def test_large_purges_are_not_kept_in_memory() -> None:
    """Such a purge has other groups each time, and the next ones are no quicker for it."""
    tracemalloc.start()
    try:
        for turn in range(5):
            keys = token_keys("app", tuple(f"c:/items/{turn}/{i}" for i in range(2000)))
            packed_renewals(keys, b"hidden-0123456789abcdef", 3600)
            del keys
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000


async def test_the_groups_of_a_purge_share_one_fresh_token(store: RedisStore) -> None:
    """Another purge of the same groups draws another one."""
    seen: list[list[bytes | None]] = []
    for _ in range(2):
        sent = store.renew_at_once(GROUPS)
        assert sent is not None
        tokens = list(await sent)
        assert tokens == (await store.read((), GROUPS)).tokens
        seen.append(tokens)
    assert [len(set(tokens)) for tokens in seen] == [1, 1]
    assert seen[0] != seen[1]


async def test_tokens_end_as_late_as_others(store: RedisStore, redis_server: RedisServer) -> None:
    """No entry may outlive them; this process knows their end without asking for it."""
    sent = store.renew_at_once(GROUPS)
    assert sent is not None
    token = (await sent)[0]
    keys = [key for key in redis_server.call("KEYS", "*") if b":t:" in key]
    assert len(keys) == len(GROUPS)
    assert all(3500 < redis_server.call("TTL", key) <= 3600 for key in keys)
    assert {store.redis_state.lifetimes._ends[key][0] for key in keys} == {token}


async def test_what_must_be_awaited_first_is_not_sent_at_once(
    redis_url: str,
) -> None:
    """A connection, a lease, or the confirmation of a replica."""
    store = store_at(redis_url)
    assert store.renew_at_once(GROUPS) is None
    await store.open()
    async with store.mutating():
        assert store.redis_state.lease_manager.lacks_lease
        assert store.renew_at_once(GROUPS) is None
        assert None not in await store.renew(GROUPS)
        assert store.renew_at_once(GROUPS) is not None
    await store.close()
    for more in ({"cache_on_lost_purge": "refuse"}, {"cache_replica_lag": 1.0}):
        other = store_at(redis_url, **more)
        await other.open()
        assert other.renew_at_once(GROUPS) is None
        await other.close()
        store.redis_state.replica_lag = 0.0


async def test_a_purge_that_the_server_refuses_is_owed(own_redis: RedisServer) -> None:
    """A full one, for instance."""
    store = store_at(own_redis.url)
    await store.open()
    own_redis.call("CONFIG", "SET", "maxmemory", "1")
    sent = store.renew_at_once(GROUPS)
    assert sent is not None
    assert await sent == [None] * len(GROUPS)
    assert owed(store) == set(GROUPS)


async def test_an_answer_ends_a_row_of_failures(store: RedisStore) -> None:
    """As the answer to any other command does: the next request waits as long as ever."""
    node = store.redis_state.node
    assert node is not None
    for _ in range(3):
        node.failed(TimeoutError("late"))
        sent = store.renew_at_once(GROUPS)
        assert sent is not None
        await sent
        assert not node.breaker.suspicious


async def test_an_error_while_a_purge_comes_to_be_owed_reaches_its_caller_alone(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may refuse the thread that makes the purge; the connection goes on."""
    store = store_at(own_redis.url)
    await store.open()

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    own_redis.call("CONFIG", "SET", "maxmemory", "1")
    with monkeypatch.context() as patch:
        patch.setattr(store.redis_state, "recover", refuse)
        sent = [store.renew_at_once((group,)) for group in GROUPS]
        for renewal in sent:
            assert renewal is not None
            with pytest.raises(RuntimeError, match="thread"):
                await asyncio.wait_for(renewal, PATIENCE)
    assert owed(store) == set(GROUPS)
    own_redis.call("CONFIG", "SET", "maxmemory", "0")
    assert store.renew_at_once(GROUPS) is not None


async def test_a_purge_without_an_answer_is_owed_when_its_budget_is_over(
    own_redis: RedisServer,
) -> None:
    """Also if its caller has gone; a late answer changes nothing."""
    store = store_at(own_redis.url, cache_write_budget=0.2)
    await store.open()
    own_redis.pause()
    left, sent = store.renew_at_once(GROUPS[:1]), store.renew_at_once(GROUPS[1:])
    assert left is not None
    assert sent is not None
    left.cancel()
    assert await sent == [None] * 2
    assert owed(store) == set(GROUPS)


@pytest.fixture
def garbage() -> Iterator[None]:
    """Frees what a test leaves before the next one, which would get its warnings."""
    yield
    gc.collect()


# As an error, uvloop's warning of an open connection keeps it from closing that, so that it hangs.
@pytest.mark.usefixtures("garbage")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", RUNNERS)
def test_a_purge_whose_event_loop_ends_is_owed(name: str, own_redis: RedisServer) -> None:
    """At once, or before the next event loop trusts anything."""
    store = store_at(own_redis.url)

    async def begin() -> None:
        await store.open()
        own_redis.pause()
        assert store.renew_at_once(GROUPS) is not None

    async def read() -> None:
        with suppress(StoreUnavailableError):
            await store.read((), GROUPS)

    RUNNERS[name](begin())
    store.redis_state.recovery.stop()
    if name.endswith(".close"):
        asyncio.run(asyncio.wait_for(read(), PATIENCE))
    assert owed(store) == set(GROUPS)
