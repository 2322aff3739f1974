"""The connections of one event loop to one server, within their budgets.

redis-py binds connections to the loop that made them, so that each loop has connections of its
own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.settings import CacheSettings
from maxage.store.commands import UNREPLICATED, Command, Found, Plan, creation_commands, strings
from maxage.store.guard import budget
from maxage.store.node import SERVER_IS_ELSEWHERE, Node, connection_history, describe
from maxage.store.tokens import belongs

FAILURES = (RedisError, OSError, TimeoutError)
"""What redis-py and the budget raise when a server does not answer as it should."""


class Connections(Protocol):
    """What a store asks of its connections, to one server or to many."""

    async def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        ...

    async def ping(self) -> bool:
        """Ask the servers themselves, within the read budget."""
        ...

    async def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Found:
        """Read values and tokens; missing tokens are created."""
        ...

    async def run(
        self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False
    ) -> Sequence[Any]:
        """Send one command for each key, within the write budget."""
        ...


@final
class NodeConnections:
    """Asks one server, and counts its answers and failures."""

    def __init__(self, node: Node, settings: CacheSettings) -> None:
        self._node = node
        self._settings = settings
        self._pool = self._new_pool()

    async def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        await self._pool.disconnect()

    def new_connection(self) -> AbstractConnection:
        """Return a connection, not made yet, that is not one of the pool's and is never shared."""
        made: AbstractConnection = self._pool.connection_class(**self._pool.connection_kwargs)
        return made

    async def ping(self) -> bool:
        """Ask the server itself, within the read budget, an open breaker notwithstanding."""
        try:
            async with budget(self._settings.cache_read_budget):
                return await self._exchange(_ping) in ([b"PONG"], ["PONG"])
        except FAILURES:
            return False

    async def fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Found:
        """Read values and tokens in one round trip; missing tokens are created in a second one.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        node = self._node
        if node.breaker.open:
            raise StoreUnavailableError("the store is away")
        try:
            async with budget(node.patience(self._settings.cache_read_budget)):
                found = await self._fetch(keys, token_keys)
        except FAILURES as error:
            node.failed(error)
            raise StoreUnavailableError(describe(error)) from None
        node.succeeded()
        return found

    async def run(
        self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False
    ) -> Sequence[Any]:
        """Send one command for each key in one round trip, within the write budget.

        Args:
            keys: what the commands are about.
            plan: gives the command for each position.
            replicated: whether to wait until a replica has it too, where there are any. A primary
                that was deposed confirms what is lost with it; a replica that has it does not
                lose it.

        Returns:
            The answers, errors included; None where the server did not answer or not confirm.
        """

        def commands(history: bytes) -> list[Command]:
            return [plan(position, history) for position in range(len(keys))]

        seconds = self._settings.cache_write_budget
        answers = await self.exchange(commands, within=seconds, replicated=replicated)
        if answers is None:
            return [None] * len(keys)
        self._node.succeeded()
        if len(answers) > len(keys) and answers[-1] in UNREPLICATED:
            return [None] * len(keys)
        return answers[: len(keys)]

    async def exchange(
        self,
        commands: Callable[[bytes], list[Command]],
        *,
        within: float,
        replicated: bool = False,
    ) -> list[Any] | None:
        """Send commands, given the server's history, in one round trip.

        Args:
            commands: gives what to send.
            within: seconds that it may take.
            replicated: whether to add a WAIT, where there are replicas.

        Returns:
            The answers, errors included; None when the server is away, which is counted.
        """
        node = self._node
        if node.breaker.open:
            return None

        def all_commands(history: bytes) -> list[Command]:
            return [*commands(history), *node.confirmation(within if replicated else None)]

        try:
            async with budget(node.patience(within)):
                return await self._exchange(all_commands)
        except FAILURES as error:
            node.failed(error)
            return None

    async def _fetch(self, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Found:
        connection = await self._connection()
        try:
            asked = [*keys, *token_keys]
            answer = strings(await _ask(connection, "MGET", *asked), len(asked))
            values, tokens = answer[: len(keys)], answer[len(keys) :]
            history = connection_history(connection)
            if not all(belongs(token, history) for token in tokens):
                tokens = await _create(connection, token_keys, tokens, history)
            return values, tokens  # noqa: TRY300 - `finally` follows
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def _exchange(self, commands: Callable[[bytes], list[Command]]) -> list[Any]:
        """Send commands in one round trip; an error answer stands in its place in the list."""
        connection = await self._connection()
        try:
            answers = await _ask_all(connection, commands(connection_history(connection)))
            if any(isinstance(answer, SERVER_IS_ELSEWHERE) for answer in answers):
                await connection.disconnect(nowait=True)
            return answers  # noqa: TRY300 - `finally` follows
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def _connection(self) -> AbstractConnection:
        """Return a connection to the server of the history that was met last."""
        connection: AbstractConnection = await self._pool.get_connection()
        if connection_history(connection) != self._node.history:
            # It was made before another server took over.
            await connection.disconnect(nowait=True)
            try:
                await connection.connect()
            except BaseException:
                await self._pool.release(connection)
                raise
        return connection

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Read the history of the server on each new connection, before anything else."""
        await connection.on_connect()
        (info,) = await _ask_all(connection, [("INFO", "replication")])
        if not self._node.meet(connection, info):
            raise RedisConnectionError("another server history: the namespace is purged first")

    def _new_pool(self) -> BlockingConnectionPool:
        budget = max(self._settings.cache_read_budget, self._settings.cache_write_budget)
        options: dict[str, Any] = {
            # The budgets bound whole operations; a second timer for each read would only cost.
            "socket_timeout": None,
            "socket_connect_timeout": budget,
            # A resent purge would carry its old value: every attempt must draw its own.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
            "redis_connect_func": self._on_connect,
            "max_connections": self._settings.cache_connections,
            "timeout": budget,
        }
        return BlockingConnectionPool(**options | self._node.options(in_loop=True))


def _ping(_: bytes) -> list[Command]:
    return [("PING",)]


async def _create(
    connection: AbstractConnection,
    keys: Sequence[bytes],
    tokens: list[bytes | None],
    history: bytes,
) -> list[bytes | None]:
    """Create what is missing and return all tokens; None where that was refused."""
    lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
    commands = creation_commands([(keys[i], tokens[i]) for i in lacking], history)
    created = (await _ask_all(connection, commands))[-1]
    result = list(tokens)
    for i, token in zip(lacking, _created(created, len(lacking)), strict=True):
        result[i] = token if belongs(token, history) else None
    return result


def _created(answer: object, count: int) -> list[bytes | None]:
    """Return the tokens read after their creation; none of them where that was refused."""
    return [None] * count if isinstance(answer, ResponseError) else strings(answer, count)


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await _send(connection, connection.pack_command(*command))
    return await connection.read_response(disable_decoding=True)


async def _ask_all(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    await _send(connection, connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            answers.append(error)
    return answers


async def _send(connection: AbstractConnection, packed: Any) -> None:
    try:
        await connection.send_packed_command(packed, check_health=False)
    except RuntimeError as error:
        # uvloop's way to say that the transport is closed, which redis-py lets through.
        raise RedisConnectionError(str(error)) from error
