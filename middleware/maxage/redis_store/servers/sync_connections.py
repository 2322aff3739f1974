"""The connections of plain functions to one server; they block their thread for the budgets.

The twin of `connections`.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, final

import redis
from redis.exceptions import InvalidResponse, RedisError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import (
    Begin,
    Command,
    Fetched,
    Plan,
    answers_of,
    creation_commands,
    strings,
)
from maxage.redis_store.servers.node import (
    SERVER_IS_ELSEWHERE,
    Node,
    connection_history,
    describe,
    send,
)
from maxage.settings import CacheSettings
from maxage.store.tokens import belongs


class SyncConnections(Protocol):
    """What a store asks of its connections, to one server or to many."""

    def close(self) -> None:
        """Close the connections."""
        ...

    def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin) -> Fetched:
        """Read values and tokens; missing tokens are created."""
        ...

    def run(self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False) -> Sequence[Any]:
        """Send one command for each key, within the write budget."""
        ...


@final
class SyncLink:
    """A pool of connections to one server, each met before it is used."""

    def __init__(self, node: Node, timeout: float) -> None:
        self.node: Final = node
        self._pool: Final = node.pool(timeout, on_connect=self._on_connect)

    def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        self._pool.disconnect()

    def exchange(self, commands: Callable[[bytes], Sequence[Command]]) -> list[Any]:
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
            batch = commands(connection_history(connection))
            answers = send(connection, batch)
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
        (info,) = send(connection, [("INFO", "replication")])
        if not self.node.meet(connection, info):
            raise redis.ConnectionError("another server history: the namespace is purged first")


@final
class SyncNodeConnections:
    """Asks one server, and counts its answers and failures; safe to use from several threads."""

    def __init__(self, node: Node, settings: CacheSettings) -> None:
        self._node = node
        self._settings = settings
        self._reader = SyncLink(node, settings.cache_read_budget)
        self._writer = SyncLink(node, settings.cache_write_budget)

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        self._writer.close()

    def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin) -> Fetched:
        """Read values and tokens in one round trip; missing tokens are created in a second one.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        answers = self.exchange(lambda _: [("MGET", *keys, *token_keys)], reading=True)
        if answers is None or isinstance(answers[0], Exception):
            raise StoreUnavailableError("the store did not answer")
        try:
            answer = strings(answers[0], len(keys) + len(token_keys))
        except InvalidResponse as error:
            self._node.failed(error)
            raise StoreUnavailableError(describe(error)) from None
        self._node.succeeded()
        return answer[: len(keys)], self._with_created(token_keys, answer[len(keys) :], begin)

    def run(self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False) -> Sequence[Any]:
        """Send one command for each key in one round trip, within the write budget.

        Returns:
            The answers, errors included; None where the server did not answer or not confirm.
        """

        def commands(history: bytes) -> list[Command]:
            return [plan(position, history) for position in range(len(keys))]

        answers = self.exchange(commands, replicated=replicated)
        if answers is not None:
            self._node.succeeded()
        return answers_of(answers, len(keys))

    def exchange(
        self,
        commands: Callable[[bytes], list[Command]],
        *,
        reading: bool = False,
        replicated: bool = False,
    ) -> list[Any] | None:
        """Send commands, given the server's history, in one round trip, within the budget.

        Args:
            commands: gives what to send.
            reading: whether it is the read budget.
            replicated: whether to add a WAIT, where there are replicas.

        Returns:
            The answers, errors included; None when the server is away, which is counted.
        """
        if self._node.breaker.open:
            return None
        seconds = self._settings.cache_write_budget if replicated else None
        pipelined = self._reader if reading else self._writer
        try:
            return pipelined.exchange(
                lambda history: [*commands(history), *self._node.confirmation(seconds)]
            )
        except (RedisError, OSError) as error:
            self._node.failed(error)
            return None

    def _with_created(
        self, keys: Sequence[bytes], tokens: Sequence[bytes | None], begin: Begin
    ) -> list[bytes | None]:
        history = self._node.history or b""
        lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
        result = list(tokens)
        if not lacking:
            return result
        answers = self.exchange(
            lambda now: creation_commands([(keys[i], tokens[i]) for i in lacking], now, begin)
        )
        created: Any = answers[-1] if answers and isinstance(answers[-1], list) else []
        for position, i in enumerate(lacking):
            token = created[position] if len(created) == len(lacking) else None
            fits = isinstance(token, bytes) and belongs(token, self._node.history or b"")
            result[i] = token if fits else None
        return result
