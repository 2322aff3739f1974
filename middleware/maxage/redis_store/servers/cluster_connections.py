"""The connections to a Redis Cluster: one round of packets after the other, side by side."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, TypeVar, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from maxage.redis_store.servers.blocking_calls import run_blocking
from maxage.redis_store.servers.cluster_routing import Packet, Rounds, fetching, running
from maxage.redis_store.servers.commands import Begin, Fetched, Plan
from maxage.redis_store.servers.connections import Connections, NodeConnections
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.sync_connections import SyncConnections, SyncNodeConnections
from maxage.redis_store.servers.topology import Cluster, Topology
from maxage.settings import CacheSettings

T = TypeVar("T")


@final
class ClusterConnections:
    """The connections of one event loop to all masters."""

    def __init__(self, cluster: Cluster, settings: CacheSettings) -> None:
        self._cluster: Final = cluster
        self._settings: Final = settings
        self._of: dict[Node, NodeConnections] = {}
        self._served: Sequence[Node] = ()

    async def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        await self._close(list(self._of))

    async def ping(self) -> bool:
        """Ask every master itself, within the read budget, open breakers notwithstanding."""
        await self._learned(self._settings.cache_read_budget)
        nodes = self._cluster.nodes
        answers = await asyncio.gather(*(self._to(node).ping() for node in nodes))
        return bool(answers) and all(answers)

    async def fetch(
        self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
    ) -> Fetched:
        """Read values and tokens; see `NodeConnections.fetch`."""
        rounds = fetching(self._cluster, keys, token_keys, begin)
        return await self._driven(rounds, self._settings.cache_read_budget)

    async def run(
        self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False
    ) -> Sequence[Any]:
        """Send one command for each key; see `NodeConnections.run`."""
        rounds = running(self._cluster, keys, plan)
        return await self._driven(rounds, self._settings.cache_write_budget, replicated=replicated)

    async def _driven(self, rounds: Rounds[T], seconds: float, *, replicated: bool = False) -> T:
        """Send each round's packets side by side, all rounds together within `seconds`."""
        ends = monotonic() + seconds
        await self._learned(seconds)
        try:
            while True:
                packets, left = next(rounds), ends - monotonic()
                if left > 0 and len(packets) == 1:
                    await self._send(packets[0], left, replicated=replicated)
                elif left > 0:
                    await asyncio.gather(
                        *(self._send(packet, left, replicated=replicated) for packet in packets)
                    )
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, packet: Packet, seconds: float, *, replicated: bool) -> None:
        connections = self._to(packet.node)
        answers = await connections.exchange(packet.commands, within=seconds, replicated=replicated)
        if answers is not None:
            packet.take(answers)

    async def _learned(self, seconds: float) -> None:
        """Learn the masters before the first question; later the background thread does."""
        if self._cluster.is_untried:
            try:
                async with asyncio.timeout(seconds):
                    await run_blocking(self._cluster.learn, seconds)
            except (RedisError, TimeoutError):
                return
        if self._served is not self._cluster.nodes:
            before, self._served = self._served, self._cluster.nodes
            await self._close([node for node in before if node not in self._served])

    async def _close(self, nodes: Sequence[Node]) -> None:
        for connections in [self._of.pop(node) for node in nodes if node in self._of]:
            await connections.close()

    def connector_to(self, node: Node) -> Callable[[], AbstractConnection]:
        """Return what makes connections to one master; see `Connections.connector_to`."""
        return self._to(node).connector_to(node)

    def _to(self, node: Node) -> NodeConnections:
        connections = self._of.get(node)
        if connections is None:
            connections = self._of[node] = NodeConnections(node, self._settings)
        return connections


@final
class SyncClusterConnections:
    """The connections of plain functions to all masters, asked one after the other."""

    def __init__(self, cluster: Cluster, settings: CacheSettings) -> None:
        self._cluster: Final = cluster
        self._settings: Final = settings
        self._of: dict[Node, SyncNodeConnections] = {}
        self._served: Sequence[Node] = ()

    def close(self) -> None:
        """Close the connections."""
        for node in list(self._of):
            self._of.pop(node).close()

    def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin) -> Fetched:
        """Read values and tokens; see `SyncNodeConnections.fetch`."""
        rounds = fetching(self._cluster, keys, token_keys, begin)
        return self._driven(rounds, self._settings.cache_read_budget, reading=True)

    def run(self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False) -> Sequence[Any]:
        """Send one command for each key; see `SyncNodeConnections.run`."""
        rounds = running(self._cluster, keys, plan)
        return self._driven(rounds, self._settings.cache_write_budget, replicated=replicated)

    def _driven(
        self, rounds: Rounds[T], seconds: float, *, reading: bool = False, replicated: bool = False
    ) -> T:
        """Send the packets; none is sent when `seconds` are over."""
        ends = monotonic() + seconds
        self._learned(seconds)
        try:
            while True:
                for packet in next(rounds):
                    if monotonic() < ends:
                        answers = self._to(packet.node).exchange(
                            packet.commands, reading=reading, replicated=replicated
                        )
                        if answers is not None:
                            packet.take(answers)
        except StopIteration as end:
            result: T = end.value
            return result

    def _learned(self, seconds: float) -> None:
        if self._cluster.is_untried:
            try:
                self._cluster.learn(seconds)
            except RedisError:
                return
        if self._served is not self._cluster.nodes:
            before, self._served = self._served, self._cluster.nodes
            for node in set(before) - set(self._served):
                gone = self._of.pop(node, None)
                if gone is not None:
                    gone.close()

    def _to(self, node: Node) -> SyncNodeConnections:
        connections = self._of.get(node)
        if connections is None:
            made = SyncNodeConnections(node, self._settings)
            connections = self._of.setdefault(node, made)
        return connections


def connections_to(topology: Topology, settings: CacheSettings) -> Connections:
    """Return the connections of an event loop to whatever keeps the values."""
    if isinstance(topology, Cluster):
        return ClusterConnections(topology, settings)
    return NodeConnections(topology.nodes[0], settings)


def sync_connections_to(topology: Topology, settings: CacheSettings) -> SyncConnections:
    """Return the connections of plain functions to whatever keeps the values."""
    if isinstance(topology, Cluster):
        return SyncClusterConnections(topology, settings)
    return SyncNodeConnections(topology.nodes[0], settings)
