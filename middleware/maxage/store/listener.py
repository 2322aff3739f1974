"""The connection that hears of every token that changes on a server.

`CLIENT TRACKING` with `BCAST` and a prefix sends the names of changed keys. With RESP2 they go to
a subscribed connection, which here is the very one that asked (`REDIRECT` to itself). The server
puts such a message on its way before it answers the write that caused it, and answers in order:
what was purged before a PING was sent has been heard when its answer is there.
"""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false, reportUnknownVariableType=false
# redis-py leaves part of its own signatures without types.

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse, RedisError

from maxage.clock import Clock, monotonic_clock
from maxage.store.copies import Copies
from maxage.store.node import Node, connection_history, describe

logger = logging.getLogger("maxage")

Connect = Callable[[], AbstractConnection]
"""Returns a new connection, not yet connected, that learns the server's history when it is."""

_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_SUBSCRIBE: Final = b"*2\r\n$9\r\nSUBSCRIBE\r\n$20\r\n__redis__:invalidate\r\n"
_BUSY_INTERVAL: Final = 0.03
"""Seconds between two PINGs while copies are used."""
_IDLE_INTERVAL: Final = 0.5
_DEAD_AFTER: Final = 2.0
"""Seconds without an answer after which the connection is given up."""
_CONNECT_WITHIN: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0

Waiting = list["asyncio.Future[bool]"]


@final
class TokenListener:
    """Listens to one server, and drops the copies whose tokens changed.

    All but `heard_at` and `leave` belongs to the event loop in which `start` was called.
    """

    def __init__(
        self, node: Node, prefix: bytes, copies: Copies, *, clock: Clock = monotonic_clock
    ) -> None:
        """Listen to `node` for the keys that begin with `prefix`, once `start` was called."""
        self.history: bytes | None = None
        """The history of the server that is listened to; None: nobody listens."""
        self._node: Final = node
        self._prefix: Final = prefix
        self._copies: Final = copies
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

    @property
    def alive(self) -> bool:
        """Whether it was started in an event loop that still runs or can."""
        return self._loop is not None and not self._loop.is_closed()

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether it was started in this event loop."""
        return self._loop is loop

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

    def heard_at(self) -> float:
        """Return when (monotonic) the PING was sent that was answered last."""
        self._used = True
        if self._idle and self.alive and self._loop is not None:
            self._idle = False
            self._loop.call_soon_threadsafe(self._tick)
        return self._heard

    def leave(self) -> None:
        """Give the connection up, from whatever thread: another server took over."""
        self.history = None
        if self.alive and self._loop is not None:
            self._loop.call_soon_threadsafe(self._abort)

    async def confirm(self, seconds: float) -> bool:
        """Ask the server, once for all who ask in this turn of the loop; False: no answer."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._transport is None:
            return False
        if self._round is None:
            self._round = []
            loop.call_soon(self._ask, seconds)
        # One future for each, so that a cancelled request takes nothing from another.
        future: asyncio.Future[bool] = loop.create_future()
        self._round.append(future)
        return await future

    # the connection

    async def _run(self, connect: Connect) -> None:
        pause = _FIRST_PAUSE
        while True:
            connection = connect()
            try:
                lost = await self._subscribed(connection)
                pause = _FIRST_PAUSE
                await lost
            except (RedisError, OSError, TimeoutError, ValueError) as error:
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
            await connection.connect()
            number = await _ask(connection, "CLIENT", "ID")
            tracking = ("ON", "REDIRECT", number, "BCAST", "PREFIX", self._prefix)
            if await _ask(connection, "CLIENT", "TRACKING", *tracking) != b"OK":
                raise InvalidResponse("the answer is not that to CLIENT TRACKING")
            # From here on each message is worked off where it arrives, without a task that has to
            # be woken first: that is most of what an `exact` hit costs. No message can come before
            # the subscription, so that redis-py has read all that there was.
            writer: Any = connection._writer  # noqa: SLF001 - redis-py has no other way to it
            transport: asyncio.Transport = writer.transport
            transport.set_protocol(_Wire(self._take, begun, lost))
            transport.write(_SUBSCRIBE)
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

    def _take(self, message: Any) -> None:
        if message[0] == b"pong":
            if self._asked:
                self._heard, waiting = self._asked.popleft()
                _tell(waiting, answered=True)
        elif message[0] == b"message":
            if message[2] is None:
                # Everything was flushed.
                self._copies.clear()
            else:
                self._copies.purge(message[2])

    # what is asked

    def _ask(self, seconds: float) -> None:
        waiting, self._round = self._round or [], None
        if self._transport is None or self._loop is None:
            _tell(waiting, answered=False)
            return
        self._ping(waiting)
        self._loop.call_later(seconds, self._give_up, waiting, self._clock() + seconds, seconds)

    def _ping(self, waiting: Waiting) -> None:
        if self._transport is not None:
            self._asked.append((self._clock(), waiting))
            self._transport.write(_PING)

    def _give_up(self, waiting: Waiting, due: float, seconds: float) -> None:
        """Let those who wait go on without an answer; a late event loop is no late answer."""
        if all(future.done() for future in waiting):
            return
        if self._loop is not None and self._clock() - due > seconds / 2:
            again = self._clock() + seconds
            self._loop.call_later(seconds, self._give_up, waiting, again, seconds)
            return
        self._node.failed(TimeoutError("no answer to a PING"))
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


@final
class _Wire(asyncio.Protocol):
    """The bytes of the connection, once it listens."""

    def __init__(
        self,
        take: Callable[[Any], None],
        begun: "asyncio.Future[None]",
        lost: "asyncio.Future[None]",
    ) -> None:
        self._reader = hiredis.Reader()
        self._handle = take
        self._begun = begun
        self._gone = lost

    def data_received(self, data: bytes) -> None:
        """Work off every message that is complete."""
        try:
            self._reader.feed(data)
            while (message := self._reader.gets()) is not False:
                self._one(message)
        except (hiredis.HiredisError, TypeError, IndexError) as error:
            self._end(error)

    def _one(self, message: Any) -> None:
        if isinstance(message, hiredis.ReplyError):
            raise message
        if message[0] == b"subscribe" and not self._begun.done():
            self._begun.set_result(None)
        else:
            self._handle(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        cause = ConnectionError(f"the connection was lost ({error})")
        if not self._begun.done():
            self._begun.set_exception(cause)
        elif not self._gone.done():
            self._gone.set_exception(cause)


def _tell(waiting: Waiting, *, answered: bool) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(answered)


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True)
