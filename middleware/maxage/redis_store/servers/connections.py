"""The connections of one event loop to all servers of a store, within the budgets.

redis-py binds connections to the event loop that made them, so each loop has its own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from maxage.redis_store.servers.blocking_calls import run_blocking
from maxage.redis_store.servers.commands import (
    Begin,
    Claim,
    Claims,
    Command,
    Created,
    Lacking,
    Plan,
    Read,
    as_written,
)
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.node_connections import NodeConnections
from maxage.redis_store.servers.packet import Packet, Rounds
from maxage.redis_store.servers.per_node import PerNode
from maxage.redis_store.servers.rounds import (
    answers_of,
    commanding,
    creating,
    lookup,
    read_of,
    reading,
    running,
)
from maxage.redis_store.servers.timeouts import Receiver
from maxage.redis_store.servers.topology import Single, Topology

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

T = TypeVar("T")


@final
class Connections:
    """Connections of one event loop: sends the packets of each round side by side."""

    def __init__(self, topology: Topology, settings: "CacheSettings") -> None:
        self._topology: Final = topology
        self._single: Final = topology.nodes[0] if isinstance(topology, Single) else None
        self._read_budget: Final = settings.cache_read_budget
        self._write_budget: Final = settings.cache_write_budget
        self._connect_budget: Final = max(
            settings.cache_connect_budget, settings.cache_read_budget, settings.cache_write_budget
        )
        self._per_node: Final = PerNode(
            topology, lambda node: NodeConnections(node, self._connect_budget)
        )
        self.ready_at = 0.0
        """When (monotonic) a request last waited for what comes before its first question."""

    async def connect(self) -> None:
        """Connect to every server that answers within the connect budget."""
        await self._learn(self._connect_budget)
        connected = (self._per_node[node].connect() for node in self._topology.nodes)
        await asyncio.gather(*connected)

    async def close(self) -> None:
        """Close the connections; use makes new ones."""
        for connections in self._per_node.take_all():
            await connections.close()

    def abandon(self) -> None:
        """Close the connections, now that their event loop has ended."""
        for connections in self._per_node.take_all():
            connections.abandon()

    def connection_to(self, node: Node) -> AbstractConnection:
        """Return a new connection to a server, not connected yet and never shared."""
        return self._per_node[node].new_connection()

    async def read(
        self, keys: Sequence[bytes], token_keys: Sequence[bytes], claims: Sequence[Claim] = ()
    ) -> Read:
        """Read values and tokens within the read budget, and make claims; see `reading`."""
        node, seconds = self._single, self._read_budget
        if node is None:
            rounds = reading(self._topology, keys, token_keys, claims)
            return await self._driven(rounds, seconds)
        # The same rounds, but every hit takes this one: a generator would be a tenth of its cost.
        connections = self._per_node[node]
        if connections.is_new:
            await connections.connect()
            self.ready_at = monotonic()
        packet = lookup(node, keys, token_keys, claims)
        await connections.send(packet, seconds, replicated=False)
        return read_of(packet, keys, token_keys)

    async def create(
        self, lacking: Sequence[Lacking], begin: Begin, claims: Claims, due: float
    ) -> Created:
        """Create tokens and make claims until `due` (monotonic seconds); see `creating`."""
        rounds = creating(self._topology, lacking, begin, claims)
        return await self._driven(rounds, due - monotonic())

    async def _driven(self, rounds: Rounds[T], seconds: float, *, replicated: bool = False) -> T:
        """Send each round's packets side by side, all rounds together within `seconds`."""
        ends = monotonic() + seconds
        if self._topology.is_untried:
            await self._learn(self._connect_budget)
            self.ready_at = monotonic()
            ends = self.ready_at + seconds
        elif self._per_node.served is not self._topology.nodes:
            await self._learn(seconds)
        try:
            while True:
                packets = next(rounds)
                ends += await self._connect_new([packet.node for packet in packets])
                left = ends - monotonic()
                if left <= 0:
                    continue
                if len(packets) == 1:
                    (packet,) = packets
                    await self._per_node[packet.node].send(packet, left, replicated=replicated)
                    continue
                sent = [
                    self._per_node[p.node].send(p, left, replicated=replicated) for p in packets
                ]
                await asyncio.gather(*sent)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _connect_new(self, nodes: Sequence[Node]) -> float:
        """Connect to servers for the first time; return how many seconds that took."""
        new = [self._per_node[node] for node in nodes if self._per_node[node].is_new]
        if not new:
            return 0.0
        began = monotonic()
        await asyncio.gather(*(connections.connect() for connections in new))
        self.ready_at = monotonic()
        return self.ready_at - began

    async def _learn(self, seconds: float) -> None:
        """Learn the masters before the first question; the background thread keeps them current."""
        if self._topology.is_untried:
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(seconds):
                    await run_blocking(self._topology.learn, seconds)
        for connections in self._per_node.outdated():
            await connections.close()

    def run(
        self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False
    ) -> Coroutine[Any, Any, Sequence[Any]]:
        """Run one command for each key within the write budget; see `running`.

        Args:
            keys: the keys of the commands.
            plan: gives the command for each position.
            replicated: whether a replica has to confirm each write, where there are replicas. A
                deposed primary confirms writes that are lost with it.
        """
        node = self._single
        if node is None:
            rounds = running(self._topology, keys, plan)
            return self._driven(rounds, self._write_budget, replicated=replicated)
        return self._run_on(node, commanding(node, keys, plan), len(keys), replicated=replicated)

    def run_written(self, commands: Sequence[Command]) -> Coroutine[Any, Any, Sequence[Any]]:
        """Do `run` with commands that are the same for every server."""
        node = self._single
        if node is None:
            return self.run([command[1] for command in commands], as_written(commands))
        packet = Packet(node, lambda _: list(commands))
        return self._run_on(node, packet, len(commands), replicated=False)

    async def _run_on(
        self, node: Node, packet: Packet, count: int, *, replicated: bool
    ) -> Sequence[Any]:
        connections = self._per_node[node]
        if connections.is_new:
            await connections.connect()
        await connections.send(packet, self._write_budget, replicated=replicated)
        return answers_of(packet, count)

    def run_at_once(self, count: int, pack: Callable[[bytes], bytes], receiver: Receiver) -> bool:
        """Run commands on the only server if that needs nothing to be awaited.

        Args:
            count: how many commands.
            pack: returns the bytes of the commands, given the server's history.
            receiver: takes the answers, within the write budget.

        Returns:
            Whether the commands are sent; False: `run` does it.
        """
        node = self._single
        if node is None:
            return False
        return self._per_node[node].send_at_once(count, pack, receiver, self._write_budget)
