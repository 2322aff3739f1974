"""The connection pool of `get_async_redis`: a pool for each event loop behind one."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from maxage.redis_store.servers.per_loop import PerLoop, abandon


@final
class _Pool(ConnectionPool):
    """The connections of one event loop."""

    def __init__(
        self,
        connect_timeout: Callable[[], float],
        connection_class: type[AbstractConnection],
        **options: Any,
    ) -> None:
        super().__init__(connection_class, **options)
        self._connect_timeout: Final = connect_timeout

    def make_connection(self) -> AbstractConnection:
        """Make a connection with the time-out of this moment."""
        pool: Any = super()
        made: AbstractConnection = pool.make_connection()
        made.socket_connect_timeout = self._connect_timeout()
        return made


@final
class LoopPool(ConnectionPool):
    """Gives each event loop connections of its own, which end with it.

    So clients may be made anywhere, in a thread too: the loop that runs a command counts.

    Args:
        connect_timeout: returns the seconds that making a connection may take now.
        options: as those of `redis.asyncio.ConnectionPool`.
    """

    def __init__(self, connect_timeout: Callable[[], float], **options: Any) -> None:
        super().__init__(retry=Retry(NoBackoff(), 0), **options)
        self._connect_timeout: Final = connect_timeout
        self._pools: Final = PerLoop(self._new_pool, ConnectionPool.disconnect, _abandon)

    def _new_pool(self) -> ConnectionPool:
        return _Pool(self._connect_timeout, self.connection_class, **self.connection_kwargs)

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """Return a connection of the running event loop."""
        connection: AbstractConnection = await self._pools.get().get_connection()
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back."""
        await self._pools.get().release(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections of the running event loop."""
        await self._pools.get().disconnect(inuse_connections)


def _abandon(pool: ConnectionPool) -> None:
    made: Any = pool
    abandon_connections((*made._available_connections, *made._in_use_connections))  # noqa: SLF001


def abandon_connections(connections: Iterable[Any]) -> None:
    """Close the sockets of redis-py's connections whose event loop has ended."""
    for connection in connections:
        writer = connection._writer  # noqa: SLF001 - redis-py has no public way to it
        if writer is not None:
            abandon(writer.transport)
            connection._reader = connection._writer = None  # noqa: SLF001
