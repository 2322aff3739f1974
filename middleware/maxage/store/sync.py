"""The synchronous half of the store on Redis, for the typed cache in plain functions.

It shares breaker, journal and history with the asynchronous half, and blocks its thread for at most
the budget.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final, Protocol, final

import redis
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.settings import CacheSettings
from maxage.store import Reading
from maxage.store.tokens import HIDDEN_HISTORY, belongs, fresh_token, token_key
from maxage.store.upstream import (
    SERVER_IS_ELSEWHERE,
    Command,
    Upstream,
    connection_history,
    strings,
    sync_client,
    told_history,
    upstream_for,
)


class SyncStore(Protocol):
    """What the typed cache asks of a store without awaiting; see `maxage.store.Store`."""

    @property
    def authority(self) -> object:
        """What keeps the tokens."""
        ...

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return values and tokens in one round trip."""
        ...

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        groups: Iterable[str],
    ) -> bool:
        """Keep the values."""
        ...

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values."""
        ...

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge each group."""
        ...


@final
class SyncRedisStore:
    """Reads and writes without awaiting; safe to use from several threads."""

    def __init__(self, url: str, settings: CacheSettings) -> None:
        self.upstream: Final[Upstream] = upstream_for(url, settings.cache_namespace)
        self._reader = self._pool(settings.cache_read_budget)
        self._writer = self._pool(settings.cache_write_budget)

    def _pool(self, timeout: float) -> redis.ConnectionPool:
        return sync_client(
            self.upstream.url, timeout=timeout, on_connect=self._on_connect
        ).connection_pool

    @property
    def authority(self) -> object:
        """The server and namespace as this process knows them."""
        return self.upstream

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return values and tokens; missing tokens are created.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if not self.upstream.trusted:
            raise StoreUnavailableError("the store is away")
        token_keys = [token_key(self.upstream.namespace, group) for group in groups]
        answers = self._guarded(self._reader, lambda _: [("MGET", *keys, *token_keys)])
        if answers is None or isinstance(answers[0], Exception) or not self.upstream.trusted:
            raise StoreUnavailableError("the store did not answer")
        try:
            answer = strings(answers[0], len(keys) + len(groups))
        except InvalidResponse as error:
            self.upstream.failed(error)
            raise StoreUnavailableError(self.upstream.describe(error)) from None
        values, tokens = answer[: len(keys)], answer[len(keys) :]
        return Reading(values, self._with_created(token_keys, tokens))

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        groups: Iterable[str],
    ) -> bool:
        """Keep the values, and extend the tokens of their groups where they would end before."""
        if int(keep_for * 1000) <= 0 or not self.upstream.trusted:
            return False
        late = self.upstream.ending_before(groups, keep_for)
        commands = self.upstream.write_commands(values, keep_for, late)
        answers = self._guarded(self._writer, lambda _: commands)
        return self.upstream.written(answers, values, keep_for, late)

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values."""
        if not keys or self.upstream.breaker.open:
            return False
        answers = self._guarded(self._writer, lambda _: [("UNLINK", *keys)])
        return answers is not None and isinstance(answers[0], int) and answers[0] > 0

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group; owe what was not confirmed."""
        if self.upstream.breaker.open:
            self.upstream.owe(groups)
            return [None] * len(groups)
        tokens: list[bytes] = []

        def commands(history: bytes) -> list[Command]:
            tokens.extend(fresh_token(history) for _ in groups)
            return self.upstream.token_commands(groups, tokens)

        answers = self._guarded(self._writer, commands)
        unpaid = frozenset(self.upstream.unconfirmed(groups, answers))
        if unpaid:
            self.upstream.owe(unpaid)
        return [None if group in unpaid else token for group, token in zip_longest(groups, tokens)]

    def close(self) -> None:
        """Close the connections."""
        self._reader.disconnect()
        self._writer.disconnect()

    def _with_created(
        self, keys: Sequence[bytes], tokens: Sequence[bytes | None]
    ) -> Sequence[bytes | None]:
        history = self.upstream.history or b""
        lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
        if not lacking:
            return tokens
        answers = self._guarded(
            self._writer,
            lambda now: self.upstream.creation_commands(
                [(keys[i], tokens[i]) for i in lacking], now
            ),
        )
        created: Any = answers[-1] if answers and isinstance(answers[-1], list) else []
        result = list(tokens)
        for position, i in enumerate(lacking):
            token = created[position] if len(created) == len(lacking) else None
            fits = isinstance(token, bytes) and belongs(token, self.upstream.history or b"")
            result[i] = token if fits else None
        return result

    def _guarded(
        self, pool: redis.ConnectionPool, commands: Callable[[bytes], list[Command]]
    ) -> list[Any] | None:
        """Run commands in one round trip; None when the server did not answer."""
        try:
            answers = self._ask_all(pool, commands)
        except (RedisError, OSError) as error:
            self.upstream.failed(error)
            return None
        self.upstream.succeeded()
        return answers

    def _ask_all(
        self, pool: redis.ConnectionPool, commands: Callable[[bytes], list[Command]]
    ) -> list[Any]:
        connection = pool.get_connection()
        try:
            if connection_history(connection) != self.upstream.history:
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
        info = _answer(connection)
        if isinstance(info, SERVER_IS_ELSEWHERE):
            raise info
        history = HIDDEN_HISTORY if isinstance(info, Exception) else told_history(info)
        if not self.upstream.meet(connection, history):
            raise redis.ConnectionError("another server history: the namespace is purged first")


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
