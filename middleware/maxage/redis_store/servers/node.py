"""One Redis server as this process knows it: its breaker, its history, and how to reach it.

Both halves of the library and every event loop share one `Node` for each server, so that a server
that hangs costs the process its three failures once.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, final

import redis
import redis.asyncio.connection as awaitable
import redis.connection as blocking
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    ReadOnlyError,
)

from maxage.redis_store.servers.circuit_breaker import CircuitBreaker
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.dns import by_name, never_resending
from maxage.redis_store.servers.sentinel import Sentinels, following
from maxage.redis_url import mask_password
from maxage.store.tokens import HIDDEN_HISTORY, has_replicas, history_of

SERVER_IS_ELSEWHERE: Final = (ReadOnlyError, BusyLoadingError, AuthenticationError, MovedError)
"""Answers after which a connection is given up, so that the next one reads the history again."""

UNMET: Final = b"?"
"""The history of a server that took over from another one: whatever it tells is a change."""

_HISTORY_ATTRIBUTE: Final = "_maxage_history"
_WAIT_SHARE: Final = 0.8
"""The part of a budget for which a replica is waited for."""
_PATIENCE: Final = 0.92
"""The part of a budget for an attempt, the first of a request as a rule."""
_PATIENCE_LEFT: Final = 0.04
"""The part of a budget that is left for an attempt which follows a failed one."""

logger = logging.getLogger("maxage")


class Owner(Protocol):
    """Who is told what happens to a server."""

    def rotate(self) -> None:
        """Another server history was met: everything has to be purged before it is trusted."""
        ...

    def recover(self) -> None:
        """The server is away: find the way back."""
        ...


@final
class Node:
    """What the process knows about one server."""

    def __init__(
        self,
        url: str,
        owner: Owner,
        *,
        sentinels: Sentinels | None = None,
        is_in_cluster: bool = False,
        history: bytes | None = None,
    ) -> None:
        """Note a server.

        Args:
            url: where it is, as redis-py spells it.
            owner: who is told what happens to it.
            sentinels: who says where it really is.
            is_in_cluster: whether it is one of several that share the keys.
            history: the last history known; any other one counts as another server.
        """
        self._url: Final = url
        self._sentinels: Final = sentinels
        self.is_in_cluster: Final = is_in_cluster
        self.breaker: Final = CircuitBreaker()
        self.has_replicas = False
        """Whether replicas were connected to the server when it was asked last."""
        self._owner = owner
        self._history = history
        self._lost_connection = False
        self._told_hidden = False

    @property
    def history(self) -> bytes | None:
        """The server history of the newest connection; None before the first one."""
        return self._history

    def meet(self, connection: object, info: object) -> bool:
        """Note the history of a new connection; return whether it may be used.

        A history other than the last one means that another server or an older snapshot took over:
        our last purges may have gone to the one that is no more. So the namespace is purged before
        anything is trusted again. Where the server hides its history, every connection after a
        lost one counts as another server.

        Args:
            connection: one of redis-py's.
            info: the answer to INFO replication, an error included.

        Raises:
            InvalidResponse: it is no answer to that.
        """
        history = self.history_in(info)
        if history == HIDDEN_HISTORY and not self._told_hidden:
            self._told_hidden = True
            logger.warning(
                "Redis does not tell its history (INFO is forbidden): the cache is emptied "
                "whenever a connection was lost, and a failover that loses none is not noticed."
            )
        if connection_history(connection):
            # redis-py has replaced by itself what the server had closed: nobody saw a failure.
            self._lost_connection = True
        if not self.changed(history):
            note_history(connection, history)
            return True
        note_history(connection, b"")
        self._owner.rotate()
        return False

    def history_in(self, info: object) -> bytes:
        """Return the history that an answer to INFO replication, or an error, tells.

        Raises:
            RedisError: the server is none that takes writes, or what answers is no server.
        """
        if isinstance(info, SERVER_IS_ELSEWHERE):
            raise info
        if isinstance(info, redis.ResponseError):
            return HIDDEN_HISTORY
        if not isinstance(info, bytes) or b"role:" not in info:
            raise InvalidResponse("the answer is not that to INFO")
        if self._sentinels is not None and b"\nrole:slave" in info:
            # The sentinel that named it does not know yet.
            raise ReadOnlyError("the server is a replica now")
        # Where a replica takes over by itself, one that is away is no reason to confirm without it:
        # it may be us whom the others have left behind.
        is_replaceable = self._sentinels is not None or self.is_in_cluster
        self.has_replicas = has_replicas(info) or (is_replaceable and self.has_replicas)
        return history_of(info)

    def changed(self, history: bytes) -> bool:
        """Note a history; return whether it is another one than that which was met last."""
        known, self._history = self._history, history
        lost, self._lost_connection = self._lost_connection, False
        if history == HIDDEN_HISTORY:
            return lost or known == UNMET
        return known is not None and known != history

    def replaced(self) -> None:
        """Note that another server took over: connections to the old one are not used again."""
        self._history = UNMET

    def failed(self, error: BaseException) -> None:
        """Count a failure of the server; the third in a row opens the breaker."""
        self._lost_connection = True
        was_open = self.breaker.open
        if self.breaker.failed():
            if not was_open:
                logger.warning(
                    "The cache is bypassed: Redis does not answer (%s).", describe(error)
                )
            self._owner.recover()

    def succeeded(self) -> None:
        """Count an answer of the server."""
        self.breaker.succeeded()

    def patience(self, seconds: float) -> float:
        """Return how long to wait for the server, where `seconds` is the budget.

        After a failure only a little, until it answers again: the attempts of one request, such as
        the purges before and after its answer, are to cost its budget together, not each of them.
        """
        return seconds * (_PATIENCE_LEFT if self.breaker.suspicious else _PATIENCE)

    def confirmation(self, seconds: float | None) -> list[Command]:
        """Return the command which waits until a replica has the purge too, where there are any.

        Args:
            seconds: how long it may wait; None: it need not.
        """
        if seconds is None or not self.has_replicas:
            return []
        # Its answer, that no replica has it, comes within the budget: that is no failure of the
        # server.
        return [("WAIT", 1, int(seconds * _WAIT_SHARE * 1000))]

    def is_still(self, info: object) -> bool:
        """Return whether this answer to INFO replication is from the server that was met last.

        A server can become another one without closing a connection: demoted, or promoted.
        """
        return self.history_in(info) == self._history

    def options(self, *, in_loop: bool) -> dict[str, Any]:
        """Return how redis-py connects to it.

        Args:
            in_loop: whether the connections are awaited.
        """
        parse: Callable[[str], Any] = awaitable.parse_url if in_loop else blocking.parse_url
        options: dict[str, Any] = dict(parse(self._url))
        if self._sentinels is None:
            return by_name(options, in_loop=in_loop)
        return following(self._sentinels, options, in_loop=in_loop)

    def pool(
        self, timeout: float, *, on_connect: Callable[[Any], None] | None = None
    ) -> redis.ConnectionPool:
        """Return a pool of synchronous connections; they never resend, and give up after that."""
        options: dict[str, Any] = {**never_resending(timeout), "redis_connect_func": on_connect}
        return redis.ConnectionPool(**options | self.options(in_loop=False))

    def ask(self, commands: Sequence[Command], timeout: float) -> list[Any]:
        """Send commands over a new connection; see `send`. It counts as no use of the server.

        Args:
            commands: what to send.
            timeout: seconds that connecting, and each answer, may take.

        Raises:
            RedisError, OSError: the server did not answer; garbage makes redis-py raise others.
        """
        pool = self.pool(timeout)
        try:
            return send(pool.get_connection(), commands)
        finally:
            pool.disconnect()


def describe(error: BaseException) -> str:
    """Return the error in one line, without passwords."""
    return mask_password(f"{type(error).__name__}: {error}".splitlines()[0][:200])


def send(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one round trip; an error answer stands in its place in the list.

    Args:
        connection: a synchronous one of redis-py's, connected.
        commands: what to send.

    Raises:
        RedisError, OSError: the server did not answer.
    """
    connection.send_packed_command(connection.pack_commands(commands))
    return [_answer(connection) for _ in commands]


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except redis.ResponseError as error:
        return error


def note_history(connection: object, history: bytes) -> None:
    """Note on a connection of redis-py which server history it leads to."""
    setattr(connection, _HISTORY_ATTRIBUTE, history)


def connection_history(connection: object) -> bytes:
    """Return what `note_history` noted; empty before the connection was made."""
    history: bytes = getattr(connection, _HISTORY_ATTRIBUTE, b"")
    return history
