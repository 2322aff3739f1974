"""Connections of each server, made when they are first needed."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar, final

from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.topology import Topology

C = TypeVar("C")


@final
class PerNode(dict[Node, C]):
    """Maps each server of a topology to its connections; safe to use from several threads."""

    def __init__(self, topology: Topology, make: Callable[[Node], C]) -> None:
        super().__init__()
        self._topology: Final = topology
        self._make: Final = make
        self.served: Sequence[Node] | None = None
        """The servers at the last call of `outdated`, as `Topology.nodes` had them."""

    def __missing__(self, node: Node) -> C:
        """Make the connections of a server."""
        return self.setdefault(node, self._make(node))

    def outdated(self) -> list[C]:
        """Take out, and return, the connections of servers that take no writes any more."""
        before, self.served = self.served or (), self._topology.nodes
        return [self.pop(node) for node in set(before) - set(self.served) if node in self]

    def take_all(self) -> list[C]:
        """Take out, and return, all connections."""
        return [self.pop(node) for node in tuple(self)]
