"""The connection that hears of every token that changes on a server.

`CLIENT TRACKING` with `BCAST` and a prefix sends the names of changed keys; with RESP3 they come
between the answers of the connection that asked for it. The server puts such a message on its way
before it answers the write that caused it, and answers in order: what was purged before a question
was sent has been heard when its answer is there.
"""

# pyright: reportPrivateUsage=false
# redis-py gives no public way to the transport.

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse, RedisError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.near.wire import Wire
from maxage.redis_store.servers.node import Node, connection_history, describe

logger = logging.getLogger("maxage")
Connect = Callable[[], AbstractConnection]
"""Returns a new connection, not yet connected, that learns the server's history when it is."""
_BUSY_INTERVAL: Final = 0.03
"""Seconds between two PINGs while copies are used."""
_IDLE_INTERVAL: Final = 0.5
_DEAD_AFTER: Final = 2.0
"""Seconds without an answer after which the connection is given up."""
_CONNECT_WITHIN: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0
Waiting = list["asyncio.Future[bool]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a server answers in one way only, as long as it is the one that purges go to."""

    command: tuple[bytes, ...]
    answer: bytes | None


PING: Final = Question(command=(b"PING",), answer=b"PONG")


@final
class TokenListener:
    """Listens to one server, and drops the copies whose tokens changed.

    All but `hears`, `heard_at` and `leave` belongs to the event loop in which `start` was called.

    Args:
        node: the server.
        prefix: what the keys begin with.
        copies: what is dropped.
        question: gives what the server is asked on each new connection.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node: Node,
        prefix: bytes,
        copies: Copies,
        *,
        question: Callable[[], Question] = lambda: PING,
        clock: Clock = monotonic_clock,
    ) -> None:
        self.history: bytes | None = None
        """The history of the server that is listened to; None: nobody listens."""
        self._node: Final = node
        self._prefix: Final = prefix
        self._copies: Final = copies
        self._new_question: Final = question
        self._question = PING
        self._packed = b""
        self._clock: Final = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._heard = float("-inf")
        self._used = False
        self._idle = False
        self._timer: asyncio.TimerHandle | None = None
        self._asked: deque[tuple[float, Waiting]] = deque()
        self._round: Waiting | None = None
        self._refused = False

    def start(self, connect: Connect) -> None:
        """Begin to listen, and go on until `stop`, however often the connection is lost."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(connect))

    async def stop(self) -> None:
        """Stop listening; nothing is kept."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def hears(self) -> bool:
        """Return whether the server is listened to that purges go to."""
        if self.history is not None and self.history != self._node.history:
            self.leave()
        return self.history is not None

    def heard_at(self) -> float:
        """Return when (monotonic) the question was sent that was answered last."""
        self._used = True
        if self._idle and self._loop is not None and not self._loop.is_closed():
            self._idle = False
            self._loop.call_soon_threadsafe(self._tick)
        return self._heard

    def leave(self) -> None:
        """Give the connection up, from whatever thread: another server took over."""
        self.history = None
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._abort)

    def ask(self, patience: Callable[[], float]) -> "asyncio.Future[bool] | None":
        """Ask the server, once for all who ask in this turn of the loop.

        Args:
            patience: says for how many seconds an answer is waited for, when it is asked.

        Returns:
            Whether it has answered within so many seconds; None: it cannot be asked.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._transport is None:
            return None
        if self._round is None:
            self._round = []
            loop.call_soon(self._send, patience)
        # One future for each, so that a cancelled request takes nothing from another.
        future: asyncio.Future[bool] = loop.create_future()
        self._round.append(future)
        return future

    # the connection

    async def _run(self, connect: Connect) -> None:
        pause = _FIRST_PAUSE
        while True:
            connection = connect()
            try:
                lost = await self._subscribed(connection)
                pause = _FIRST_PAUSE
                await lost
            except (RedisError, OSError, TimeoutError, ValueError, RuntimeError) as error:
                # A RuntimeError is uvloop's way to say that the transport is closed.
                self._explain(error)
            finally:
                self._lost()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _subscribed(self, connection: AbstractConnection) -> "asyncio.Future[None]":
        """Connect and listen; return a future that ends with the connection."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        begun: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(_CONNECT_WITHIN):
            self._question = self._new_question()
            self._packed = _packed(connection, *self._question.command)
            await connection.connect()
            # From here on each message is worked off where it arrives, without a task that has to
            # be woken first: that is most of what an `exact` hit costs. Redis-py has read all that
            # there was.
            writer: Any = connection._writer  # noqa: SLF001 - redis-py has no other way to it
            transport: asyncio.Transport = writer.transport
            transport.set_protocol(Wire(self._hear, self._answered, begun, lost))
            transport.write(_packed(connection, "HELLO", 3))
            tracking = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix)
            transport.write(_packed(connection, *tracking))
            await begun
        self._transport = transport
        self._begin(connection_history(connection))
        return lost

    def _begin(self, history: bytes) -> None:
        # What was looked up before could not be heard about.
        self._copies.clear()
        self._refused = False
        self._asked.clear()
        self.history = history
        self._tick()

    def _lost(self) -> None:
        self.history = None
        self._heard = float("-inf")
        self._copies.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._abort()
        self._transport = None
        while self._asked:
            _tell(self._asked.popleft()[1], answered=False)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _explain(self, error: BaseException) -> None:
        message = "The near cache is off: nobody tells which purges there are (%s)."
        level = logging.DEBUG if self._refused or self._node.breaker.open else logging.WARNING
        self._refused = True
        logger.log(level, message, describe(error))

    # what is heard

    def _hear(self, kind: bytes, keys: Any) -> None:
        if kind == b"invalidate":
            if keys is None:
                # Everything was flushed.
                self._copies.clear()
            else:
                self._copies.purge(keys)

    def _answered(self, answer: Any) -> None:
        if answer != self._question.answer or not self._asked:
            raise InvalidResponse("the answer is not that to the question")
        self._heard, waiting = self._asked.popleft()
        _tell(waiting, answered=True)

    # what is asked

    def _send(self, patience: Callable[[], float]) -> None:
        waiting, self._round = self._round or [], None
        seconds = patience()
        if self._transport is None or self._loop is None:
            _tell(waiting, answered=False)
            return
        self._ping(waiting)
        self._loop.call_later(seconds, self._give_up, waiting, self._clock() + seconds, seconds)

    def _ping(self, waiting: Waiting) -> None:
        if self._transport is not None:
            self._asked.append((self._clock(), waiting))
            # uvloop says so where the transport is closed: who waits is told when it is lost.
            with suppress(RuntimeError):
                self._transport.write(self._packed)

    def _give_up(self, waiting: Waiting, due: float, seconds: float) -> None:
        """Let those who wait go on without an answer; a late event loop is no late answer."""
        if all(future.done() for future in waiting):
            return
        if self._loop is not None and self._clock() - due > seconds / 2:
            again = self._clock() + seconds
            self._loop.call_later(seconds, self._give_up, waiting, again, seconds)
            return
        self._node.failed(TimeoutError("no answer to whoever listens"))
        _tell(waiting, answered=False)

    def _tick(self) -> None:
        """Ask from time to time, more often while copies are used."""
        if self._transport is None or self._loop is None:
            return
        if self._asked and self._clock() - self._asked[0][0] > _DEAD_AFTER:
            self._abort()
            return
        self._idle, self._used = not self._used, False
        self._ping([])
        if self._timer is not None:
            self._timer.cancel()
        interval = _IDLE_INTERVAL if self._idle else _BUSY_INTERVAL
        self._timer = self._loop.call_later(interval, self._tick)


def _tell(waiting: Waiting, *, answered: bool) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(answered)


def _packed(connection: AbstractConnection, *command: Any) -> bytes:
    packed: list[bytes] = connection.pack_command(*command)
    return b"".join(packed)
