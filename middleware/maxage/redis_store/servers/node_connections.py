"""The connections of one event loop to one server."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from maxage.redis_store.servers.dialer import Dialer
from maxage.redis_store.servers.node import INFO, NO_INFO, Node
from maxage.redis_store.servers.packet import Packet
from maxage.redis_store.servers.pipeline import FAILURES
from maxage.redis_store.servers.timeouts import PendingCommands, Receiver


@final
class NodeConnections:
    """Connections to one server: one for all commands, and one for those that wait for a replica.

    Args:
        node: the server; it counts answers and failures.
        seconds: how long connecting may take.
    """

    def __init__(self, node: Node, seconds: float) -> None:
        self._node: Final = node
        self.is_new = True
        """Whether `connect` has not ended yet."""
        self._maker: Final = self._new_maker()
        self._loop: Final = asyncio.get_running_loop()
        self._dialer: Final = Dialer(node, self.new_connection, seconds=seconds)
        # A WAIT holds back every command after it.
        self._waiting_dialer: Final = Dialer(node, self.new_connection, seconds=seconds)
        self._seconds: Final = seconds

    async def connect(self) -> None:
        """Connect for the first time, if the server answers in time and is not known to be away.

        A request may wait for it longer than its budget: DNS, TLS and authentication take several
        round trips. Later connections are made within the budgets, and in the background.
        """
        if not self._node.breaker.suspicious:
            with suppress(*FAILURES):
                await self._dialer.connection(self._loop.time() + self._seconds)
        self.is_new = False

    async def close(self) -> None:
        """Close the connections; use makes new ones."""
        await self._dialer.close()
        await self._waiting_dialer.close()

    def abandon(self) -> None:
        """Close the connections, now that their event loop has ended."""
        self._dialer.abandon()
        self._waiting_dialer.abandon()

    def new_connection(self) -> AbstractConnection:
        """Return a connection, not connected yet, that reads the server's history first."""
        made: AbstractConnection = self._maker.connection_class(**self._maker.connection_kwargs)
        return made

    async def send(self, packet: Packet, seconds: float, *, replicated: bool) -> None:
        """Send a packet's commands in one round trip, and hand it the answers, if they come.

        Args:
            packet: the commands.
            seconds: the budget that is left.
            replicated: whether to add a WAIT, where there are replicas.
        """
        node, dialer = self._node, self._dialer
        if node.breaker.open:
            return
        confirmation = node.confirmation(seconds) if replicated else None
        if confirmation:
            dialer = self._waiting_dialer
        within = node.patience(seconds)
        due = self._loop.time() + within
        try:
            pipelined = dialer.pipelined or await dialer.connection(due)
            commands = packet.commands(pipelined.history)
            if confirmation:
                commands.append(confirmation)
            answers = await pipelined.send(commands, due=due, within=within)
        except FAILURES:
            # The dialer and the connection have counted it.
            return
        try:
            packet.take(answers)
        except (ResponseError, InvalidResponse) as error:
            node.failed(error)
            pipelined.retire()
        else:
            node.succeeded()

    def send_at_once(
        self, count: int, pack: Callable[[bytes], bytes], receiver: Receiver, seconds: float
    ) -> bool:
        """Send commands if there is a connection; return whether it is so; see `run_at_once`."""
        pipelined = self._dialer.pipelined
        if self.is_new or pipelined is None or self._node.breaker.open:
            return False
        within = self._node.patience(seconds)
        due = self._loop.time() + within
        pending = PendingCommands(receiver, count, due=due, within=within)
        pipelined.send_packed(pack(pipelined.history), pending)
        return True

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Read the history of the server on each new connection, before anything else."""
        await connection.on_connect()
        info: object = NO_INFO
        if not self._node.closes_on_info:
            await connection.send_command(*INFO, check_health=False)
            try:
                info = await connection.read_response(disable_decoding=True)
            except ResponseError as error:
                info = error
        if not self._node.meet(connection, info):
            raise RedisConnectionError("another server history: the namespace is purged first")

    def _new_maker(self) -> ConnectionPool:
        """Return the factory of connections; it never pools one."""
        options: dict[str, Any] = {
            # The budgets bound whole round trips; a second timer for each read only costs time.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            # A resent purge would carry its old value: every attempt must draw its own.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
            "redis_connect_func": self._on_connect,
        }
        return ConnectionPool(**options | self._node.options(in_loop=True))
