"""Makes the pipelined connection to a server when it is needed, and anew when it was lost."""

import asyncio
from collections.abc import Callable
from typing import Final, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.redis_store.servers.circuit_breaker import budget
from maxage.redis_store.servers.node import (
    Node,
    describe,
    note_history,
)
from maxage.redis_store.servers.pipeline import FAILURES, PipelinedConnection


@final
class Dialer:
    """The link to a server: made when it is needed, and anew when it was lost.

    Args:
        node: the server. It is told of each failure once, however many waited.
        connect: returns a connection of redis-py's that is not made yet.
        seconds: what making it may take.
    """

    def __init__(
        self, node: Node, connect: Callable[[], AbstractConnection], *, seconds: float
    ) -> None:
        self._node: Final = node
        self._connect: Final = connect
        self._seconds: Final = seconds
        self._pipelined: PipelinedConnection | None = None
        self._making: asyncio.Task[PipelinedConnection] | None = None
        self._lost = b""
        """The history of a link that was lost, until another one has taken its place."""

    @property
    def pipelined(self) -> PipelinedConnection | None:
        """The link, if there is one to the server of the history that was met last."""
        pipelined = self._pipelined
        if pipelined is None or (pipelined.usable and pipelined.history == self._node.history):
            return pipelined
        self._drop(pipelined)
        pipelined.retire()
        return None

    def _drop(self, pipelined: PipelinedConnection) -> None:
        self._pipelined, self._lost = None, pipelined.history

    async def made(self, due: float) -> PipelinedConnection:
        """Return the link, made by then if there is none; see `pipelined`.

        Raises:
            one of `FAILURES`: there is none; that is counted.
        """
        if (pipelined := self.pipelined) is not None:
            return pipelined
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make())
            self._making.add_done_callback(self._was_made)
        try:
            async with budget(max(0.0, due - asyncio.get_running_loop().time())):
                # Others wait for it too, and the next one will want it.
                return await asyncio.shield(self._making)
        except TimeoutError as error:
            self._node.failed(error)
            raise

    async def close(self) -> None:
        """Close the link; another one is made when it is needed."""
        making = self._making
        if making is not None:
            making.cancel()
            await asyncio.wait([making])
        if self._pipelined is not None:
            self._pipelined.close()
            self._pipelined = None

    async def _make(self) -> PipelinedConnection:
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
                # Garbage makes redis-py raise anything.
                raise RedisConnectionError(describe(error)) from error
            raise
        return PipelinedConnection(connection, self._failed)

    def _failed(self, error: Exception) -> None:
        self._node.failed(error)
        if self._node.breaker.open and self._pipelined is not None:
            # Whatever ends the outage, it may not bring this connection back.
            pipelined = self._pipelined
            self._drop(pipelined)
            pipelined.close()

    def _was_made(self, making: "asyncio.Task[PipelinedConnection]") -> None:
        self._making = None
        if making.cancelled():
            return
        error = making.exception()
        if error is None:
            self._pipelined = making.result()
        elif not isinstance(error, TimeoutError):
            # Those who waited have counted that it took too long.
            self._node.failed(error)
