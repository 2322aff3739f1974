"""One Redis server as this process knows it: its breaker, its history, and how to reach it.

Both halves of the library and every event loop share one `Node` for each server, so that a server
that hangs costs the process its three failures once.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry

from maxage.store.commands import Command
from maxage.store.guard import Breaker
from maxage.store.tokens import HIDDEN_HISTORY, has_replicas, history_of
from maxage.url import mask_password, redis_py_url

SERVER_IS_ELSEWHERE: Final = (ReadOnlyError, BusyLoadingError, AuthenticationError, MovedError)
"""Answers after which a connection is given up, so that the next one reads the history again."""

_HISTORY_ATTRIBUTE: Final = "_maxage_history"
_WAIT_SHARE: Final = 0.8
"""The part of a budget for which a replica is waited for."""
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

    def __init__(self, url: str, owner: Owner) -> None:
        self.url: Final = url
        """As redis-py spells it."""
        self.breaker: Final = Breaker()
        self.has_replicas = False
        """Whether replicas were connected to the server when it was asked last."""
        self._owner = owner
        self._history: bytes | None = None
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
        if isinstance(info, SERVER_IS_ELSEWHERE):
            raise info
        history = HIDDEN_HISTORY if isinstance(info, redis.ResponseError) else _told_history(info)
        if isinstance(info, bytes):
            self.has_replicas = has_replicas(info)
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
            _note_history(connection, history)
            return True
        _note_history(connection, b"")
        self._owner.rotate()
        return False

    def changed(self, history: bytes) -> bool:
        """Note a history; return whether it is another one than that which was met last."""
        known, self._history = self._history, history
        lost, self._lost_connection = self._lost_connection, False
        if history == HIDDEN_HISTORY:
            return lost
        return known is not None and known != history

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

        After a failure only a little, until it answers again: the several attempts of one request
        together are to cost its budget, not each of them.
        """
        return seconds * _PATIENCE_LEFT if self.breaker.suspicious else seconds

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
        if isinstance(info, SERVER_IS_ELSEWHERE):
            raise info
        if isinstance(info, redis.ResponseError):
            return self._history == HIDDEN_HISTORY
        history = _told_history(info)
        if isinstance(info, bytes):
            self.has_replicas = has_replicas(info)
        return history == self._history

    def client(
        self, timeout: float, *, on_connect: Callable[[Any], None] | None = None
    ) -> "redis.Redis":
        """Return a new synchronous client; see `sync_client`."""
        return sync_client(self.url, timeout=timeout, on_connect=on_connect)


def describe(error: BaseException) -> str:
    """Return the error in one line, without passwords."""
    return mask_password(f"{type(error).__name__}: {error}".splitlines()[0][:200])


def sync_client(
    url: str, *, timeout: float, on_connect: Callable[[Any], None] | None = None
) -> "redis.Redis":
    """Return a synchronous client that never resends, and that gives up after `timeout` seconds."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        protocol=2,
        driver_info=None,
        redis_connect_func=on_connect,
    )


def read_history(client: "redis.Redis") -> bytes:
    """Return the history of the server behind the client."""
    try:
        info: Any = client.execute_command("INFO", "replication", NEVER_DECODE=True)
    except redis.ResponseError:
        return HIDDEN_HISTORY
    if isinstance(info, dict):
        return history_of(b"master_replid:" + str(info.get("master_replid", "")).encode())
    return history_of(info if isinstance(info, bytes) else str(info).encode())


def _told_history(info: object) -> bytes:
    """Return the history that the answer to INFO replication names.

    Raises:
        InvalidResponse: it is no answer to that.
    """
    if not isinstance(info, bytes):
        raise InvalidResponse("the answer is not that to INFO")
    return history_of(info)


def _note_history(connection: object, history: bytes) -> None:
    """Note on a connection of redis-py which server history it leads to."""
    setattr(connection, _HISTORY_ATTRIBUTE, history)


def connection_history(connection: object) -> bytes:
    """Return what `_note_history` noted; empty before the connection was made."""
    history: bytes = getattr(connection, _HISTORY_ATTRIBUTE, b"")
    return history


def ping_server(url: str, timeout: float) -> bool:
    """Return whether the server answers a PING on a new connection within `timeout` seconds."""
    client = sync_client(redis_py_url(url), timeout=timeout)
    try:
        return bool(client.ping())
    except (RedisError, OSError, ValueError):
        return False
    finally:
        client.close()
