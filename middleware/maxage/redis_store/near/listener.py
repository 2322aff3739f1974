"""The connection that hears of every changed token on a server.

`CLIENT TRACKING` with `BCAST` and a prefix sends the names of changed keys. With RESP3 they arrive
between the answers of the connection that asked for them. The server queues such a message before
it answers the write, and answers in order. So when a PING is answered, the listener has heard of
every purge that was acknowledged before the PING was sent.
"""

# pyright: reportPrivateUsage=false
# redis-py has no public way to the transport.

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.pinger import PING, Ping, Pinger
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.near.wire import Wire
from maxage.redis_store.servers.node import Node, connection_history, describe

logger = logging.getLogger("maxage")
Connect = Callable[[], AbstractConnection]
"""Returns a new connection, not connected yet, that reads the server's history first."""
_CONNECT_WITHIN: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0
"""Seconds between two attempts to connect."""


@final
class TokenListener:
    """Listens to one server, and drops the copies whose tokens changed.

    `hears` and `leave` may be called from any thread, all else only from the event loop of `start`.

    Args:
        node: the server.
        prefix: the prefix of all token keys.
        copies: the copies to drop.
        new_ping: returns the PING for a new connection.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node: Node,
        prefix: bytes,
        copies: Copies,
        *,
        new_ping: Callable[[], Ping] = lambda: PING,
        clock: Clock = monotonic_clock,
    ) -> None:
        self.history: bytes | None = None
        """The history of the server that is listened to; None: there is no connection."""
        self.pinger: Final = Pinger(node.failed, clock)
        self._node: Final = node
        self._prefix: Final = prefix
        self._copies: Final = copies
        self._new_ping: Final = new_ping
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._warned = False

    def start(self, connect: Connect) -> None:
        """Listen until `stop`, however often the connection is lost."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(connect))

    async def stop(self) -> None:
        """Stop listening, and drop all copies."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def hears(self) -> bool:
        """Return whether it listens to the server that purges are sent to."""
        if self.history is not None and self.history != self._node.history:
            self.leave()
        return self.history is not None

    def leave(self) -> None:
        """Close the connection, since another server took over; may be called from any thread."""
        self.history = None
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.pinger.abort)

    async def _run(self, connect: Connect) -> None:
        pause = _FIRST_PAUSE
        while True:
            connection = connect()
            try:
                lost = await self._subscribed(connection)
                pause = _FIRST_PAUSE
                await lost
            except (RedisError, OSError, TimeoutError, ValueError, RuntimeError) as error:
                # uvloop raises a RuntimeError on a closed transport.
                self._warn(error)
            finally:
                self.history = None
                self._copies.clear()
                self.pinger.end()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _subscribed(self, connection: AbstractConnection) -> "asyncio.Future[None]":
        """Connect and listen; return a future that fails when the connection is lost."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        begun: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(_CONNECT_WITHIN):
            ping = self._new_ping()
            packed = _packed(connection, *ping.command)
            await connection.connect()
            # From here on each message is handled where it arrives: waking a task for it would be
            # most of the cost of an `exact` hit. redis-py has read all bytes that arrived before.
            writer: Any = connection._writer  # noqa: SLF001 - redis-py has no public way to it
            transport: asyncio.Transport = writer.transport
            transport.set_protocol(Wire(self._heard, self.pinger.answered, begun, lost))
            transport.write(_packed(connection, "HELLO", 3))
            tracking = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix)
            transport.write(_packed(connection, *tracking))
            await begun
        # No message could void the lookups that were sent before.
        self._copies.clear()
        self._warned = False
        self.history = connection_history(connection)
        self.pinger.begin(transport, ping, packed)
        return lost

    def _warn(self, error: BaseException) -> None:
        level = logging.DEBUG if self._warned or self._node.breaker.open else logging.WARNING
        self._warned = True
        logger.log(
            level,
            "The near cache is off (%s): every hit asks Redis; reconnecting every %s s at most.",
            describe(error),
            _LONGEST_PAUSE,
        )

    def _heard(self, kind: bytes, keys: Iterable[bytes] | None) -> None:
        if kind == b"invalidate":
            if keys is None:
                # Everything was flushed.
                self._copies.clear()
            else:
                self._copies.purge(keys)


def _packed(connection: AbstractConnection, *command: Any) -> bytes:
    packed: list[bytes] = connection.pack_command(*command)
    return b"".join(packed)
