"""The purges of one turn of the event loop: each group once, no caller answered too early."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import pytest

from maxage.background import Background
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.purger import Purger
from maxage.observe.counters import Tally
from maxage.store.base import Store, TokenAuthority
from tests.support.caching import begun_at_once

pytestmark = pytest.mark.anyio


class Server(TokenAuthority):
    """Writes tokens; remembers which groups each of its writes was about, and what is owed."""

    def __init__(self, *, refusing: str = "") -> None:
        self.authority = self
        self.owed: set[str] = set()
        self.begun: list[Sequence[str]] = []
        self.done = 0
        self.refusing = refusing
        self.answering = asyncio.Event()
        self.answering.set()
        self.purger = Purger(cast("Store", self), Background(), Tally())

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        self.begun.append(groups)
        await self.answering.wait()
        await asyncio.sleep(0)
        self.done += 1
        return [None if group == self.refusing else b"token" for group in groups]

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        tokens = await self.renew(groups)
        return [b"old"] * len(tokens), tokens

    async def soften(self, groups: Sequence[str]) -> bool:
        return None not in await self.renew(groups)

    def owe(self, groups: Iterable[str]) -> None:
        self.owed.update(groups)


async def test_the_purges_of_one_turn_write_each_group_once() -> None:
    """However many requests purge it; each is told of its own groups."""
    server = Server(refusing="c")
    purge = server.purger.purge
    told = await asyncio.gather(purge(["a", "b"]), purge(("b", "c")), purge(["b"]))
    assert [sorted(groups) for groups in server.begun] == [["a", "b", "c"]]
    assert told == [True, False, True]


async def test_a_purge_that_is_asked_for_later_is_written_anew() -> None:
    """What is under way may have been written before the later one's change."""
    server = Server()
    server.answering.clear()
    first = asyncio.ensure_future(server.purger.purge(["a"]))
    while not server.begun:  # noqa: ASYNC110 - the next turn is all that is waited for
        await asyncio.sleep(0)
    second = asyncio.ensure_future(server.purger.purge(["a"]))
    server.answering.set()
    assert await asyncio.gather(first, second) == [True, True]
    assert server.begun == [("a",), ("a",)]


async def test_a_cancelled_caller_has_purged_all_the_same() -> None:
    """Its request may have changed anything."""
    server = Server()
    asked = asyncio.ensure_future(server.purger.purge(["a"]))
    await asyncio.sleep(0)
    asked.cancel()
    assert await server.purger.purge(["b"]) is True
    assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], BaseException)
    assert {group for groups in server.begun for group in groups} == {"a", "b"}


def _purge(purger: Purger) -> Awaitable[bool]:
    return purger.purge(["a"])


def _swap(purger: Purger) -> Awaitable[bool]:
    return purger.purge(["a"], {"a": b"old"})


def _purge_soft_ones_again(purger: Purger) -> Awaitable[bool]:
    noted = Dependencies(store=purger._store, mutating=True)
    noted.note_soft_purge("a")
    return purger.purge_again(noted, ())


def _purge_around_values_again(purger: Purger) -> Awaitable[bool]:
    noted = Dependencies(store=purger._store, mutating=True)
    noted.typed_writes = {"a": None}
    return purger.purge_again(noted, ())


@pytest.mark.parametrize("ask", [_purge, _swap, _purge_soft_ones_again, _purge_around_values_again])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_purge_whose_event_loop_ends_is_owed(
    ask: Callable[[Purger], Awaitable[bool]], turns: int
) -> None:
    """In the very turn that asked for it, or while the store has not answered yet."""
    server = Server()
    server.answering.clear()

    async def ask_and_end() -> None:
        ask(server.purger)
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(ask_and_end())
    assert server.owed == {"a"}


async def test_a_purge_that_comes_after_a_cancelled_one_is_sent() -> None:
    """It does not join a turn that is never sent."""
    server = Server()
    first = asyncio.ensure_future(server.purger.purge(["a"]))
    (task,) = server.purger._background.tasks
    task.cancel()
    assert await server.purger.purge(["b"]) is True
    assert (server.begun, server.owed) == ([("b",)], {"a"})
    assert first.cancelled()


@pytest.mark.parametrize("seed", range(20))
async def test_a_purge_returns_only_after_a_write_that_began_after_it_was_requested(
    seed: int,
) -> None:
    """In whatever order requests come and go."""
    chance, server = random.Random(seed), Server()

    async def ask(number: int) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        group, begun = f"g{number % 3}", len(server.begun)
        await server.purger.purge([group])
        assert any(group in groups for groups in server.begun[begun : server.done])

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(ask(number))
    assert len(server.begun) < 40


def test_an_event_loop_that_ended_in_the_middle_holds_up_no_other() -> None:
    """Tests and plain functions make a new one each time."""

    async def begin(purger: Purger) -> None:
        purger.purge(["a"])

    async def purge(purger: Purger) -> bool:
        return await purger.purge(["a"])

    purger = Server().purger
    for _ in range(3):
        asyncio.run(begin(purger))
        assert asyncio.run(purge(purger)) is True


async def test_tasks_that_begin_at_once_lose_no_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of `asyncio.eager_task_factory`."""
    monkeypatch.setattr(Background, "spawn", staticmethod(begun_at_once))
    written: list[str] = []

    class Renewing:
        async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
            written.extend(groups)
            return [b"token"] * len(groups)

    purger = Purger(cast("Store", Renewing()), Background(), Tally())
    assert await asyncio.gather(purger.purge(["a"]), purger.purge(["b"])) == [True, True]
    assert written == ["a", "b"]
