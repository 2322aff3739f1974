"""The connections of one event loop to one server, within their budgets.

redis-py binds connections to the loop that made them, so that each loop has connections of its
own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

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
from maxage.redis_store.servers.dialer import Dialer
from maxage.redis_store.servers.node import Node, describe
from maxage.redis_store.servers.pipeline import FAILURES
from maxage.settings import CacheSettings
from maxage.store.tokens import belongs


class Connections(Protocol):
    """What a store asks of its connections, to one server or to many."""

    async def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        ...

    async def ping(self) -> bool:
        """Ask the servers themselves, within the read budget."""
        ...

    async def fetch(
        self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
    ) -> Fetched:
        """Read values and tokens; missing tokens are created, for as long as `begin` says."""
        ...

    async def run(
        self, keys: Sequence[bytes], plan: Plan, *, replicated: bool = False
    ) -> Sequence[Any]:
        """Send one command for each key, within the write budget."""
        ...

    def connector_to(self, node: Node) -> Callable[[], AbstractConnection]:
        """Return what makes connections to one of the servers, each of its own, never shared."""
        ...


@final
class NodeConnections:
    """Asks one server, and counts its answers and failures."""

    def __init__(self, node: Node, settings: CacheSettings) -> None:
        self._node = node
        self._settings = settings
        self._maker = self._new_maker()
        seconds = max(settings.cache_read_budget, settings.cache_write_budget)
        self._dialer = Dialer(node, self._new_connection, seconds=seconds)
        # WAIT holds back whatever is asked after it.
        self._waiting_dialer = Dialer(node, self._new_connection, seconds=seconds)

    async def close(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        await self._dialer.close()
        await self._waiting_dialer.close()

    def connector_to(self, node: Node) -> Callable[[], AbstractConnection]:
        """Return what makes connections to the server, the only one that there is."""
        del node
        return self._new_connection

    def _new_connection(self) -> AbstractConnection:
        """Return a connection, not made yet, that reads the server's history when it is."""
        made: AbstractConnection = self._maker.connection_class(**self._maker.connection_kwargs)
        return made

    async def ping(self) -> bool:
        """Ask the server itself, within the read budget, an open breaker notwithstanding."""
        answers = await self._answers(
            self._dialer, lambda _: [("PING",)], self._settings.cache_read_budget
        )
        return answers in ([b"PONG"], ["PONG"])

    async def fetch(
        self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
    ) -> Fetched:
        """Read values and tokens in one round trip; missing tokens are created in a second one.

        Args:
            keys: of the values.
            token_keys: of the tokens.
            begin: is told of each token that is created.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        node = self._node
        if node.breaker.open:
            raise StoreUnavailableError("the store is away")
        try:
            found = await self._fetch(keys, token_keys, begin)
        except FAILURES as error:
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
        if answers is not None:
            self._node.succeeded()
        return answers_of(answers, len(keys))

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
        confirmation = node.confirmation(within if replicated else None)
        if not confirmation:
            return await self._answers(self._dialer, commands, node.patience(within))
        return await self._answers(
            self._waiting_dialer,
            lambda history: [*commands(history), *confirmation],
            node.patience(within),
        )

    async def _answers(
        self, dialer: Dialer, commands: Callable[[bytes], list[Command]], within: float
    ) -> list[Any] | None:
        due = asyncio.get_running_loop().time() + within
        try:
            pipelined = dialer.pipelined or await dialer.made(due)
            return await pipelined.ask(commands(pipelined.history), due=due, within=within)
        except FAILURES:
            return None

    async def _fetch(
        self, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
    ) -> Fetched:
        within = self._node.patience(self._settings.cache_read_budget)
        due = asyncio.get_running_loop().time() + within
        pipelined = self._dialer.pipelined or await self._dialer.made(due)
        asked = [*keys, *token_keys]
        (answer,) = await pipelined.ask([("MGET", *asked)], due=due, within=within)
        try:
            found = strings(answer, len(asked))
            values, tokens = found[: len(keys)], found[len(keys) :]
            if not all(belongs(token, pipelined.history) for token in tokens):
                lacking = [i for i, t in enumerate(tokens) if not belongs(t, pipelined.history)]
                commands = creation_commands(
                    [(token_keys[i], tokens[i]) for i in lacking], pipelined.history, begin
                )
                created = await pipelined.ask(commands, due=due, within=within)
                _put_created(tokens, lacking, created[-1], pipelined.history)
        except (ResponseError, InvalidResponse) as error:
            # Whoever answers like that is not to be asked on.
            self._node.failed(error)
            pipelined.retire()
            raise
        return values, tokens

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Read the history of the server on each new connection, before anything else."""
        await connection.on_connect()
        await connection.send_command("INFO", "replication", check_health=False)
        try:
            info = await connection.read_response(disable_decoding=True)
        except ResponseError as error:
            info = error
        if not self._node.meet(connection, info):
            raise RedisConnectionError("another server history: the namespace is purged first")

    def _new_maker(self) -> ConnectionPool:
        """Return what knows how to connect; nothing is ever pooled in it."""
        options: dict[str, Any] = {
            # The budgets bound whole operations; a second timer for each read would only cost.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            # A resent purge would carry its old value: every attempt must draw its own.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
            "redis_connect_func": self._on_connect,
        }
        return ConnectionPool(**options | self._node.options(in_loop=True))


def _put_created(
    tokens: list[bytes | None], lacking: Sequence[int], answer: object, history: bytes
) -> None:
    """Put the created tokens in their places; None where that was refused."""
    refused = isinstance(answer, ResponseError)
    created = [None] * len(lacking) if refused else strings(answer, len(lacking))
    for i, token in zip(lacking, created, strict=True):
        tokens[i] = token if belongs(token, history) else None
