"""All that is asked in one turn of the event loop shares one round trip.

One MGET carries the keys of every request that looked something up in the same turn, and what is
written, claimed or removed leaves together; what costs is not the command but the client's work
around it. Each who waits has his own future, so that a cancelled request never shifts an answer to
another one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Command
from maxage.store.base import StoreReply

Fetch = Callable[[list[bytes], list[str]], Awaitable[tuple[list[bytes | None], list[bytes | None]]]]
"""Asks the store once, for distinct keys and distinct groups."""
_Question = tuple[tuple[bytes, ...], tuple[str, ...]]
"""The keys and groups that one lookup asks for."""


@final
class _Batch:
    """The questions of one turn, each key and group asked once however many wait for it."""

    __slots__ = ("groups", "keys", "waiting")

    def __init__(self) -> None:
        self.keys: dict[bytes, int] = {}
        self.groups: dict[str, int] = {}
        self.waiting: dict[_Question, list[asyncio.Future[StoreReply]]] = {}

    def add(self, question: _Question, future: asyncio.Future[StoreReply]) -> None:
        """Add a question, and whom to answer."""
        waiting = self.waiting.get(question)
        if waiting is not None:
            waiting.append(future)
            return
        self.waiting[question] = [future]
        keys, groups = question
        for key in keys:
            self.keys.setdefault(key, len(self.keys))
        for group in groups:
            self.groups.setdefault(group, len(self.groups))

    def answer(self, values: Sequence[bytes | None], tokens: Sequence[bytes | None]) -> None:
        """Answer everybody; who asked the same shares one reading."""
        for (keys, groups), waiting in self.waiting.items():
            reading = StoreReply(
                [values[self.keys[key]] for key in keys],
                [tokens[self.groups[group]] for group in groups],
            )
            for future in waiting:
                if not future.done():
                    future.set_result(reading)

    def fail(self, error: StoreUnavailableError) -> None:
        """Tell everybody that there is no answer."""
        for waiting in self.waiting.values():
            for future in waiting:
                if not future.done():
                    # One exception object for each: they are raised with different tracebacks.
                    future.set_exception(StoreUnavailableError(*error.args))


@final
class LookupBatcher:
    """Gathers the lookups of one event loop. Not for use from several threads."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._batch: _Batch | None = None
        self._running: set[asyncio.Task[None]] = set()

    def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> asyncio.Future[StoreReply]:
        """Return a future of the answer; it fails with `StoreUnavailableError`."""
        batch = self._batch
        loop = asyncio.get_running_loop()
        if batch is None:
            batch = self._batch = _Batch()
            loop.call_soon(self._send)
        future: asyncio.Future[StoreReply] = loop.create_future()
        batch.add((tuple(keys), tuple(groups)), future)
        return future

    def _send(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: _Batch) -> None:
        try:
            values, tokens = await self._fetch(list(batch.keys), list(batch.groups))
        except StoreUnavailableError as error:
            batch.fail(error)
        except BaseException:
            batch.fail(StoreUnavailableError("the lookup was given up"))
            raise
        else:
            batch.answer(values, tokens)


Send = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]
"""Sends commands, and returns an answer to each; None for one that was not answered."""


@final
class CommandBatcher:
    """Gathers the commands of one event loop; no purges, which are never to wait for others."""

    def __init__(self, send: Send) -> None:
        self._send_together = send
        self._commands: list[Command] = []
        self._waiting: list[tuple[asyncio.Future[Sequence[Any]], int]] = []
        self._running: set[asyncio.Task[None]] = set()

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[Sequence[Any]]:
        """Return a future of the answers, errors included; None for what was not answered."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        future: asyncio.Future[Sequence[Any]] = loop.create_future()
        self._waiting.append((future, len(commands)))
        self._commands += commands
        return future

    def _send(self) -> None:
        task = asyncio.get_running_loop().create_task(self._run(self._commands, self._waiting))
        self._commands, self._waiting = [], []
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(
        self,
        commands: Sequence[Command],
        waiting: Sequence[tuple[asyncio.Future[Sequence[Any]], int]],
    ) -> None:
        answers: Sequence[Any] = [None] * len(commands)
        try:
            answers = await self._send_together(commands)
        finally:
            start = 0
            for future, count in waiting:
                if not future.done():
                    future.set_result(answers[start : start + count])
                start += count
