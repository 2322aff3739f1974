"""The dialer of a server: makes its pipelined connection, and a new one after a loss."""

import asyncio
from collections.abc import Callable
from typing import Final, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.redis_store.servers.node import Node, describe, note_history
from maxage.redis_store.servers.pipeline import FAILURES, PipelinedConnection
from maxage.redis_store.servers.timeouts import budget


@final
class Dialer:
    """Makes the pipelined connection to a server when it is needed, and a new one after a loss.

    Args:
        node: the server; it counts each failure once, however many requests waited.
        connect: returns a new redis-py connection, not connected yet.
        seconds: how long connecting may take.
    """

    def __init__(
        self, node: Node, connect: Callable[[], AbstractConnection], *, seconds: float
    ) -> None:
        self._node: Final = node
        self._connect: Final = connect
        self._seconds: Final = seconds
        self._pipelined: PipelinedConnection | None = None
        self._dialling: asyncio.Task[PipelinedConnection] | None = None
        self._lost = b""
        """The history of a lost connection, until another one has taken its place."""

    @property
    def pipelined(self) -> PipelinedConnection | None:
        """The connection, if it is usable and its server history is the newest one."""
        pipelined = self._pipelined
        if pipelined is None or (pipelined.usable and pipelined.history == self._node.history):
            return pipelined
        self._drop(pipelined)
        pipelined.retire()
        return None

    def _drop(self, pipelined: PipelinedConnection) -> None:
        self._pipelined, self._lost = None, pipelined.history

    async def connection(self, due: float) -> PipelinedConnection:
        """Return the connection; dial if there is none.

        Args:
            due: when it must be there, by the event loop's clock.

        Raises:
            one of `FAILURES`: there is none; the failure is counted.
        """
        if (pipelined := self.pipelined) is not None:
            return pipelined
        if self._dialling is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
            self._dialling.add_done_callback(self._dialled)
        try:
            async with budget(max(0.0, due - asyncio.get_running_loop().time())):
                # Other requests wait for it too, so a cancellation must not reach it.
                return await asyncio.shield(self._dialling)
        except TimeoutError as error:
            self._node.failed(error)
            raise

    async def close(self) -> None:
        """Close the connection; use makes a new one."""
        dialling = self._dialling
        if dialling is not None:
            dialling.cancel()
            await asyncio.wait([dialling])
        if self._pipelined is not None:
            self._pipelined.close()
            self._pipelined = None

    def abandon(self) -> None:
        """Close the connection of an event loop that has ended."""
        if self._pipelined is not None:
            self._pipelined.abandon()

    async def _dial(self) -> PipelinedConnection:
        connection = self._connect()
        if self._lost:
            note_history(connection, self._lost)
            self._lost = b""
        try:
            async with budget(self._seconds):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, Exception) and not isinstance(error, FAILURES):
                # An invalid reply makes redis-py raise any exception.
                raise RedisConnectionError(describe(error)) from error
            raise
        return PipelinedConnection(connection, self._failed)

    def _failed(self, error: Exception) -> None:
        self._node.failed(error)
        if self._node.breaker.open and self._pipelined is not None:
            # The end of the outage may not bring this connection back.
            pipelined = self._pipelined
            self._drop(pipelined)
            pipelined.close()

    def _dialled(self, dialling: "asyncio.Task[PipelinedConnection]") -> None:
        self._dialling = None
        if dialling.cancelled():
            return
        error = dialling.exception()
        if error is None:
            self._pipelined = dialling.result()
            # It has answered. What waited for this needed more round trips than others will.
            self._node.succeeded()
        elif not isinstance(error, TimeoutError):
            # A timeout is counted by the requests that waited.
            self._node.failed(error)
