"""The purges of one turn of the event loop, made together.

Whoever purges needs a new token that is written after he asked and before he goes on. One that is
written for all who asked before it was sent is that for each of them; so a group that many requests
purge at once is purged once.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol, final

from maxage.counters import Counters
from maxage.store.memory import MemoryStore


class Purging(Protocol):
    """What purges groups; see `Store.renew`."""

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge the groups; return their tokens, None where that is not confirmed."""
        ...


Unconfirmed = frozenset[str]
Spawn = Callable[[Coroutine[Any, Any, Unconfirmed]], "asyncio.Task[Unconfirmed]"]


@final
class _Turn:
    """What is purged in one turn of an event loop, and who waits for it."""

    __slots__ = ("groups", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.groups: Final[dict[str, None]] = {}
        self.waiting: Final[list[tuple[asyncio.Future[bool], Sequence[str]]]] = []


@final
class SharedPurges:
    """Gathers the purges of each turn.

    Args:
        store: purges.
        spawn: runs work in the background, to its end.
        counters: where purges are counted.
    """

    def __init__(self, store: Purging, spawn: Spawn, counters: Counters) -> None:
        self._store: Final = store
        self._spawn: Final = spawn
        self._counters: Final = counters
        self._turn: _Turn | None = None
        """The purges of one event loop's turn that are not sent yet. Two loops that run at once may
        take this place from each other, which makes their turns shorter and nothing else."""

    def purge(self, groups: Iterable[str]) -> "asyncio.Future[bool]":
        """Purge the groups; return a future of whether that is confirmed.

        Whoever is cancelled while he waits for it has purged all the same.
        """
        groups = tuple(groups)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        if isinstance(self._store, MemoryStore):
            # There is nothing to be sent, nor to be waited for.
            confirmed = None not in self._store.renew_now(groups)
            future.set_result(self._counters.count_purge(confirmed=confirmed))
            return future
        turn = under_way = self._turn
        if turn is None or turn.loop is not loop:
            turn = self._turn = _Turn(loop)
        turn.groups.update(dict.fromkeys(groups))
        turn.waiting.append((future, groups))
        if turn is not under_way:
            # Only now: there are event loops whose tasks begin at once.
            self._spawn(self._run(turn)).add_done_callback(partial(self._end, turn))
        return future

    def _close(self, turn: _Turn) -> None:
        """Whoever asks from now on is too late for this turn."""
        if self._turn is turn:
            self._turn = None

    def _end(self, turn: _Turn, task: "asyncio.Task[Unconfirmed]") -> None:
        # It may have been cancelled before it began.
        self._close(turn)
        for future, groups in turn.waiting:
            if task.cancelled():
                # The cache was closed, or the event loop is coming to its end.
                future.cancel()
            elif (error := task.exception()) is not None:
                if not future.done():
                    future.set_exception(error)
            else:
                confirmed = task.result().isdisjoint(groups)
                self._counters.count_purge(confirmed=confirmed)
                if not future.done():
                    future.set_result(confirmed)

    async def _run(self, turn: _Turn) -> Unconfirmed:
        self._close(turn)
        groups = tuple(turn.groups)
        tokens = await self._store.renew(groups)
        return frozenset(g for g, token in zip(groups, tokens, strict=True) if token is None)
