"""The listeners to all servers of a store."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.listener import TokenListener
from maxage.redis_store.near.pinger import PING, Ping
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.topology import Topology
from maxage.store.tokens import token_prefix


def names_in_all_slots(namespace: str) -> Iterator[bytes]:
    """Yield key names until each slot of a cluster has one; most masters have one of the first.

    The slot is a CRC16 of the two bytes in braces, and takes every value.
    """
    for number in range(2**16):
        tag = number.to_bytes(2, "big")
        if b"}" not in tag:
            yield b"%b:near:{%b}" % (namespace.encode(), tag)


@final
class Listeners:
    """Keeps one listener for each server that takes writes.

    Copies may be used while all of them hear. Then it does not matter which server has a copy's
    tokens, nor that a slot moves between servers.

    Args:
        topology: the servers.
        namespace: the namespace of the tokens.
        copies: the copies to drop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        topology: Topology,
        namespace: str,
        copies: Copies,
        *,
        clock: Clock = monotonic_clock,
    ) -> None:
        self._topology: Final = topology
        self._namespace: Final = namespace
        self._copies: Final = copies
        self._clock: Final = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection_to: Callable[[Node], AbstractConnection] | None = None
        self._of: dict[Node, TokenListener] = {}
        self._followed: Sequence[Node] | None = None
        """The servers that have listeners, as `Topology.nodes` had them."""
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Whether they were started in an event loop that is not closed."""
        return self._loop is not None and not self._loop.is_closed()

    def belong_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether they were started in this event loop."""
        return self._loop is loop

    def start(self, connection_to: Callable[[Node], AbstractConnection]) -> None:
        """Listen until `stop`, whatever servers come and go.

        Args:
            connection_to: returns a new connection to a server, not connected yet.
        """
        self._loop, self._connection_to = asyncio.get_running_loop(), connection_to
        self._follow()

    async def stop(self) -> None:
        """Stop listening, and drop all copies."""
        self._connection_to = None
        for node in tuple(self._of):
            self._end(node)
        await asyncio.gather(*self._ending)

    def hear(self) -> bool:
        """Return whether every server is listened to; may be called from any thread."""
        if self._followed is not self._topology.nodes:
            if self._loop is not None and self.alive:
                self._loop.call_soon_threadsafe(self._follow)
            return False
        # A list: each listener has to check its server.
        return bool(self._of) and all([one.hears() for one in tuple(self._of.values())])  # noqa: C419

    def heard_at(self) -> float:
        """Return when (monotonic) the oldest of the servers' last answered PINGs was sent."""
        heard = [one.pinger.heard_at() for one in tuple(self._of.values())]
        return min(heard, default=float("-inf"))

    def ask(self, patience: Callable[[], float]) -> "list[asyncio.Future[bool] | None]":
        """Ping every server, once for all callers in this turn of the loop; see `Pinger.ask`."""
        return [one.pinger.ask(patience) for one in self._of.values()]

    def _follow(self) -> None:
        """Start a listener for each new server; stop those of former ones."""
        nodes = self._topology.nodes
        connection_to = self._connection_to
        if connection_to is None or self._followed is nodes:
            return
        # Earlier lookups may have read from servers without listeners.
        self._copies.clear()
        for node in set(self._of).difference(nodes):
            self._end(node)
        for node in set(nodes).difference(self._of):
            self._of[node] = self._listener(node)
            self._of[node].start(partial(connection_to, node))
        self._followed = nodes

    def _listener(self, node: Node) -> TokenListener:
        return TokenListener(
            node,
            token_prefix(self._namespace),
            self._copies,
            new_ping=lambda: self._ping_for(node),
            clock=self._clock,
        )

    def _end(self, node: Node) -> None:
        task = asyncio.get_running_loop().create_task(self._of.pop(node).stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _ping_for(self, node: Node) -> Ping:
        """Return the PING for a server.

        A master of a cluster answers a PING even after another one took over from it, or while it
        is cut off from the others; but then it refuses a GET. So it is asked for a key of its own
        slots, which is never written.

        Raises:
            RedisConnectionError: the server has no slots.
        """
        if not node.is_in_cluster:
            return PING
        for name in names_in_all_slots(self._namespace):
            if self._topology.node_for(name) is node:
                return Ping(command=(b"GET", name), pong=None)
        raise RedisConnectionError("the server has no slots")
