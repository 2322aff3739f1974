"""The lookups of one turn of the event loop: one command, and each gets its own reply."""

import asyncio
import gc
import random
from collections.abc import Sequence
from uuid import uuid4

import pytest

from maxage import CacheSettings, RedisStore
from maxage.errors import StoreUnavailableError
from maxage.redis_store.batching import CommandBatcher, LookupBatcher
from maxage.redis_store.servers.commands import Claim, Claims, Command, Created, Lacking, Read
from maxage.redis_store.servers.packet import Packet
from maxage.store.wanted_claim import WantedClaim
from tests.support.cancelling import answered_rightly

pytestmark = pytest.mark.anyio


class Server:
    """Answers each key with itself, and each group with its name; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[bytes], list[str]]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.failing = False

    async def fetch(
        self, keys: Sequence[bytes], groups: Sequence[str], claims: Sequence[Claim]
    ) -> Read:
        assert not claims
        self.asked.append((list(keys), list(groups)))
        await self.answering.wait()
        if self.failing:
            raise StoreUnavailableError("away")
        return Read(list(keys), [group.encode() for group in groups], {})

    async def create(self, lacking: Sequence[Lacking], claims: Claims, began: float) -> Created:
        raise AssertionError("nothing is missing")


def batcher_of(server: Server) -> LookupBatcher:
    return LookupBatcher("ns", server.fetch, server.create)


async def test_the_lookups_of_one_turn_are_one_question() -> None:
    """Whatever is asked for twice is asked once."""
    server = Server()
    batcher = batcher_of(server)
    readings = await asyncio.gather(
        batcher.read((b"a",), ("n", "p:/a")), batcher.read((b"b",), ("n", "p:/b"))
    )
    assert server.asked == [([b"a", b"b"], ["n", "p:/a", "p:/b"])]
    assert [list(reading.values) for reading in readings] == [[b"a"], [b"b"]]
    assert [list(reading.tokens) for reading in readings] == [[b"n", b"p:/a"], [b"n", b"p:/b"]]


async def test_only_equal_lookups_of_one_turn_share_a_reading() -> None:
    """The next turn reads anew: what was found then may have been purged."""
    batcher = batcher_of(Server())
    one, other = await asyncio.gather(*(batcher.read((b"a",), ("n",)) for _ in range(2)))
    later = await batcher.read((b"a",), ("n",))
    assert one is other
    assert later is not one


async def test_a_lookup_in_a_later_turn_is_asked_after_it_began() -> None:
    """It never takes the answer of a question that was under way before it."""
    server = Server()
    batcher = batcher_of(server)
    server.answering.clear()
    first = asyncio.ensure_future(batcher.read((b"a",), ()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.ensure_future(batcher.read((b"a",), ()))
    server.answering.set()
    assert (await first) is not (await second)
    assert len(server.asked) == 2


@pytest.mark.parametrize("seed", range(20))
async def test_no_answer_goes_to_another_caller_whichever_is_cancelled(seed: int) -> None:
    """Requests that go away shift no other reply."""
    chance, server = random.Random(seed), Server()
    batcher = batcher_of(server)

    async def ask(number: int) -> bool:
        key, group = b"%d" % (number % 7), f"g{number % 5}"
        reading = await batcher.read((key,), (group,))
        return list(reading.values) == [key] and list(reading.tokens) == [group.encode()]

    server.answering.clear()
    tasks = [asyncio.ensure_future(ask(number)) for number in range(60)]
    for _ in tasks:
        if chance.random() < 0.2:
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    server.answering.set()
    assert await answered_rightly(tasks) > 5


async def test_every_caller_gets_an_error_of_its_own_when_a_reading_fails() -> None:
    """Errors carry the traceback of the caller that raises them."""
    server = Server()
    server.failing = True
    batcher = batcher_of(server)
    errors = await asyncio.gather(
        *(batcher.read((key,), ()) for key in (b"a", b"a", b"b")), return_exceptions=True
    )
    assert all(isinstance(error, StoreUnavailableError) for error in errors)
    assert len(set(map(id, errors))) == 3


async def test_the_claims_of_a_cancelled_turn_leave_with_no_later_one() -> None:
    """Their requests are gone. `Server.fetch` takes no claims."""
    server = Server()
    batcher = batcher_of(server)
    wanted = WantedClaim(b"a", ("g",), expected=[b"h-token"])
    asked = batcher.read((b"a",), ("g",), wanted)
    for task in batcher._turn._tasks:
        task.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    reply = await batcher.read((b"b",), ("g",))
    assert list(reply.values) == [b"b"]


class NewServer(Server):
    """Has nothing but the token of `n`; `create` can be delayed or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.creating = asyncio.Event()
        self.claims: Sequence[Claim] = ()
        self.is_full = False

    async def fetch(
        self, keys: Sequence[bytes], groups: Sequence[str], claims: Sequence[Claim]
    ) -> Read:
        tokens = [b"h-n" if group == "n" else None for group in groups]
        lacking = {
            i: Lacking(group.encode(), None, b"h") for i, group in enumerate(groups) if group != "n"
        }
        return Read([None] * len(keys), tokens, lacking)

    async def create(self, lacking: Sequence[Lacking], claims: Claims, began: float) -> Created:
        await self.creating.wait()
        if self.is_full:
            raise StoreUnavailableError("away")
        tokens = [b"h-" + one.key for one in lacking]
        self.claims = claims(tokens)
        return Created(tokens, [value for _, value in self.claims])


async def test_a_lookup_that_needs_more_delays_no_other_of_its_turn() -> None:
    """Nothing is to be created for it."""
    server = NewServer()
    batcher = batcher_of(server)
    new = batcher.read((b"a",), ("n", "p:/a"), WantedClaim(b"a", ("n", "p:/a")))
    known = batcher.read((b"b",), ("n",))
    assert list((await known).tokens) == [b"h-n"]
    assert not new.done()
    server.creating.set()
    assert list((await new).tokens) == [b"h-n", b"h-p:/a"]
    assert len(server.claims) == 1


async def test_a_lookup_is_answered_though_its_claim_fails() -> None:
    """One that lacks a token fails."""
    server = NewServer()
    server.is_full = True
    server.creating.set()
    batcher = batcher_of(server)
    wanted = WantedClaim(b"a", ("n",))
    unclaimed = batcher.read((b"a",), ("n",), wanted)
    lacking = batcher.read((b"b",), ("n", "p:/b"))
    assert list((await unclaimed).tokens) == [b"h-n"]
    assert wanted.present is None
    with pytest.raises(StoreUnavailableError):
        await lacking


@pytest.mark.parametrize("seed", range(20))
async def test_commands_of_one_turn_are_sent_together_and_each_gets_its_own_answers(
    seed: int,
) -> None:
    """Whichever caller is cancelled, no reply goes to another."""
    chance = random.Random(seed)
    sent: list[int] = []

    async def send(commands: Sequence[Command]) -> list[bytes]:
        sent.append(len(commands))
        await asyncio.sleep(0)
        return [command[1] for command in commands]

    batcher = CommandBatcher(send)

    async def ask(number: int) -> bool:
        names = [b"%d.%d" % (number, i) for i in range(number % 4)]
        return list(await batcher.send([("GET", name) for name in names])) == names

    tasks = [asyncio.ensure_future(ask(number)) for number in range(60)]
    for _ in tasks:
        if chance.random() < 0.1:
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    assert await answered_rightly(tasks) > 5
    assert len(sent) < 20


async def test_where_commands_cannot_be_sent_every_caller_learns_that_nothing_was_answered() -> (
    None
):
    """That is what the store says of a server which is away, too."""

    async def send(commands: Sequence[Command]) -> list[bytes]:
        raise RuntimeError(len(commands))

    batcher = CommandBatcher(send)
    asked = [batcher.send([("GET", b"a")] * count) for count in (1, 2)]
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)
    try:
        assert await asyncio.gather(*asked) == [[None], [None, None]]
    finally:
        await asyncio.sleep(0)
        loop.set_exception_handler(None)


async def test_a_miss_leaves_nothing_to_the_garbage_collector(redis_url: str) -> None:
    """It would keep all replies of its turn, with their bodies, until the collector runs."""
    store = RedisStore(redis_url, CacheSettings(cache_read_budget=5))
    await store.open()
    gc.collect()
    gc.disable()
    # Stores of other tests may have left some.
    before = {id(one) for one in gc.get_objects() if isinstance(one, Packet)}
    try:
        for name in (uuid4().hex, uuid4().hex):
            await store.read((b"a",), (name,), WantedClaim(b"a", (name,)))
        await asyncio.sleep(0)
        packets = [one for one in gc.get_objects() if isinstance(one, Packet)]
        assert not [one for one in packets if id(one) not in before]
    finally:
        gc.enable()
        await store.close()
