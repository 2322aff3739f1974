"""The connections of plain functions to all servers of a store; they block within the budgets."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import redis
from redis.exceptions import RedisError

from maxage.redis_store.servers.commands import Begin, Command, Fetched, Plan
from maxage.redis_store.servers.node import (
    INFO,
    SERVER_IS_ELSEWHERE,
    Node,
    connection_history,
)
from maxage.redis_store.servers.packet import Packet, Rounds
from maxage.redis_store.servers.per_node import PerNode
from maxage.redis_store.servers.rounds import fetching, running
from maxage.redis_store.servers.topology import Topology

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

T = TypeVar("T")


@final
class SyncConnections:
    """Connections of plain functions: sends one packet after the other; safe for threads."""

    def __init__(self, topology: Topology, settings: "CacheSettings") -> None:
        self._topology: Final = topology
        self._read_budget: Final = settings.cache_read_budget
        self._write_budget: Final = settings.cache_write_budget
        self._connect_budget: Final = settings.cache_connect_budget
        self._per_node: Final = PerNode(topology, lambda node: SyncNodeConnections(node, settings))

    def close(self) -> None:
        """Close the connections; use makes new ones."""
        for connections in self._per_node.take_all():
            connections.close()

    def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin) -> Fetched:
        """Read values and tokens within the read budget; see `fetching`."""
        rounds = fetching(self._topology, keys, token_keys, begin)
        return self._driven(rounds, self._read_budget)

    def run(self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False) -> Sequence[Any]:
        """Run one command for each key within the write budget; see `Connections.run`."""
        rounds = running(self._topology, keys, plan)
        return self._driven(rounds, self._write_budget, replicated=replicated)

    def _driven(self, rounds: Rounds[T], seconds: float, *, replicated: bool = False) -> T:
        """Send the packets; none is sent when `seconds` are over."""
        is_first = self._topology.is_untried
        ends = monotonic() + seconds + (self._connect_budget if is_first else 0)
        if self._per_node.served is not self._topology.nodes:
            self._learn(seconds)
        try:
            while True:
                for packet in next(rounds):
                    if (began := monotonic()) < ends:
                        connections = self._per_node[packet.node]
                        was_new, connections.is_new = connections.is_new, False
                        connections.send(packet, replicated=replicated)
                        # Connecting has a budget of its own.
                        ends += monotonic() - began if was_new else 0
        except StopIteration as end:
            result: T = end.value
            return result

    def _learn(self, seconds: float) -> None:
        if self._topology.is_untried:
            with suppress(RedisError):
                self._topology.learn(max(seconds, self._connect_budget))
        for connections in self._per_node.outdated():
            connections.close()


@final
class SyncNodeConnections:
    """Connections to one server, with the read budget and with the write budget as timeout."""

    def __init__(self, node: Node, settings: "CacheSettings") -> None:
        connecting = settings.cache_connect_budget
        self.is_new = True
        """Whether nothing was sent yet."""
        self._node: Final = node
        self._reader: Final = NodePool(node, settings.cache_read_budget, connecting)
        self._writer: Final = NodePool(node, settings.cache_write_budget, connecting)
        self._write_budget: Final = settings.cache_write_budget

    def close(self) -> None:
        """Close the connections; use makes new ones."""
        self._reader.close()
        self._writer.close()

    def send(self, packet: Packet, *, replicated: bool) -> None:
        """Send a packet's commands in one round trip, and hand it the answers, if they come.

        `replicated` adds a WAIT, where there are replicas.
        """
        node = self._node
        if node.breaker.open:
            return
        confirmation = node.confirmation(self._write_budget) if replicated else None

        def commands(history: bytes) -> list[Command]:
            made = packet.commands(history)
            return [*made, confirmation] if confirmation else made

        try:
            packet.take((self._reader if packet.is_read else self._writer).send(commands))
        except (RedisError, OSError) as error:
            node.failed(error)
        else:
            node.succeeded()


@final
class NodePool:
    """A pool of connections to one server; each reads the server's history before it is used.

    Args:
        node: the server.
        timeout: seconds for each answer.
        connect_timeout: seconds for each step of connecting; see `Node.pool`.
    """

    def __init__(self, node: Node, timeout: float, connect_timeout: float | None = None) -> None:
        self.node: Final = node
        self._pool: Final = node.pool(
            timeout, connect_timeout=connect_timeout, on_connect=self._on_connect
        )

    def close(self) -> None:
        """Close the connections; use makes new ones."""
        self._pool.disconnect()

    def send(self, commands: Callable[[bytes], Sequence[Command]]) -> list[Any]:
        """Send commands, given the server's history, in one round trip.

        Returns:
            The answers; an error stands in its place.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        connection = self._pool.get_connection()
        try:
            if connection_history(connection) != self.node.history:
                # It was made before another server took over.
                connection.disconnect()
                connection.connect()
            answers = self.node.exchange(connection, commands(connection_history(connection)))
            if any(isinstance(answer, SERVER_IS_ELSEWHERE) for answer in answers):
                connection.disconnect()
        except BaseException:
            connection.disconnect()
            raise
        else:
            return answers
        finally:
            self._pool.release(connection)

    def _on_connect(self, connection: Any) -> None:
        """Read the history of the server on each new connection, before anything else."""
        connection.on_connect()
        (info,) = self.node.exchange(connection, [INFO])
        if not self.node.meet(connection, info):
            raise redis.ConnectionError("another server history: the namespace is purged first")
