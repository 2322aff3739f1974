"""Connections of each server, made when they are first needed."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar, final

from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.topology import Topology

C = TypeVar("C")


@final
class PerNode(Generic[C]):
    """Keeps the connections of each server of a topology; safe to use from several threads.

    Args:
        topology: the servers.
        make: makes the connections of one server.
    """

    def __init__(self, topology: Topology, make: Callable[[Node], C]) -> None:
        self._topology: Final = topology
        self._make: Final = make
        self._made: dict[Node, C] = {}
        self.served: Sequence[Node] | None = None
        """The servers at the last call of `outdated`, as `Topology.nodes` had them."""

    def __getitem__(self, node: Node) -> C:
        """Return the connections of a server."""
        made = self._made.get(node)
        return self._made.setdefault(node, self._make(node)) if made is None else made

    def outdated(self) -> list[C]:
        """Take out, and return, the connections of servers that take no writes any more."""
        before, self.served = self.served or (), self._topology.nodes
        return self._taken(set(before) - set(self.served))

    def all(self) -> list[C]:
        """Take out, and return, all connections."""
        return self._taken(set(self._made))

    def _taken(self, nodes: set[Node]) -> list[C]:
        return [self._made.pop(node) for node in nodes if node in self._made]
