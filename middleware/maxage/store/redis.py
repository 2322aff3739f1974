"""The store on Redis or Valkey; the only place where redis-py's errors are known."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final, final

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    RedisError,
    ResponseError,
)

from maxage.errors import StoreUnavailableError
from maxage.settings import CacheSettings
from maxage.store import Reading
from maxage.store.batching import LookupBatcher
from maxage.store.guard import budget
from maxage.store.tokens import (
    HIDDEN_HISTORY,
    belongs,
    fresh_token,
    has_replicas,
    token_key,
)
from maxage.store.upstream import (
    SERVER_IS_ELSEWHERE,
    Command,
    Upstream,
    connection_history,
    strings,
    told_history,
    upstream_for,
)


@final
class _LoopSide:
    """The connections and the batch of one event loop; redis-py binds connections to their loop."""

    __slots__ = ("batcher", "pool")

    def __init__(self, pool: BlockingConnectionPool, batcher: LookupBatcher) -> None:
        self.pool = pool
        self.batcher = batcher


@final
class RedisStore:
    """Keeps responses and tokens on a Redis (6.2 upward) or Valkey (7.2 upward) server.

    Args:
        url: where the server is, as in `REDIS_URL`.
        settings: namespace, budgets and limits; read from the environment by default.
    """

    def __init__(self, url: str, settings: CacheSettings | None = None) -> None:
        settings = settings or CacheSettings()
        self._settings = settings
        self._namespace: Final = settings.cache_namespace
        self.upstream: Final[Upstream] = upstream_for(url, settings.cache_namespace)
        self._sides: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSide] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self._namespace!r})"

    @property
    def trusted(self) -> bool:
        """Whether the server answers and no purge is owed to it."""
        return self.upstream.trusted

    @property
    def shared(self) -> bool:
        """Always: other processes see the same values."""
        return True

    @property
    def authority(self) -> object:
        """The server and namespace as this process knows them."""
        return self.upstream

    async def open(self) -> None:
        """Allow the background probe; connections are made when they are first needed."""
        self.upstream.reopen()

    async def close(self) -> None:
        """Close the connections of this event loop."""
        side = self._sides.pop(asyncio.get_running_loop(), None)
        if side is not None:
            await side.pool.disconnect()

    async def ping(self) -> bool:
        """Ask the server itself, within the read budget, an open breaker notwithstanding."""
        try:
            async with budget(self._settings.cache_read_budget):
                return await self._commands([("PING",)]) in ([b"PONG"], ["PONG"])
        except (RedisError, OSError, TimeoutError):
            return False

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return values and tokens; every read of this turn of the loop shares one round trip.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if not self.upstream.trusted:
            raise StoreUnavailableError("the store is away")
        return await self._side().batcher.read(keys, groups)

    async def write(
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
        answers = await self._guarded(self.upstream.write_commands(values, keep_for, late))
        return self.upstream.written(answers, values, keep_for, late)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values without blocking the server (UNLINK)."""
        if not keys or self.upstream.breaker.open:
            return False
        answers = await self._guarded([("UNLINK", *keys)])
        return answers is not None and not isinstance(answers[0], Exception)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group in one round trip; owe what was not confirmed."""
        if self.upstream.breaker.open:
            self.upstream.owe(groups)
            return [None] * len(groups)
        unpaid: Iterable[str] = groups
        tokens: list[bytes] = []

        def commands(history: bytes) -> list[Command]:
            # Drawn when it is sent: no attempt ever uses another one's value.
            tokens.extend(fresh_token(history) for _ in groups)
            return [*self.upstream.token_commands(groups, tokens), *self._confirmation()]

        try:
            answers = await self._guarded(commands)
            unpaid = self.upstream.unconfirmed(groups, answers)
        finally:
            # Cancelled or failed in whatever way: what is not known to be written is owed.
            if unpaid:
                self.upstream.owe(unpaid)
        owed = frozenset(unpaid)
        return [None if group in owed else token for group, token in zip_longest(groups, tokens)]

    def _confirmation(self) -> list[Command]:
        """Return the command that confirms a purge on a replica too, where that is asked for.

        A primary that was deposed confirms what is lost with it; a replica that has it does not
        lose it.
        """
        if self._settings.on_lost_purge == "serve" or not self.upstream.has_replicas:
            return []
        return [("WAIT", 1, int(self._settings.cache_write_budget * 1000))]

    async def _guarded(self, commands: Any) -> list[Any] | None:
        """Run commands within the write budget; None when the server did not answer."""
        try:
            async with budget(self.upstream.patience(self._settings.cache_write_budget)):
                answers = await self._commands(commands)
        except (RedisError, OSError, TimeoutError) as error:
            self.upstream.failed(error)
            return None
        self.upstream.succeeded()
        return answers

    async def _fetch(
        self, keys: list[bytes], groups: list[str]
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        """Ask the server once for the whole batch."""
        try:
            async with budget(self.upstream.patience(self._settings.cache_read_budget)):
                answer = await self._fetch_unguarded(keys, groups)
        except (RedisError, OSError, TimeoutError) as error:
            self.upstream.failed(error)
            raise StoreUnavailableError(self.upstream.describe(error)) from None
        if not self.upstream.trusted:
            # A purge came to be owed while the answer was under way.
            raise StoreUnavailableError("a purge is owed")
        self.upstream.succeeded()
        return answer

    async def _fetch_unguarded(
        self, keys: list[bytes], groups: list[str]
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        connection = await self._connection()
        pool = self._side().pool
        try:
            token_keys = [token_key(self._namespace, group) for group in groups]
            asked = [*keys, *token_keys]
            answer = strings(await _ask(connection, "MGET", *asked), len(asked))
            values, tokens = answer[: len(keys)], answer[len(keys) :]
            history = connection_history(connection)
            if not all(belongs(token, history) for token in tokens):
                tokens = await self._create(connection, token_keys, tokens, history)
            return values, tokens  # noqa: TRY300 - `finally` follows
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _create(
        self,
        connection: AbstractConnection,
        keys: list[bytes],
        tokens: list[bytes | None],
        history: bytes,
    ) -> list[bytes | None]:
        """Create what is missing and return all tokens; None where that was refused."""
        lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
        commands = self.upstream.creation_commands([(keys[i], tokens[i]) for i in lacking], history)
        created = (await _ask_all(connection, commands))[-1]
        result = list(tokens)
        for i, token in zip(lacking, _created(created, len(lacking)), strict=True):
            result[i] = token if belongs(token, history) else None
        return result

    async def _commands(self, commands: Any) -> list[Any]:
        """Send commands in one round trip; an error answer stands in its place in the list."""
        connection = await self._connection()
        pool = self._side().pool
        try:
            if callable(commands):
                commands = commands(connection_history(connection))
            answers = await _ask_all(connection, commands)
            if any(isinstance(answer, SERVER_IS_ELSEWHERE) for answer in answers):
                await connection.disconnect(nowait=True)
            return answers  # noqa: TRY300 - `finally` follows
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _connection(self) -> AbstractConnection:
        """Return a connection to the server of the history that was met last."""
        pool = self._side().pool
        connection: AbstractConnection = await pool.get_connection()
        if connection_history(connection) != self.upstream.history:
            # It was made before another server took over.
            await connection.disconnect(nowait=True)
            try:
                await connection.connect()
            except BaseException:
                await pool.release(connection)
                raise
        return connection

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Read the history of the server on each new connection, before anything else."""
        await connection.on_connect()
        try:
            info = await _ask(connection, "INFO", "replication")
            history = told_history(info)
            self.upstream.has_replicas = has_replicas(info)
        except NoPermissionError:
            history = HIDDEN_HISTORY
        except SERVER_IS_ELSEWHERE:
            raise
        except ResponseError:
            history = HIDDEN_HISTORY
        if not self.upstream.meet(connection, history):
            raise RedisConnectionError("another server history: the namespace is purged first")

    def _side(self) -> _LoopSide:
        loop = asyncio.get_running_loop()
        side = self._sides.get(loop)
        if side is None:
            side = self._sides[loop] = _LoopSide(self._new_pool(), LookupBatcher(self._fetch))
        return side

    def _new_pool(self) -> BlockingConnectionPool:
        budget = max(self._settings.cache_read_budget, self._settings.cache_write_budget)
        return BlockingConnectionPool.from_url(
            self.upstream.url,
            max_connections=self._settings.cache_connections,
            timeout=budget,
            # The budgets bound whole operations; a second timer for each read would only cost.
            socket_timeout=None,
            socket_connect_timeout=budget,
            # A resent purge would carry its old value: every attempt must draw its own.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            redis_connect_func=self._on_connect,
        )


def _created(answer: object, count: int) -> list[bytes | None]:
    """Return the tokens read after their creation; none of them where that was refused."""
    return [None] * count if isinstance(answer, ResponseError) else strings(answer, count)


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True)


async def _ask_all(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    packed = connection.pack_commands(commands)
    await connection.send_packed_command(packed, check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            answers.append(error)
    return answers
