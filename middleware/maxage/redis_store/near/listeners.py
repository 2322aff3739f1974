"""Hears of every token that changes, on whatever server it lies."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, final

from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.listener import PING, Connect, Question, TokenListener
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.topology import Topology
from maxage.store.tokens import token_prefix


def names_in_all_slots(namespace: str) -> Iterator[bytes]:
    """Yield names of which one lies in each slot of a cluster; most servers keep one of the first.

    The slot is a CRC16 of what is in braces, which for two bytes takes every value.
    """
    for number in range(2**16):
        tag = number.to_bytes(2, "big")
        if b"}" not in tag:
            yield b"%b:near:{%b}" % (namespace.encode(), tag)


@final
class Listeners:
    """One listener for each server that takes writes.

    Copies may be used while all of them hear. Then it does not matter which server a copy's tokens
    lie on, nor that a slot moves from one to another.

    Args:
        topology: the servers.
        namespace: whose tokens are meant.
        copies: what is dropped.
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
        self._connect_to: Callable[[Node], Connect] | None = None
        self._of: dict[Node, TokenListener] = {}
        self._followed: object = None
        """The servers, as they were when it was seen to it that each has its listener."""
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Whether they were started in an event loop that still runs or can."""
        return self._loop is not None and not self._loop.is_closed()

    def belong_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether they were started in this event loop."""
        return self._loop is loop

    def start(self, connect_to: Callable[[Node], Connect]) -> None:
        """Begin to listen, and go on until `stop`, whatever servers come and go.

        Args:
            connect_to: returns what makes connections to a server.
        """
        self._loop, self._connect_to = asyncio.get_running_loop(), connect_to
        self._follow()

    async def stop(self) -> None:
        """Stop listening; nothing is kept."""
        self._connect_to = None
        for node in tuple(self._of):
            self._end(node)
        await asyncio.gather(*self._ending)

    def hear(self) -> bool:
        """Return whether every server is listened to; may be called from any thread."""
        if self._followed is not self._topology.nodes:
            if self._loop is not None and self.alive:
                self._loop.call_soon_threadsafe(self._follow)
            return False
        # A list: each of them looks whether it hears the right one.
        return bool(self._of) and all([one.hears() for one in tuple(self._of.values())])  # noqa: C419

    def heard_at(self) -> float:
        """Return when (monotonic) the oldest question was sent that some server answered last."""
        return min([one.heard_at() for one in tuple(self._of.values())], default=float("-inf"))

    def ask(self, patience: Callable[[], float]) -> "list[asyncio.Future[bool] | None]":
        """Ask every server, once for all who ask in this turn of the loop; see `TokenListener`."""
        return [one.ask(patience) for one in self._of.values()]

    def _follow(self) -> None:
        """See to it that each server has its listener, and nobody else has one."""
        nodes = self._topology.nodes
        if self._connect_to is None or self._followed is nodes:
            return
        # What was looked up before may lie where nobody listened.
        self._copies.clear()
        for node in set(self._of).difference(nodes):
            self._end(node)
        for node in set(nodes).difference(self._of):
            self._of[node] = self._listener(node)
            self._of[node].start(self._connect_to(node))
        self._followed = nodes

    def _listener(self, node: Node) -> TokenListener:
        return TokenListener(
            node,
            token_prefix(self._namespace),
            self._copies,
            question=lambda: self._question_for(node),
            clock=self._clock,
        )

    def _end(self, node: Node) -> None:
        task = asyncio.get_running_loop().create_task(self._of.pop(node).stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _question_for(self, node: Node) -> Question:
        """Return what the server is asked.

        A master of a cluster answers a PING also when another one has taken over from it, or when
        it is cut off from the others. It is asked for a key of its own, which nobody ever writes.

        Raises:
            RedisConnectionError: no key lies on that server.
        """
        if not node.is_in_cluster:
            return PING
        for name in names_in_all_slots(self._namespace):
            if self._topology.node_for(name) is node:
                return Question(command=(b"GET", name), answer=None)
        raise RedisConnectionError("the server keeps no keys")
