"""Observer: reads from the servers of a store and changes nothing there.

It has no lease, counts no failure, creates no token, and makes a connection for each question. It
is for people who look at the cache: no request waits for it.
"""

# pyright: reportUnknownMemberType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import INFO, Node, describe, send
from maxage.redis_store.servers.topology import topology_for
from maxage.redis_url import server_url
from maxage.store.base import StoreReply
from maxage.store.tokens import belongs, token_key

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

_SCANNED: Final = 1000
"""Keys that a server looks at for one SCAN."""


@final
class _NoOwner:
    """An owner that ignores failures: the servers are asked only once."""

    def rotate(self) -> None:
        """Do nothing."""

    def recover(self) -> None:
        """Do nothing."""


@final
class Observer:
    """Reads from all servers that settings name.

    Args:
        settings: name the servers; without any, nothing answers.
        timeout: seconds for connecting to a server, and for each of its answers.
    """

    def __init__(self, settings: "CacheSettings", timeout: float = 2.0) -> None:
        url = server_url(settings.redis_url) or ""
        self._timeout: Final = timeout
        self._topology: Final = topology_for(url, _NoOwner(), settings.redis_credentials)

    def nodes(self) -> Sequence[Node]:
        """Return the servers.

        Raises:
            StoreUnavailableError: none of them tells.
        """
        if not self._topology.nodes or self._topology.is_untried:
            try:
                self._topology.learn(self._timeout)
            except Exception as error:  # an invalid reply makes redis-py raise any exception
                raise StoreUnavailableError(describe(error)) from error
        return self._topology.nodes

    def node_for(self, key: bytes) -> Node:
        """Return the server that stores a key.

        Raises:
            StoreUnavailableError: no server tells.
        """
        nodes = self.nodes()
        return self._topology.node_for(key) or nodes[0]

    def ping(self) -> Sequence[Node]:
        """Return the servers, each of which has answered just now.

        Raises:
            StoreUnavailableError: one of them did not answer.
        """
        nodes = self.nodes()
        for node in nodes:
            self.ask(node, [("PING",)])
        return nodes

    def answers(self) -> bool:
        """Return whether every server answers a PING."""
        try:
            pongs = [self.ask(node, [("PING",)]) for node in self.nodes()]
        except StoreUnavailableError:
            return False
        return all(pong in ([b"PONG"], ["PONG"]) for pong in pongs)

    def ask(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """Return the answers of one server; an error stands in its place.

        Raises:
            StoreUnavailableError: the server did not answer.
        """
        try:
            return node.send(commands, self._timeout)
        except Exception as error:
            raise StoreUnavailableError(describe(error)) from error

    def round_trips(self, node: Node, count: int) -> list[float]:
        """Return the seconds of some round trips to a server, one behind the other.

        Raises:
            StoreUnavailableError: the server did not answer.
        """
        seconds: list[float] = []
        with self._connected(node) as connection:
            for _ in range(count):
                began = perf_counter()
                send(connection, [("PING",)])
                seconds.append(perf_counter() - began)
        return seconds

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands whose second word is their key, in their order.

        Raises:
            StoreUnavailableError: a server did not answer.
        """
        answers: list[Any] = [None] * len(commands)
        for node, positions in self._by_node(commands).items():
            told = self.ask(node, [commands[position] for position in positions])
            for position, answer in zip(positions, told, strict=True):
                answers[position] = answer
        return answers

    def peek(self, namespace: str, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens as they are; a token of another history counts as missing.

        Raises:
            StoreUnavailableError: a server gave no proper answer.
        """
        wanted = [*keys, *(token_key(namespace, group) for group in groups)]
        read: list[bytes | None] = [None] * len(wanted)
        for node, positions in self._by_node([("GET", key) for key in wanted]).items():
            asked = [INFO, *(("GET", wanted[position]) for position in positions)]
            info, *told = self.ask(node, asked)
            history = node.history_in(info)
            for position, answer in zip(positions, told, strict=True):
                if isinstance(answer, Exception):
                    raise StoreUnavailableError(describe(answer))
                if position < len(keys) or belongs(answer, history):
                    read[position] = answer
        return StoreReply(read[: len(keys)], read[len(keys) :])

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Yield the keys of all servers that match a glob pattern, some at a time.

        Raises:
            StoreUnavailableError: a server did not answer, or refused.
        """
        for node in self.nodes():
            cursor: bytes = b"0"
            with self._connected(node) as connection:
                while True:
                    command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED)
                    # A refusal is no pair.
                    ((cursor, keys),) = send(connection, [command])
                    yield keys
                    if cursor == b"0":
                        break

    @contextmanager
    def _connected(self, node: Node) -> Generator[Any]:
        """Enclose questions on one connection; what fails in them is the server's failure."""
        pool = node.pool(self._timeout)
        try:
            yield pool.get_connection()
        except Exception as error:
            raise StoreUnavailableError(describe(error)) from error
        finally:
            pool.disconnect()

    def _by_node(self, commands: Iterable[Command]) -> dict[Node, list[int]]:
        """Return the positions of the commands by the server that stores their key."""
        placed: dict[Node, list[int]] = {}
        for position, command in enumerate(commands):
            placed.setdefault(self.node_for(command[1]), []).append(position)
        return placed
