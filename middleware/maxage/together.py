"""The purges of one turn of the event loop, made together.

Whoever purges needs a new token that is written after he asked and before he goes on. One that is
written for all who asked before it was sent is that for each of them; so a group that many requests
purge at once is purged once.
"""

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol, final


class Purging(Protocol):
    """What purges groups; see `Store.renew`."""

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge the groups; return their tokens, None where that is not confirmed."""
        ...


Unconfirmed = frozenset[str]
Spawn = Callable[[Coroutine[Any, Any, Unconfirmed]], "asyncio.Task[Unconfirmed]"]


@final
class _Turn:
    """What is purged in one turn, and who waits for it."""

    __slots__ = ("groups", "waiting")

    def __init__(self) -> None:
        self.groups: Final[dict[str, None]] = {}
        self.waiting: Final[list[asyncio.Future[Unconfirmed]]] = []

    def end(self, task: "asyncio.Task[Unconfirmed]") -> None:
        """Tell everybody what came of it."""
        for future in self.waiting:
            if future.done():
                continue
            if task.cancelled():
                # The cache was closed, or the event loop is coming to its end.
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())


@final
class SharedPurges:
    """Gathers the purges of each event loop.

    Args:
        store: purges.
        spawn: runs work in the background, to its end.
    """

    def __init__(self, store: Purging, spawn: Spawn) -> None:
        self._store: Final = store
        self._spawn: Final = spawn
        self._turns: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn]] = (
            weakref.WeakKeyDictionary()
        )

    async def purge(self, groups: Iterable[str]) -> bool:
        """Purge the groups; return whether that is confirmed. Cannot be cancelled half way."""
        groups = tuple(groups)
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = _Turn()
            self._spawn(self._run(loop, turn)).add_done_callback(partial(self._end, loop, turn))
        turn.groups.update(dict.fromkeys(groups))
        future: asyncio.Future[Unconfirmed] = loop.create_future()
        turn.waiting.append(future)
        return (await future).isdisjoint(groups)

    def _end(
        self, loop: asyncio.AbstractEventLoop, turn: _Turn, task: "asyncio.Task[Unconfirmed]"
    ) -> None:
        if self._turns.get(loop) is turn:
            # It was cancelled before it began.
            del self._turns[loop]
        turn.end(task)

    async def _run(self, loop: asyncio.AbstractEventLoop, turn: _Turn) -> Unconfirmed:
        """Purge what was gathered; whoever asks from now on is too late for it."""
        del self._turns[loop]
        groups = tuple(turn.groups)
        tokens = await self._store.renew(groups)
        return frozenset(g for g, token in zip(groups, tokens, strict=True) if token is None)
