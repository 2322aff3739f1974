"""One contract for every store, kept on a real server; then what each of them adds to it."""

import asyncio
import gc
import logging
import random
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from maxage.errors import StoreUnavailableError
from maxage.invalidation.group_names import path_group
from maxage.redis_store.observer import Observer
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.settings import CacheSettings
from maxage.store.base import CLAIM_ENDED, Store, StoreReply, StoreWrite
from maxage.store.memory import MemoryStore
from maxage.store.tokens import (
    LONG_TOKEN_SECONDS,
    NAMESPACE_GROUP,
    TOKEN_SECONDS,
    softened,
    token_key,
)
from maxage.store.wanted_claim import WantedClaim
from maxage.store_factory import store_from_url
from tests.support.clock import ManualClock
from tests.support.fault_proxy import ERRORS, FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE, eventually

ODD_GROUPS = [
    "", "n", "p:/", "p:/items", "c:/items", "g:items", "g:a b", "g:\r\n\0", "g:é", "g:\ud800",
    "g:*", "g:{a}", "g:{b}", "g:$5", "g:" + "x" * 198, "g:" + "x" * 199, "g:" + "x" * 100_000,
    "g:" + "x" * 100_001, "p:/items:t:n", "h:0",
]  # fmt: skip
ODD_BYTES = [b"", b"\0", b"\r\n", b"$5\r\nhello\r\n", b"*", bytes(range(256)), b"\xff" * 1000]


class Awaited:
    """The synchronous half on Redis, awaited, so that it keeps the same contract."""

    def __init__(self, url: str, settings: CacheSettings) -> None:
        self._store = SyncRedisStore(url, settings)
        self.redis_state = self._store.redis_state
        self.shared = True
        self.keeps_objects = False
        self.near = None

    @property
    def authority(self) -> object:
        return self._store.authority

    async def open(self) -> None:
        self._store.redis_state.reopen()
        await asyncio.wrap_future(self._store.redis_state.lease_manager.join())

    async def close(self) -> None:
        self._store.close()

    async def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> StoreReply:
        return await asyncio.to_thread(self._store.read_now, keys, groups)

    async def write(self, values: Any, *, keep_for: float, tokens: Any) -> bool:
        return await asyncio.to_thread(
            self._store.write_now, values, keep_for=keep_for, tokens=tokens
        )

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        raise NotImplementedError  # only the middleware writes several

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        raise NotImplementedError  # only the middleware claims

    async def delete(self, keys: Sequence[bytes]) -> bool:
        return await asyncio.to_thread(self._store.delete_now, keys)

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        raise NotImplementedError  # only the middleware keeps lists

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        raise NotImplementedError

    @asynccontextmanager
    async def mutating(self) -> AsyncIterator[bool]:
        yield self.redis_state.trusted

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        return await asyncio.to_thread(self._store.renew_now, groups)

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        # Only the middleware asks for it, which has no synchronous store.
        before = await self.read([], groups)
        return before.tokens, await self.renew(groups)

    async def soften(self, groups: Sequence[str]) -> bool:
        return await asyncio.to_thread(self._store.soften_now, groups)


def fresh_settings(**values: Any) -> CacheSettings:
    """Settings with a namespace of their own: what a process knows of a server hangs on it."""
    # The machine may be busy: where the budget is not what is tested, it is generous.
    budgets = {"cache_read_budget": 5.0, "cache_write_budget": 5.0}
    return CacheSettings(
        **({"redis_url": None, "cache_namespace": f"t{uuid.uuid4().hex[:12]}"} | budgets | values)
    )


KINDS = [
    "memory",
    *(f"{where}{half}" for where in ("redis", "cluster", "sentinel") for half in ("", "-sync")),
]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each store in turn, open and empty."""
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    else:
        where, _, half = request.param.partition("-")
        url = request.getfixturevalue(f"{where}_url")
        kind: Callable[..., Store] = Awaited if half else RedisStore
        made = kind(url, fresh_settings())
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=["memory", "redis"])
async def memory_or_redis(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The stores of the middleware."""
    kept: Store = MemoryStore()
    if request.param == "redis":
        kept = RedisStore(request.getfixturevalue("redis_url"), fresh_settings())
    await kept.open()
    yield kept
    await kept.close()


@pytest.fixture
async def on_redis(redis_url: str) -> AsyncIterator[RedisStore]:
    """A store on the shared server."""
    made = RedisStore(redis_url, fresh_settings())
    yield made
    await _end(made)


@pytest.fixture
async def proxied(fault_proxy: FaultProxy) -> AsyncIterator[RedisStore]:
    """A store behind the fault proxy, with generous budgets, warm: its tokens exist."""
    made = RedisStore(fault_proxy.url, fresh_settings())
    await made.read([], [NAMESPACE_GROUP, "g:a", "g:b"])
    await made.write([(b"k", b"v")], keep_for=60, tokens={"g:a": b"token"})
    fault_proxy.forget()
    yield made
    fault_proxy.pass_through()
    await _end(made)


@pytest.fixture
async def hurried(fault_proxy: FaultProxy) -> AsyncIterator[RedisStore]:
    """A store behind the fault proxy, with the budgets of the design."""
    made = RedisStore(
        fault_proxy.url, fresh_settings(cache_read_budget=0.05, cache_write_budget=0.1)
    )
    await eventually_read(made, [], [NAMESPACE_GROUP, "g:a"])
    fault_proxy.forget()
    yield made
    fault_proxy.pass_through()
    await _end(made)


@pytest.fixture
def unhandled() -> Iterator[list[str]]:
    """What asyncio would have logged of tasks whose exception was never retrieved."""
    handler = _Records()
    logging.getLogger("asyncio").addHandler(handler)
    yield handler.messages
    logging.getLogger("asyncio").removeHandler(handler)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


async def _end(made: RedisStore) -> None:
    await made.close()
    await asyncio.to_thread(made.redis_state.close)


async def eventually_read(
    made: Store, keys: Sequence[bytes], groups: Sequence[str], *, within: float = 10.0
) -> StoreReply:
    """Read as requests do, again and again, until the store answers."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await made.read(keys, groups)
            except StoreUnavailableError:
                await asyncio.sleep(0.005)


async def values_of(made: Store, *keys: bytes) -> list[bytes | None]:
    return list((await eventually_read(made, keys, ())).values)


async def tokens_of(made: Store, *groups: str) -> list[bytes | None]:
    return list((await eventually_read(made, (), groups)).tokens)


# the contract


async def test_it_is_a_store(store: Store) -> None:
    """All that the protocol names is there."""
    assert isinstance(store, Store)
    async with store.mutating() as may_be_confirmed:
        assert may_be_confirmed


async def test_what_was_never_written_is_none(store: Store) -> None:
    """Missing is None, not empty."""
    assert await values_of(store, b"a", b"b") == [None, None]


async def test_what_was_written_is_read(store: Store) -> None:
    """Whole, under its own key."""
    assert await store.write([(b"a", b"1"), (b"b", b"2")], keep_for=60, tokens={}) is True
    assert await values_of(store, b"b", b"x", b"a") == [b"2", None, b"1"]


async def test_writing_again_replaces(store: Store) -> None:
    """The newest value counts."""
    await store.write([(b"a", b"long before")], keep_for=60, tokens={})
    await store.write([(b"a", b"1"), (b"a", b"2")], keep_for=60, tokens={})
    assert await values_of(store, b"a") == [b"2"]


async def test_what_was_deleted_is_none(store: Store) -> None:
    """And only that."""
    await store.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], keep_for=60, tokens={})
    assert await store.delete([b"a", b"c"]) is True
    assert await values_of(store, b"a", b"b", b"c") == [None, b"2", None]


@pytest.mark.parametrize("keep_for", [0, -1, -0.5])
async def test_what_is_kept_for_no_time_is_not_kept(store: Store, keep_for: float) -> None:
    """The write says so."""
    assert await store.write([(b"a", b"1")], keep_for=keep_for, tokens={}) is False
    assert await values_of(store, b"a") == [None]


async def test_reading_nothing_answers_nothing(store: Store) -> None:
    """No keys, no groups, no matter."""
    await store.write([(b"a", b"1")], keep_for=60, tokens={})
    reading = await store.read([b"a"], [])
    assert (list(reading.values), list(reading.tokens)) == ([b"1"], [])
    assert await store.renew([]) == []


async def test_a_token_is_created_when_missing_and_stable_afterwards(store: Store) -> None:
    """An entry that carries it stays valid."""
    first = await tokens_of(store, "g:a", "g:b")
    assert None not in first
    assert first[0] != first[1]
    assert await tokens_of(store, "g:b", "g:a") == first[::-1]


async def test_values_and_tokens_come_in_the_order_asked(store: Store) -> None:
    """Also when something is asked for twice."""
    await store.write([(b"a", b"1"), (b"b", b"2")], keep_for=60, tokens={})
    one, other = await tokens_of(store, "g:a", "g:b")
    reading = await store.read([b"b", b"a", b"b"], ["g:b", "g:a", "g:b"])
    assert list(reading.values) == [b"2", b"1", b"2"]
    assert list(reading.tokens) == [other, one, other]


async def test_renewing_changes_the_token_and_says_the_new_one(store: Store) -> None:
    """Of that group and of no other."""
    before = await tokens_of(store, "g:a", "g:b", "g:c")
    renewed = await store.renew(["g:a", "g:c"])
    after = await tokens_of(store, "g:a", "g:b", "g:c")
    assert after == [renewed[0], before[1], renewed[1]]
    assert not set(renewed) & set(before)


async def test_swapping_renews_and_says_what_it_replaced(store: Store) -> None:
    """The token before, the token after; what is not named stays."""
    before = await tokens_of(store, "g:a", "g:b", "g:c")
    replaced, written = await store.swap(["g:a", "g:c"])
    assert list(replaced) == [before[0], before[2]]
    assert await tokens_of(store, "g:a", "g:b", "g:c") == [written[0], before[1], written[1]]
    assert not set(written) & set(before)


async def test_of_swaps_at_once_each_replaces_the_token_of_another_one(
    memory_or_redis: Store,
) -> None:
    """No purge comes between the token that a swap tells and the one that it writes."""
    first = await tokens_of(memory_or_redis, "g:a")
    swaps = await asyncio.gather(*(memory_or_redis.swap(["g:a"]) for _ in range(30)))
    replaced = [before[0] for before, _ in swaps]
    written = [after[0] for _, after in swaps]
    last = await tokens_of(memory_or_redis, "g:a")
    assert set(replaced) == {*first, *written} - set(last)
    assert len(set(replaced)) == 30


async def test_a_swap_that_does_not_arrive_is_owed(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Like any purge."""
    fault_proxy.refuse()
    assert await proxied.swap(["g:a"]) == ([None], [None])
    assert not proxied.redis_state.trusted


async def test_renewing_what_was_never_read_creates_it(store: Store) -> None:
    """A write before any read."""
    renewed = await store.renew(["g:new"])
    assert None not in renewed
    assert await tokens_of(store, "g:new") == list(renewed)


async def test_no_two_purges_give_the_same_token(store: Store) -> None:
    """Whatever the order in which they arrive: a value that comes back would revive entries."""
    seen = [await tokens_of(store, "g:a")]
    seen += await asyncio.gather(*(store.renew(["g:a"]) for _ in range(30)))
    assert len({token for tokens in seen for token in tokens}) == 31
    assert await tokens_of(store, "g:a") in [list(tokens) for tokens in seen[1:]]


async def test_of_those_who_claim_at_once_one_is_told_that_it_is_his(
    memory_or_redis: Store,
) -> None:
    """The others are told whose it is."""
    store = memory_or_redis
    names = [b"%d" % n for n in range(20)]
    told = await asyncio.gather(*(store.claim(b"c", name, keep_for=60) for name in names))
    assert len(set(told)) == 1
    assert told[0] in names
    assert await store.claim(b"other", b"x", keep_for=60) == b"x"
    await store.delete((b"c",))
    assert await store.claim(b"c", b"later", keep_for=60) == b"later"


async def test_a_claim_ends_by_itself_and_lives_on_where_it_is_renewed(
    memory_or_redis: Store,
) -> None:
    """No request waits long for a process that died."""
    store = memory_or_redis
    assert await store.claim(b"c", b"one", keep_for=0.05) == b"one"
    assert await store.write([(b"c", b"one")], keep_for=60, tokens={})
    await asyncio.sleep(0.1)
    assert await store.claim(b"c", b"two", keep_for=0.05) == b"one"
    assert await store.claim(b"d", b"one", keep_for=0.01) == b"one"
    async with asyncio.timeout(PATIENCE):
        while await store.claim(b"d", b"two", keep_for=60) != b"two":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_written_ends_the_claim_to_it(memory_or_redis: Store) -> None:
    """For a moment it says so: a request that looked just before learns to look again."""
    store = memory_or_redis
    await store.claim(b"c", b"mine", keep_for=60)
    assert await store.write_all([StoreWrite([(b"k", b"v")], 60, {}, ended=b"c")])
    assert await store.claim(b"c", b"other", keep_for=60) == CLAIM_ENDED
    assert await values_of(store, b"k") == [b"v"]


async def test_a_list_keeps_the_newest_and_tells_what_falls_out(memory_or_redis: Store) -> None:
    """What is enlisted again is the newest; each key falls out once."""
    store = memory_or_redis
    assert not await store.enlisted(b"l")
    for key in (b"a", b"b", b"c", b"a"):
        assert not await store.enlist(b"l", [key], most=3, keep_for=60)
    assert list(await store.enlisted(b"l")) == [b"b", b"c", b"a"]
    fallen = await store.enlist(b"l", [b"d", b"e"], most=3, keep_for=60)
    assert list(fallen) == [b"b", b"c"]
    assert list(await store.enlisted(b"l")) == [b"a", b"d", b"e"]
    assert await values_of(store, b"l") == [None]


async def test_a_list_that_all_fill_at_once_stays_bounded(memory_or_redis: Store) -> None:
    """Nothing is lost: each key stays or falls out."""
    store, keys = memory_or_redis, [b"%d" % number for number in range(50)]
    fallen = await asyncio.gather(
        *(store.enlist(b"l", [key], most=10, keep_for=60) for key in keys)
    )
    stay = await store.enlisted(b"l")
    assert len(stay) == 10
    assert sorted([*stay, *(key for each in fallen for key in each)]) == sorted(keys)


async def test_a_list_of_a_store_that_is_away_is_empty(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Nothing is raised, and nothing falls out."""
    await proxied.enlist(b"l", [b"a"], most=1, keep_for=60)
    fault_proxy.refuse()
    assert await proxied.enlist(b"l", [b"b"], most=1, keep_for=60) == []
    assert await proxied.enlisted(b"l") == []


async def test_a_soft_purge_changes_the_mark_and_leaves_the_token(store: Store) -> None:
    """So that what carries the token can be told from what was purged."""
    (before,) = (await store.read((), ("g:a",))).tokens
    assert before is not None
    marked = [before]
    for _ in range(3):
        assert await store.soften(("g:a", "g:b"))
        (now,) = (await store.read((), ("g:a",))).tokens
        assert now is not None
        assert now not in marked
        assert softened(before, now)
        assert softened(now, marked[-1])
        marked.append(now)
    assert len({len(token) for token in marked[1:]}) == 1, "it does not grow"
    await store.renew(("g:a",))
    (after,) = (await store.read((), ("g:a",))).tokens
    assert not softened(before, after)


async def test_a_soft_purge_of_what_has_no_token_creates_it(store: Store) -> None:
    """As any purge; what is read afterwards can be stored under."""
    assert await store.soften(("g:new",))
    first = (await store.read((), ("g:new",))).tokens
    assert first[0] is not None
    assert (await store.read((), ("g:new",))).tokens == first


async def test_groups_of_long_and_odd_names_are_told_apart(store: Store) -> None:
    """Line ends, delimiters of Redis and its clusters, surrogates, a hundred thousand letters."""
    before = await tokens_of(store, *ODD_GROUPS)
    assert None not in before
    assert len(set(before)) == len(ODD_GROUPS)
    for place, group in enumerate(ODD_GROUPS):
        (before[place],) = await store.renew([group])
    assert await tokens_of(store, *ODD_GROUPS) == before


@pytest.mark.parametrize("odd", ODD_BYTES)
async def test_keys_and_values_are_any_bytes(store: Store, odd: bytes) -> None:
    """An empty value is a value."""
    await store.write([(odd, b"1"), (b"key", odd)], keep_for=60, tokens={})
    assert await values_of(store, odd, b"key", odd + b"x") == [b"1", odd, None]


async def test_many_keys_come_in_one_read(store: Store) -> None:
    """Every second one is missing."""
    keys = [b"%d" % number for number in range(3000)]
    await store.write([(key, b"v" + key) for key in keys[::2]], keep_for=60, tokens={})
    found = await values_of(store, *keys)
    assert found == [None if i % 2 else b"v" + key for i, key in enumerate(keys)]


async def test_a_large_value_is_kept_whole(store: Store) -> None:
    """As long as the longest body that is stored by default."""
    value = random.Random(1).randbytes(8 * 1024 * 1024)
    assert await store.write([(b"a", value)], keep_for=60, tokens={}) is True
    assert await values_of(store, b"a") == [value]


async def test_readers_of_the_same_turn_get_their_own_answers(store: Store) -> None:
    """However their questions overlap."""
    await store.write([(b"%d" % n, b"v%d" % n) for n in range(50)], keep_for=60, tokens={})
    tokens = await tokens_of(store, *(f"g:{n}" for n in range(50)))

    async def read(n: int) -> None:
        reading = await store.read([b"%d" % n, b"x", b"%d" % (49 - n)], [f"g:{n}"])
        assert list(reading.values) == [b"v%d" % n, None, b"v%d" % (49 - n)]
        assert list(reading.tokens) == [tokens[n]]

    await asyncio.gather(*(read(n) for n in range(50)))


async def test_all_who_create_a_token_at_once_see_the_same_one(store: Store) -> None:
    """Else what one of them stores would be a miss for the others for ever."""
    readings = await asyncio.gather(*(store.read([], ["g:new"]) for _ in range(20)))
    assert len({reading.tokens[0] for reading in readings}) == 1


async def test_it_can_be_used_again_after_close(store: Store) -> None:
    """A second lifespan of the same application; what was purged stays purged."""
    before = await store.renew(["g:a"])
    for _ in range(2):
        await store.close()
        await store.open()
        assert await tokens_of(store, "g:a") == list(before)
        assert await store.write([(b"a", b"1")], keep_for=60, tokens={"g:a": b"token"}) is True
        assert await values_of(store, b"a") == [b"1"]


async def test_it_can_be_used_without_open(redis_url: str) -> None:
    """There may be no lifespan."""
    made = RedisStore(redis_url, fresh_settings())
    assert None not in await tokens_of(made, "g:a")
    await _end(made)


# memory only


async def test_in_memory_a_value_ends_exactly_when_its_time_is_over() -> None:
    """Both sides of the boundary, by a clock that only the test moves."""
    clock = ManualClock()
    made = MemoryStore(clock=clock.monotonic)
    await made.write([(b"a", b"1")], keep_for=10, tokens={})
    clock.advance(9.75)
    assert await values_of(made, b"a") == [b"1"]
    clock.advance(0.25)
    assert await values_of(made, b"a") == [None]
    assert made.used_bytes == 0


async def test_in_memory_the_wall_clock_does_not_count() -> None:
    """An operator who sets the time neither ends nor prolongs anything."""
    clock = ManualClock()
    made = MemoryStore(clock=clock.monotonic)
    await made.write([(b"a", b"1")], keep_for=10, tokens={})
    clock.jump(10**6)
    assert await values_of(made, b"a") == [b"1"]


async def test_memory_is_bounded_in_bytes() -> None:
    """Whatever is written, keys and overhead count too."""
    made = MemoryStore(100_000)
    chance = random.Random(2)
    for number in range(3000):
        await made.write(
            [(b"%d" % number, chance.randbytes(chance.randrange(2000)))], keep_for=60, tokens={}
        )
        await made.read([], [f"g:{number}"])
        assert made.used_bytes <= 100_000
    made.clear()
    assert made.used_bytes == 0


async def test_memory_counts_what_it_gives_back() -> None:
    """Replaced, deleted and expired values, and tokens renewed, leave nothing behind."""
    clock = ManualClock()
    made = MemoryStore(clock=clock.monotonic)
    await made.read([], ["g:a"])
    empty = made.used_bytes
    for _ in range(3):
        await made.write([(b"a", b"1" * 999), (b"b", b"2")], keep_for=5, tokens={})
        await made.renew(["g:a"])
    await made.delete([b"a"])
    clock.advance(5)
    assert await values_of(made, b"b") == [None]
    assert made.used_bytes == empty


async def test_a_value_that_fills_the_memory_is_kept_and_one_byte_more_is_not() -> None:
    """It does not throw out everything else only to find that there is no room."""
    made = MemoryStore(1000)
    await made.write([(b"b", b"")], keep_for=60, tokens={})
    overhead = made.used_bytes - 1
    largest = 1000 - overhead - 1
    assert await made.write([(b"a", b"x" * (largest + 1))], keep_for=60, tokens={}) is False
    assert await values_of(made, b"a", b"b") == [None, b""]
    assert await made.write([(b"a", b"x" * largest)], keep_for=60, tokens={}) is True
    assert await values_of(made, b"a", b"b") == [b"x" * largest, None]


async def test_a_value_too_large_to_be_kept_leaves_no_older_one() -> None:
    """Nothing is served from before a write that failed."""
    made = MemoryStore(1000)
    await made.write([(b"a", b"old")], keep_for=60, tokens={})
    await made.write([(b"a", b"x" * 1000)], keep_for=60, tokens={})
    assert await values_of(made, b"a") == [None]


async def test_the_least_recently_used_goes_first() -> None:
    """Reading counts as use."""
    made = MemoryStore(1000)
    for name in (b"a", b"b", b"c"):
        await made.write([(name, b"x" * 100)], keep_for=60, tokens={})
    await values_of(made, b"a")
    await made.write([(b"d", b"x" * 100)], keep_for=60, tokens={})
    assert await values_of(made, b"a", b"b", b"c", b"d") == [
        b"x" * 100, None, b"x" * 100, b"x" * 100,
    ]  # fmt: skip


async def test_a_token_lost_for_room_comes_back_as_another() -> None:
    """A miss, never an old entry revived."""
    made = MemoryStore(2000)
    (before,) = await tokens_of(made, "g:a")
    for number in range(50):
        await made.read([], [f"g:{number}"])
    (after,) = await tokens_of(made, "g:a")
    assert after != before


async def test_memory_of_no_size_keeps_nothing_and_fails_at_nothing() -> None:
    """`CACHE_MEMORY_BYTES=0`."""
    made = MemoryStore(0)
    assert await made.write([(b"a", b"")], keep_for=60, tokens={}) is False
    reading = await made.read([b"a"], ["g:a", "g:b"])
    assert list(reading.values) == [None]
    assert None not in reading.tokens


def test_memory_is_safe_to_use_from_several_threads() -> None:
    """The typed cache's plain functions run in threads; the books stay right."""
    made = MemoryStore(20_000)
    start = threading.Barrier(6)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        start.wait()
        for _ in range(3000):
            key = b"%d" % chance.randrange(60)
            made.write_now([(key, key * chance.randrange(200))], keep_for=60, tokens={})
            (found,) = made.read_now([key, b"x"], [f"g:{key.decode()}"]).values[:1]
            assert found is None or found == key * (len(found) // len(key))
            made.renew_now([f"g:{chance.randrange(60)}"])
            made.delete_now([b"%d" % chance.randrange(60)])
            assert made.used_bytes <= 20_000 + 1000

    with ThreadPoolExecutor(6) as threads:
        for future in [threads.submit(work, seed) for seed in range(6)]:
            future.result()
    made.delete_now([b"%d" % n for n in range(60)])
    tokens = made.used_bytes
    made.write_now([(b"a", b"1")], keep_for=60, tokens={})
    made.delete_now([b"a"])
    assert made.used_bytes == tokens <= 20_000


def test_memory_belongs_to_its_process() -> None:
    """Other processes do not see it."""
    made = MemoryStore()
    assert not made.shared
    assert made.authority is made


# Redis only: how it lies there


async def test_on_redis_every_key_has_an_expiry(
    on_redis: RedisStore, redis_server: RedisServer
) -> None:
    """Values exactly their time, in milliseconds; tokens at least theirs."""
    await on_redis.read([], ["g:a"])
    await on_redis.renew(["g:b"])
    await on_redis.soften(["g:c"])
    await on_redis.write([(b"a", b"1"), (b"b", b"2")], keep_for=12.5, tokens={"g:a": b"token"})
    for key in redis_server.call("KEYS", "*"):
        left = redis_server.call("PTTL", key)
        if key in (b"a", b"b"):
            assert 0 < left <= 12_500
        else:
            assert left > (TOKEN_SECONDS - 60) * 1000


async def test_on_redis_a_value_ends_when_its_time_is_over(on_redis: RedisStore) -> None:
    """A real expiry on the real server."""
    assert await on_redis.write([(b"a", b"1")], keep_for=0.02, tokens={}) is True
    async with asyncio.timeout(PATIENCE):
        while await values_of(on_redis, b"a") != [None]:  # noqa: ASYNC110 - the server's clock
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("keep_for", "kept"), [(0.001, True), (0.0009, False)])
async def test_on_redis_a_millisecond_is_the_shortest_time(
    on_redis: RedisStore, keep_for: float, *, kept: bool
) -> None:
    """PX 0 would be an error."""
    assert await on_redis.write([(b"a", b"1")], keep_for=keep_for, tokens={}) is kept


@pytest.mark.parametrize("keep_for", [10, TOKEN_SECONDS, TOKEN_SECONDS + 61, 31_536_000])
async def test_on_redis_a_token_lives_as_long_as_what_depends_on_it(
    on_redis: RedisStore, redis_server: RedisServer, keep_for: float
) -> None:
    """Else entries would end early."""
    await on_redis.read([], ["g:a"])
    await on_redis.write([(b"a", b"1")], keep_for=keep_for, tokens={"g:a": b"token"})
    key = token_key(on_redis.redis_state.namespace, "g:a")
    assert redis_server.call("TTL", key) >= keep_for


async def test_on_redis_new_tokens_live_longer_where_responses_are_kept_for_long(
    on_redis: RedisStore, redis_server: RedisServer
) -> None:
    """Both those that a lookup creates and those that a purge writes."""
    await on_redis.write([(b"a", b"1")], keep_for=TOKEN_SECONDS, tokens={})
    await on_redis.read([], ["g:a"])
    await on_redis.renew(["g:b"])
    for group in ("g:a", "g:b"):
        key = token_key(on_redis.redis_state.namespace, group)
        assert redis_server.call("TTL", key) > LONG_TOKEN_SECONDS - 60


async def test_several_writes_at_once_are_kept_each_as_if_it_were_alone(
    memory_or_redis: Store,
) -> None:
    """One that cannot be kept takes none of the others with it, and the whole says so."""
    store = memory_or_redis
    await store.claim(b"c", b"mine", keep_for=60)
    one, none, other = (
        StoreWrite([(b"k", b"1"), (b"l", b"2")], 60, {"g:a": b"token"}),
        StoreWrite([(b"never", b"3")], 0, {"g:a": b"token"}),
        StoreWrite([(b"m", b"4")], 60, {"g:a": b"another"}, ended=b"c"),
    )
    assert await store.write_all([one, none, other]) is False
    assert await values_of(store, b"k", b"l", b"never", b"m") == [b"1", b"2", None, b"4"]
    assert await store.claim(b"c", b"other", keep_for=60) == CLAIM_ENDED
    assert await store.write_all([one, other]) is True


async def test_how_long_a_token_lives_is_not_asked_where_this_process_wrote_it(
    proxied: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """Created or purged; of another one, and for what is kept longer, it is asked."""
    (created,), (purged,) = await tokens_of(proxied, "g:new"), await proxied.renew(["g:other"])
    assert created is not None
    assert purged is not None
    tokens = {"g:new": created, "g:other": purged}
    await proxied.write([(b"a", b"1")], keep_for=60, tokens=tokens)
    assert fault_proxy.seen["PTTL"] == 0
    await proxied.write([(b"a", b"1")], keep_for=60, tokens={"g:new": b"another"})
    assert fault_proxy.seen["PTTL"] == 1
    await proxied.write([(b"a", b"1")], keep_for=2 * TOKEN_SECONDS, tokens=tokens)
    assert fault_proxy.seen["PTTL"] == 3
    for group in tokens:
        key = token_key(proxied.redis_state.namespace, group)
        assert redis_server.call("TTL", key) >= 2 * TOKEN_SECONDS


async def test_what_is_written_in_one_turn_shares_one_round_trip(on_redis: RedisStore) -> None:
    """And each is told of its own."""
    assert await values_of(on_redis, b"a") == [None]
    together: Any = cast("Any", on_redis)._sides.get().commands
    send, sent = together._send, list[int]()

    async def counting(commands: Sequence[Any]) -> Sequence[Any]:
        sent.append(len(commands))
        return cast("Sequence[Any]", await send(commands))

    together._send = counting
    claimed, written, removed = await asyncio.gather(
        on_redis.claim(b"c", b"mine", keep_for=10),
        on_redis.write([(b"a", b"1"), (b"b", b"2")], keep_for=10, tokens={}),
        on_redis.delete([b"a"]),
    )
    assert sent == [5]
    assert (claimed, written, removed) == (b"mine", True, True)
    assert await values_of(on_redis, b"a", b"b", b"c") == [None, b"2", b"mine"]


async def test_on_redis_nothing_is_shared_between_namespaces(redis_url: str) -> None:
    """Purging all of one leaves the other."""
    one, other = (RedisStore(redis_url, fresh_settings()) for _ in range(2))
    before = await tokens_of(other, NAMESPACE_GROUP)
    await one.renew([NAMESPACE_GROUP])
    assert await tokens_of(other, NAMESPACE_GROUP) == before
    assert await tokens_of(one, NAMESPACE_GROUP) != before
    await _end(one)
    await _end(other)


async def test_two_stores_of_a_server_and_namespace_purge_each_other(redis_url: str) -> None:
    """They are one authority, also the synchronous half; another namespace is another one."""
    settings = fresh_settings()
    one, other = RedisStore(redis_url, settings), RedisStore(redis_url, settings)
    half = SyncRedisStore(redis_url, settings)
    assert one.authority is other.authority is half.authority
    assert one.authority is not RedisStore(redis_url, fresh_settings()).authority
    (renewed,) = await one.renew(["g:a"])
    assert await tokens_of(other, "g:a") == [renewed]
    assert list((await asyncio.to_thread(half.read_now, [], ["g:a"])).tokens) == [renewed]
    half.close()
    await _end(one)
    await _end(other)


async def test_lookups_of_one_turn_share_one_round_trip(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """32 requests at once ask for their keys in one MGET, each key once."""
    keys = [b"%d" % n for n in range(8)]
    await asyncio.gather(*(proxied.read([keys[n % 8]], ["g:a"]) for n in range(32)))
    assert fault_proxy.seen == {"MGET": 1}
    assert len(fault_proxy.commands[0]) == 1 + 8 + 1


async def test_a_lookup_is_sent_while_an_earlier_one_is_under_way(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """A later turn does not wait for the answer before it asks."""
    hold = fault_proxy.hold("MGET", side="reply", times=1)
    first = asyncio.ensure_future(proxied.read([b"k"], []))
    await asyncio.to_thread(fault_proxy.wait_seen, "MGET")
    second = asyncio.ensure_future(proxied.read([b"k"], []))
    await asyncio.to_thread(fault_proxy.wait_seen, "MGET", 2)
    assert not first.done()
    hold.release()
    assert [list((await each).values) for each in (first, second)] == [[b"v"], [b"v"]]


async def test_a_hit_costs_one_command(proxied: RedisStore, fault_proxy: FaultProxy) -> None:
    """Entry and tokens together; nothing is created that exists, no handshake is repeated."""
    await proxied.read([b"k"], [NAMESPACE_GROUP, "g:a", "g:b"])
    assert fault_proxy.seen == {"MGET": 1}


async def test_a_purge_costs_one_round_trip_whatever_its_groups(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """One SET for each group, and nothing that looks for keys."""
    await proxied.renew([f"g:{n}" for n in range(20)])
    assert fault_proxy.seen == {"SET": 20}


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_reader_does_not_shift_answers(
    proxied: RedisStore, fault_proxy: FaultProxy, cancelled: int
) -> None:
    """Neither of those who asked in the same turn nor of those who come later."""
    await proxied.write([(b"%d" % n, b"v%d" % n) for n in range(3)], keep_for=60, tokens={})
    fault_proxy.forget()
    hold = fault_proxy.hold("MGET", side="reply", times=1)
    readers = [asyncio.ensure_future(proxied.read([b"%d" % n], [])) for n in range(3)]
    await asyncio.to_thread(fault_proxy.wait_seen, "MGET")
    readers[cancelled].cancel()
    with pytest.raises(asyncio.CancelledError):
        await readers[cancelled]
    hold.release()
    for n, reader in enumerate(readers):
        if n != cancelled:
            assert list((await reader).values) == [b"v%d" % n]
    assert await values_of(proxied, b"1", b"0") == [b"v1", b"v0"]


async def test_a_cancelled_purge_is_owed_and_made_up_for(
    proxied: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Whether it arrived is not known, so it counts as not made."""
    (before,) = await tokens_of(proxied, "g:a")
    hold = fault_proxy.hold("SET", times=1)
    purge = asyncio.create_task(proxied.renew(["g:a"]))
    await asyncio.to_thread(fault_proxy.wait_seen, "SET")
    purge.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purge
    assert not proxied.redis_state.trusted or fault_proxy.seen["SET"] > 1
    await eventually(lambda: proxied.redis_state.trusted)
    hold.release()
    await eventually_read(proxied, [], ["g:a"])
    assert await tokens_of(proxied, "g:a") != [before]


def test_one_store_serves_several_event_loops(redis_url: str) -> None:
    """Connections belong to a loop; the values do not."""
    made = RedisStore(redis_url, fresh_settings())

    async def once() -> list[bytes | None]:
        tokens = await tokens_of(made, "g:a")
        await made.close()
        return tokens

    assert asyncio.run(once()) == asyncio.run(once())
    made.redis_state.close()


# Redis only: other histories


async def test_a_token_of_another_history_is_renewed(
    on_redis: RedisStore, redis_server: RedisServer
) -> None:
    """It came with an old snapshot or from a deposed server: nothing may hang on it."""
    key = token_key(on_redis.redis_state.namespace, "g:a")
    await on_redis.read([], ["g:b"])
    redis_server.call("SET", key, b"0123456789ab-theirs")
    (token,) = await tokens_of(on_redis, "g:a")
    assert token is not None
    assert token != b"0123456789ab-theirs"
    assert redis_server.call("GET", key) == token
    assert await tokens_of(on_redis, "g:a") == [token]


@pytest.mark.parametrize("foreign", [b"", b"-", b"x", b"hidden-x", b"\xff\0"])
async def test_what_is_no_token_of_ours_is_renewed(
    on_redis: RedisStore, redis_server: RedisServer, foreign: bytes
) -> None:
    """Whatever lies under its key."""
    redis_server.call("SET", token_key(on_redis.redis_state.namespace, "g:a"), foreign)
    (token,) = await tokens_of(on_redis, "g:a")
    assert token not in (None, foreign)


@pytest.mark.parametrize("keep_data", [True, False], ids=["snapshot", "empty"])
async def test_after_a_restart_of_the_server_old_entries_are_misses(
    own_redis: RedisServer, *, keep_data: bool
) -> None:
    """Its last purges may be lost: the namespace has another token before anything is read."""
    made = RedisStore(own_redis.url, fresh_settings())
    groups = [NAMESPACE_GROUP, path_group("/x")]
    before = await tokens_of(made, *groups)
    await made.write([(b"a", b"1")], keep_for=60, tokens=dict.fromkeys(groups, b"token"))
    await asyncio.to_thread(own_redis.restart, keep_data=keep_data)
    reading = await eventually_read(made, [b"a"], groups)
    assert list(reading.values) == [b"1" if keep_data else None]
    assert not set(reading.tokens) & set(before)
    assert None not in reading.tokens
    await _end(made)


async def test_a_purge_lost_by_the_return_of_an_old_snapshot_revives_nothing(
    own_redis: RedisServer,
) -> None:
    """The entry is back, its tokens are back, and still it is a miss."""
    made = RedisStore(own_redis.url, fresh_settings())
    before = await tokens_of(made, NAMESPACE_GROUP, "g:a")
    await made.write([(b"a", b"1")], keep_for=60, tokens={"g:a": b"token"})
    snapshot = await asyncio.to_thread(own_redis.snapshot)
    await made.renew(["g:a"])
    await asyncio.to_thread(own_redis.restart, keep_data=True, snapshot=snapshot)
    reading = await eventually_read(made, [b"a"], [NAMESPACE_GROUP, "g:a"])
    assert not set(reading.tokens) & set(before)
    await _end(made)


async def test_a_server_that_hides_its_history_can_be_used(own_redis: RedisServer) -> None:
    """Some hosts take INFO away from their users."""
    own_redis.call("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info")
    made = RedisStore(f"redis://app:pw@127.0.0.1:{own_redis.port}", fresh_settings())
    before = await tokens_of(made, "g:a")
    assert None not in before
    assert await tokens_of(made, "g:a") == before
    assert None not in await made.renew(["g:a"])
    assert made.redis_state.trusted
    await _end(made)


async def test_a_lost_connection_to_a_server_without_history_counts_as_another_server(
    own_redis: RedisServer,
) -> None:
    """It cannot be told apart from one, so everything is purged."""
    own_redis.call("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info")
    made = RedisStore(f"redis://app:pw@127.0.0.1:{own_redis.port}", fresh_settings())
    before = await tokens_of(made, NAMESPACE_GROUP)
    own_redis.call("CLIENT", "KILL", "USER", "app")
    with pytest.raises(StoreUnavailableError):
        await made.read([], [NAMESPACE_GROUP])
    after = await eventually_read(made, [], [NAMESPACE_GROUP])
    assert list(after.tokens) != before
    await _end(made)


# Redis only: away and back


@pytest.mark.parametrize("how", ["refuse", "hang"])
async def test_a_purge_while_redis_is_away_is_owed_and_made_up_for(
    hurried: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer, how: str
) -> None:
    """No hit is trusted until it is; and that is within a second after the server is back."""
    key = token_key(hurried.redis_state.namespace, "g:a")
    before = redis_server.call("GET", key)
    getattr(fault_proxy, how)()
    began = time.monotonic()
    assert await hurried.renew(["g:a", "g:b"]) == [None, None]
    in_time(time.monotonic() - began, 1)
    assert not hurried.redis_state.trusted
    with pytest.raises(StoreUnavailableError):
        await hurried.read([], ["g:a"])
    assert await hurried.write([(b"a", b"1")], keep_for=60, tokens={"g:a": b"token"}) is False
    assert redis_server.call("GET", key) == before
    fault_proxy.pass_through()
    in_time(await eventually(lambda: hurried.redis_state.trusted), 1)
    assert redis_server.call("GET", key) != before
    assert (await eventually_read(hurried, [], ["g:a"])).tokens[0] == redis_server.call("GET", key)


async def test_a_soft_purge_that_is_not_confirmed_is_owed_as_a_whole_one(
    hurried: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """Nothing that was purged in whatever way is forgotten."""
    key = token_key(hurried.redis_state.namespace, "g:a")
    before = redis_server.call("GET", key)
    fault_proxy.refuse()
    assert not await hurried.soften(["g:a"])
    assert not hurried.redis_state.trusted
    fault_proxy.pass_through()
    await eventually(lambda: hurried.redis_state.trusted)
    assert not softened(before, redis_server.call("GET", key))


async def test_a_purge_that_the_server_got_but_did_not_confirm_is_made_again(
    hurried: RedisStore, fault_proxy: FaultProxy
) -> None:
    """With another value: a delayed write must never bring a token back."""
    fault_proxy.hang(commands={"SET"}, times=1, deliver=True)
    assert await hurried.renew(["g:a"]) == [None]
    await eventually(lambda: hurried.redis_state.trusted)
    sets = [words for words in fault_proxy.commands if words[0].upper() == b"SET"]
    assert len(sets) >= 2
    assert len({words[2] for words in sets}) == len(sets)


async def test_purges_in_the_dark_are_not_lost_however_many(
    hurried: RedisStore, fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """Beyond what the journal holds by name everything is purged."""
    (before,) = (await eventually_read(hurried, [], [NAMESPACE_GROUP])).tokens
    fault_proxy.refuse()
    for start in range(0, 3000, 500):
        await hurried.renew([f"g:{start + n}" for n in range(500)])
    assert len(hurried.redis_state.owed_purges) <= 1000
    fault_proxy.pass_through()
    await eventually(lambda: hurried.redis_state.trusted)
    key = token_key(hurried.redis_state.namespace, NAMESPACE_GROUP)
    assert redis_server.call("GET", key) not in (None, before)


async def test_the_breaker_opens_after_three_failures_and_only_the_probe_closes_it(
    hurried: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Two are too few; then no request asks the server, even when it would answer."""
    fault_proxy.hang()
    for trusted in (True, True, False):
        with pytest.raises(StoreUnavailableError):
            await hurried.read([b"a"], [])
        assert hurried.redis_state.trusted is trusted
    # Requests would be answered now; the probe is not.
    fault_proxy.hang(commands={"PING", "INFO"})
    fault_proxy.forget()
    for _ in range(20):
        with pytest.raises(StoreUnavailableError):
            await hurried.read([b"a"], [])
        assert await hurried.write([(b"a", b"1")], keep_for=60, tokens={}) is False
        assert await hurried.delete([b"a"]) is False
    assert not {"MGET", "SET", "UNLINK"} & set(fault_proxy.seen)
    assert not hurried.redis_state.trusted
    fault_proxy.pass_through()
    in_time(await eventually(lambda: hurried.redis_state.trusted), 1)
    await eventually_read(hurried, [b"a"], [])


async def test_an_answer_between_failures_keeps_the_breaker_closed(
    hurried: RedisStore, fault_proxy: FaultProxy
) -> None:
    """Only failures in a row count."""
    for _ in range(4):
        fault_proxy.error("OOM", commands={"MGET"})
        with pytest.raises(StoreUnavailableError):
            await hurried.read([b"a"], [])
        fault_proxy.pass_through()
        await eventually_read(hurried, [b"a"], [])
        assert hurried.redis_state.trusted


@pytest.mark.parametrize("how", ["pause", "hang"])
async def test_a_hanging_server_costs_a_read_no_more_than_its_budget(
    own_redis: RedisServer, how: str
) -> None:
    """50 ms by default; the bound here leaves room for a busy machine."""
    with FaultProxy(own_redis.port) as proxy:
        made = RedisStore(proxy.url, fresh_settings(cache_read_budget=0.05, cache_write_budget=0.1))
        await eventually_read(made, [b"a"], ["g:a"])
        if how == "pause":
            own_redis.pause()
        else:
            proxy.hang()
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await made.read([b"a"], ["g:a"])
            in_time(time.monotonic() - began, 0.5)
        own_redis.ensure_running()
        proxy.pass_through()
        await eventually(lambda: made.redis_state.trusted)
        await _end(made)


async def test_a_server_that_is_not_there_at_the_start_is_used_when_it_comes(
    own_redis: RedisServer,
) -> None:
    """The application starts without it."""
    await asyncio.to_thread(own_redis.stop)
    made = RedisStore(own_redis.url, fresh_settings())
    await made.open()
    for _ in range(4):
        with pytest.raises(StoreUnavailableError):
            await made.read([b"a"], ["g:a"])
    assert not made.redis_state.trusted
    await asyncio.to_thread(own_redis.launch)
    in_time(await eventually(lambda: made.redis_state.trusted), 1)
    assert None not in (await eventually_read(made, [], ["g:a"])).tokens
    await _end(made)


async def test_ping_tells_the_truth_behind_an_open_breaker(
    hurried: RedisStore, fault_proxy: FaultProxy
) -> None:
    """The health page must not repeat what the breaker believes."""
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=fault_proxy.url), 1.0).answers)
        is True
    )
    fault_proxy.refuse()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await hurried.read([b"a"], [])
    assert (
        await asyncio.to_thread(Observer(CacheSettings(redis_url=fault_proxy.url), 1.0).answers)
        is False
    )


# Redis only: wrong answers


async def test_a_value_of_the_wrong_type_is_none_and_is_overwritten(
    on_redis: RedisStore, redis_server: RedisServer
) -> None:
    """Another program's list under our key."""
    redis_server.call("RPUSH", "a", "1")
    assert await values_of(on_redis, b"a") == [None]
    assert await on_redis.write([(b"a", b"1")], keep_for=60, tokens={}) is True
    assert await values_of(on_redis, b"a") == [b"1"]


async def test_a_token_of_the_wrong_type_is_none_until_it_is_purged(
    on_redis: RedisStore, redis_server: RedisServer
) -> None:
    """Nothing can be stored under it, nothing is served, and a purge puts it right."""
    redis_server.call("RPUSH", token_key(on_redis.redis_state.namespace, "g:a"), "1")
    first, other = await tokens_of(on_redis, "g:a", "g:b")
    assert first is None
    assert other is not None
    (renewed,) = await on_redis.renew(["g:a"])
    assert renewed is not None
    assert await tokens_of(on_redis, "g:a") == [renewed]


@pytest.mark.parametrize("data", [b":1\r\n", b"$1\r\n1\r\n", b"+QUEUED\r\n"], ids=repr)
async def test_nothing_but_ok_confirms_a_purge_or_a_write(
    hurried: RedisStore, fault_proxy: FaultProxy, data: bytes
) -> None:
    """Also not 1, which Python holds to be equal to true."""
    fault_proxy.garbage(data=data, commands=("SET",), times=1)
    assert await hurried.write([(b"k", b"v")], keep_for=60, tokens={}) is False
    fault_proxy.garbage(data=data, commands=("SET",), times=1)
    assert await hurried.renew(["g:a"]) == [None]
    assert not hurried.redis_state.owed_purges.empty
    fault_proxy.pass_through()
    await eventually(lambda: hurried.redis_state.trusted)


@pytest.mark.parametrize("data", [b":1\r\n", b":0\r\n", b"+OK\r\n", b"$-1\r\n"], ids=repr)
async def test_nothing_but_the_length_of_a_marked_token_confirms_a_soft_purge(
    hurried: RedisStore, fault_proxy: FaultProxy, data: bytes
) -> None:
    """What is not confirmed is owed, as a whole purge."""
    (before,) = await tokens_of(hurried, "g:a")
    fault_proxy.garbage(data=data, commands=("SETRANGE",), times=1)
    assert await hurried.soften(["g:a"]) is False
    fault_proxy.pass_through()
    await eventually(lambda: hurried.redis_state.trusted)
    (after,) = await tokens_of(hurried, "g:a")
    assert before is not None
    assert not softened(before, after)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
async def test_a_purge_that_is_cancelled_before_it_is_sent_is_owed(
    fault_proxy: FaultProxy, *, soft: bool
) -> None:
    """It waits for a connection, which the server does not accept."""
    made = RedisStore(fault_proxy.url, fresh_settings())
    fault_proxy.hang()
    purge = asyncio.ensure_future(made.soften(["g:a"]) if soft else made.renew(["g:a"]))
    await asyncio.sleep(0.05)
    purge.cancel()
    await asyncio.wait({purge})
    assert not made.redis_state.owed_purges.empty
    fault_proxy.pass_through()
    await eventually(lambda: made.redis_state.owed_purges.empty)
    await _end(made)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_purge_that_is_interrupted_in_a_plain_function_is_owed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, *, soft: bool
) -> None:
    """A script that is told to stop signs off only when it has made up for it."""
    made = SyncRedisStore(redis_url, fresh_settings())
    made.renew_now(["g:a"])

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made._connections, "run", interrupted)
    owed: list[str] = []
    monkeypatch.setattr(made.redis_state, "owe", owed.extend)
    with pytest.raises(KeyboardInterrupt):
        (made.soften_now if soft else made.renew_now)(["g:a"])
    assert owed == ["g:a"]
    made.close()


GARBAGE = [
    b"", b"+OK\r\n", b"+\r\n", b":1\r\n", b":-1\r\n", b"$2\r\nab\r\n", b"$-1\r\n", b"*-1\r\n",
    b"*0\r\n", b"*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n:2\r\n", b"*2\r\n*0\r\n*0\r\n",
    b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", b"*2\r\n+a\r\n-ERR x\r\n", b"-\r\n",
    b"-\xff\xfe\r\n",
    b"-ERR \xff\r\n", b"%1\r\n+a\r\n+b\r\n", b"~1\r\n+a\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n",
    b"(123\r\n", b"(x\r\n", b"=5\r\ntxt:a\r\n", b">2\r\n+invalidate\r\n*0\r\n", b"!3\r\nERR\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\r\n\r\n", b"*99999999999999\r\n", b"$99999999999\r\n",
    b"$-5\r\n", b"*x\r\n", b":x\r\n", b"\x16\x03\x01\x02",
    b"*2\r\n$1\r\na\r\n$1\r\nb\r\n+extra\r\n",
]  # fmt: skip


async def check_answers(made: RedisStore) -> None:
    """Ask for everything; nothing but the contract's own failures may come."""
    for _ in range(2):
        try:
            reading = await made.read([b"k"], ["g:a"])
        except StoreUnavailableError:
            pass
        else:
            assert len(reading.values) == len(reading.tokens) == 1
            assert all(isinstance(v, bytes | None) for v in (*reading.values, *reading.tokens))
        assert isinstance(
            await made.write([(b"k", b"v")], keep_for=60, tokens={"g:a": b"token"}), bool
        )
        assert isinstance(await made.delete([b"other"]), bool)
        (token,) = await made.renew(["g:a"])
        assert token is None or isinstance(token, bytes)
        if token is None:
            assert not made.redis_state.trusted or made.redis_state.owed_purges.empty


async def check_recovery(made: RedisStore, proxy: FaultProxy) -> None:
    """The server answers again: everything is as it should be, nothing is shifted."""
    proxy.pass_through()
    await eventually(lambda: made.redis_state.trusted)
    await eventually_read(made, [], ["g:a"])
    (token,) = await made.renew(["g:a"])
    assert token is not None
    values = [(b"k", b"v"), (b"l", b"w")]
    async with asyncio.timeout(PATIENCE):
        # A busy machine may miss the budget of one, or of a purge, which is then owed for a while.
        while True:
            if await made.write(values, keep_for=60, tokens={"g:a": b"token"}) is True:
                break
            await asyncio.sleep(0.02)
    reading = await eventually_read(made, [b"l", b"x", b"k"], ["g:a"])
    assert (list(reading.values), list(reading.tokens)) == ([b"w", None, b"v"], [token])


@pytest.mark.parametrize("data", GARBAGE, ids=repr)
@pytest.mark.parametrize("commands", [("MGET",), ("SET",), ("INFO", "PING", "MGET"), None], ids=str)
async def test_garbage_is_a_miss_and_never_another_exception(
    hurried: RedisStore,
    fault_proxy: FaultProxy,
    unhandled: list[str],
    data: bytes,
    commands: tuple[str, ...] | None,
) -> None:
    """Something that is not Redis answers on its port, for a while."""
    fault_proxy.garbage(data=data, commands=commands)
    if commands != ("SET",) and commands != ("MGET",):
        fault_proxy.drop_connections()
    await check_answers(hurried)
    await check_recovery(hurried, fault_proxy)
    gc.collect()
    assert unhandled == []


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_are_a_miss_and_never_another_exception(
    hurried: RedisStore, fault_proxy: FaultProxy, unhandled: list[str], seed: int
) -> None:
    """Also in the answers to the handshake and to the probe."""
    fault_proxy.garbage(random.Random(seed).randrange(1, 300), seed=seed)
    await check_answers(hurried)
    await check_recovery(hurried, fault_proxy)
    gc.collect()
    assert unhandled == []


@pytest.mark.parametrize("commands", [("MGET",), ("SET",), ("INFO", "PING"), None], ids=str)
@pytest.mark.parametrize("word", sorted(ERRORS))
async def test_an_error_reply_is_a_miss_and_never_another_exception(
    hurried: RedisStore,
    fault_proxy: FaultProxy,
    unhandled: list[str],
    word: str,
    commands: tuple[str, ...] | None,
) -> None:
    """Full, loading, read-only, moved, not permitted."""
    fault_proxy.error(word, commands=commands)
    if commands is None or "INFO" in commands:
        fault_proxy.drop_connections()
    await check_answers(hurried)
    await check_recovery(hurried, fault_proxy)
    gc.collect()
    assert unhandled == []


@pytest.mark.parametrize("how", ["reset", "cut"])
@pytest.mark.parametrize("after", [0, 1, 5, None])
async def test_a_connection_that_breaks_is_a_miss(
    hurried: RedisStore, fault_proxy: FaultProxy, how: str, after: int | None
) -> None:
    """Before, within and after the first bytes of an answer."""
    getattr(fault_proxy, how)(after=after)
    with pytest.raises(StoreUnavailableError):
        await hurried.read([b"k"], ["g:a"])
    assert await hurried.renew(["g:a"]) == [None]
    await check_recovery(hurried, fault_proxy)


@pytest.mark.parametrize("word", ["OOM", "READONLY", "MISCONF", "NOPERM"])
async def test_a_server_that_takes_no_writes_is_not_trusted_after_a_purge(
    hurried: RedisStore, fault_proxy: FaultProxy, word: str
) -> None:
    """It still answers reads, from before the purge."""
    fault_proxy.error(word, commands={"SET"})
    assert await hurried.renew(["g:a"]) == [None]
    assert not hurried.redis_state.trusted
    with pytest.raises(StoreUnavailableError):
        await hurried.read([b"k"], ["g:a"])
    await check_recovery(hurried, fault_proxy)


async def test_a_failed_write_does_not_stop_reads(
    hurried: RedisStore, fault_proxy: FaultProxy
) -> None:
    """A full server still serves what it has."""
    await eventually_read(hurried, [], ["g:a"])
    assert await hurried.write([(b"k", b"v")], keep_for=60, tokens={}) is True
    fault_proxy.error("OOM", commands={"SET"})
    for _ in range(5):
        assert await hurried.write([(b"l", b"w")], keep_for=60, tokens={}) is False
        assert (await eventually_read(hurried, [b"k"], ["g:a"])).values[0] == b"v"


# Redis only: passwords


async def test_a_password_is_never_in_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the right one, the wrong one, and with no server at all."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with RedisServer.start(password="s3cret") as server:
        right = RedisStore(server.url, fresh_settings())
        assert None not in await tokens_of(right, "g:a")
        wrong = RedisStore(f"redis://u:s3cret-not@127.0.0.1:{server.port}", fresh_settings())
        shown += await _refused(wrong)
        await asyncio.to_thread(server.stop)
        shown += await _refused(right)
        shown.append(repr(store_from_url(server.url, fresh_settings())))
    await _end(right)
    await _end(wrong)
    for record in caplog.records:
        shown.append(record.getMessage())
        shown.append(repr(record.exc_info))
    assert any("Redis unavailable" in text for text in shown)
    assert not any("s3cret" in text for text in shown)


async def _refused(made: RedisStore) -> list[str]:
    """Use a store that cannot work; return all that it says about itself."""
    said = [repr(made), str(made), repr(made.redis_state)]
    for _ in range(4):
        with pytest.raises(StoreUnavailableError) as caught:
            await made.read([b"a"], ["g:a"])
        said += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    await made.renew(["g:a"])
    return said


@pytest.mark.parametrize(("url", "kind"), [("memory://", MemoryStore), ("redis://h", RedisStore)])
def test_a_url_names_the_kind_of_store(url: str, kind: type) -> None:
    """Without connecting anywhere."""
    assert isinstance(store_from_url(url, fresh_settings()), kind)


async def test_a_unix_socket_is_as_good(own_redis: RedisServer) -> None:
    """`unix://`."""
    made = store_from_url(own_redis.unix_url, fresh_settings())
    assert None not in await tokens_of(made, "g:a")
    await made.close()


@pytest.mark.parametrize("scheme", ["valkey", "VALKEY", "Redis"])
async def test_other_spellings_of_the_scheme_lead_to_the_same_server(
    redis_url: str, scheme: str
) -> None:
    """`valkey://` speaks the same protocol."""
    made = store_from_url(redis_url.replace("redis", scheme, 1), fresh_settings())
    assert None not in await tokens_of(made, "g:a")
    await made.close()
