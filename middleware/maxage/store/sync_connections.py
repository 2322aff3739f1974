"""The connections of plain functions to one server; they block their thread for the budgets.

The twin of `connections`.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Sequence
from typing import Any, final

import redis
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.settings import CacheSettings
from maxage.store.commands import Command, Plan, creation_commands, strings
from maxage.store.node import SERVER_IS_ELSEWHERE, Node, connection_history, describe
from maxage.store.tokens import belongs

Found = tuple[list[bytes | None], list[bytes | None]]
"""Values and tokens, in the order of their keys."""


@final
class SyncNodeConnections:
    """Asks one server, and counts its answers and failures; safe to use from several threads."""

    def __init__(self, node: Node, settings: CacheSettings) -> None:
        self._node = node
        self._reader = self._pool(settings.cache_read_budget)
        self._writer = self._pool(settings.cache_write_budget)

    def _pool(self, timeout: float) -> redis.ConnectionPool:
        return self._node.client(timeout, on_connect=self._on_connect).connection_pool

    def close(self) -> None:
        """Close the connections."""
        self._reader.disconnect()
        self._writer.disconnect()

    def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Found:
        """Read values and tokens in one round trip; missing tokens are created in a second one.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if self._node.breaker.open:
            raise StoreUnavailableError("the store is away")
        answers = self._guarded(self._reader, lambda _: [("MGET", *keys, *token_keys)])
        if answers is None or isinstance(answers[0], Exception):
            raise StoreUnavailableError("the store did not answer")
        try:
            answer = strings(answers[0], len(keys) + len(token_keys))
        except InvalidResponse as error:
            self._node.failed(error)
            raise StoreUnavailableError(describe(error)) from None
        return answer[: len(keys)], self._with_created(token_keys, answer[len(keys) :])

    def run(self, keys: Sequence[bytes], plan: Plan) -> Sequence[Any]:
        """Send one command for each key in one round trip, within the write budget.

        Returns:
            The answers, errors included; None where the server did not answer.
        """
        count = len(keys)
        if self._node.breaker.open:
            return [None] * count
        answers = self._guarded(
            self._writer, lambda history: [plan(position, history) for position in range(count)]
        )
        return [None] * count if answers is None else answers

    def _with_created(
        self, keys: Sequence[bytes], tokens: Sequence[bytes | None]
    ) -> list[bytes | None]:
        history = self._node.history or b""
        lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
        result = list(tokens)
        if not lacking:
            return result
        answers = self._guarded(
            self._writer,
            lambda now: creation_commands([(keys[i], tokens[i]) for i in lacking], now),
        )
        created: Any = answers[-1] if answers and isinstance(answers[-1], list) else []
        for position, i in enumerate(lacking):
            token = created[position] if len(created) == len(lacking) else None
            fits = isinstance(token, bytes) and belongs(token, self._node.history or b"")
            result[i] = token if fits else None
        return result

    def _guarded(
        self, pool: redis.ConnectionPool, commands: Callable[[bytes], list[Command]]
    ) -> list[Any] | None:
        """Run commands in one round trip; None when the server did not answer."""
        try:
            answers = self._exchange(pool, commands)
        except (RedisError, OSError) as error:
            self._node.failed(error)
            return None
        self._node.succeeded()
        return answers

    def _exchange(
        self, pool: redis.ConnectionPool, commands: Callable[[bytes], list[Command]]
    ) -> list[Any]:
        connection = pool.get_connection()
        try:
            if connection_history(connection) != self._node.history:
                # It was made before another server took over.
                connection.disconnect()
                connection.connect()
            batch = commands(connection_history(connection))
            connection.send_packed_command(connection.pack_commands(batch))
            answers = [_answer(connection) for _ in batch]
            if any(isinstance(answer, SERVER_IS_ELSEWHERE) for answer in answers):
                connection.disconnect()
        except BaseException:
            connection.disconnect()
            raise
        else:
            return answers
        finally:
            pool.release(connection)

    def _on_connect(self, connection: Any) -> None:
        """Read the history of the server on each new connection, before anything else."""
        connection.on_connect()
        connection.send_command("INFO", "replication")
        if not self._node.meet(connection, _answer(connection)):
            raise redis.ConnectionError("another server history: the namespace is purged first")


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
