"""One Redis server as this process knows it: its circuit breaker, its history, and how to reach it.

The asynchronous store, the synchronous store and all event loops share one `Node` for each server,
so a hanging server costs the process three failures in all.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, final
from urllib.parse import urlsplit

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from maxage.clock import monotonic_clock
from maxage.observe.counters import PROCESS
from maxage.redis_options import RedisCredentials
from maxage.redis_store.servers.circuit_breaker import PROBE_INTERVAL, CircuitBreaker
from maxage.redis_store.servers.commands import CONFIRMED, Command
from maxage.redis_store.servers.dns import (
    BlockingConnection,
    never_resending,
    url_options,
    with_bounded_lookup,
)
from maxage.redis_store.servers.passwords import with_credentials
from maxage.redis_store.servers.sentinel import Sentinels, following
from maxage.redis_url import mask_password
from maxage.store.tokens import HIDDEN_HISTORY, has_replicas, history_of

SERVER_IS_ELSEWHERE: Final = (ReadOnlyError, BusyLoadingError, AuthenticationError, MovedError)
"""Answers after which a connection is closed, so that the next one reads the history again."""

INFO: Final[Command] = ("INFO", "replication")
NO_INFO: Final = redis.ResponseError("the server ends connections that send INFO")
"""Stands for the answer to INFO of such a server."""

UNMET: Final = b"?"
"""The history of a server that took over: any history that it tells is a change."""

_HISTORY_ATTRIBUTE: Final = "_maxage_history"
_WAIT_SHARE: Final = 0.8
"""The part of a budget for which a purge waits for a replica."""
_PATIENCE: Final = 0.92
"""The part of a budget for one attempt, usually the first of a request."""
_TELL_AGAIN: Final = 60.0
"""Seconds without a refused write after which the log is told of the next one."""
_PATIENCE_LEFT: Final = 0.04
"""The part of a budget for an attempt that follows a failed one."""

logger = logging.getLogger("maxage")


class Owner(Protocol):
    """Is told what happens to a server."""

    def rotate(self) -> None:
        """Another server history was met: purge everything before a hit is trusted."""
        ...

    def recover(self) -> None:
        """The server failed: start the background probe."""
        ...


@final
class Node:
    """What the process knows about one server."""

    def __init__(
        self,
        url: str,
        owner: Owner,
        *,
        credentials: RedisCredentials | None = None,
        sentinels: Sentinels | None = None,
        is_in_cluster: bool = False,
        history: bytes | None = None,
    ) -> None:
        """Note a server.

        Args:
            url: its address, as redis-py spells it.
            owner: is told what happens to it.
            credentials: returns the password for each connection, in place of the URL's.
            sentinels: say which server it is now.
            is_in_cluster: whether it is one of several masters that share the keys.
            history: the last known history; any other one counts as another server.
        """
        self._url: Final = url
        self._credentials: Final = credentials
        self._sentinels: Final = sentinels
        self.is_in_cluster: Final = is_in_cluster
        self.breaker: Final = CircuitBreaker()
        self.has_replicas = False
        """Whether the last INFO told of replicas."""
        self._owner = owner
        self.history = history
        """The server history of the newest connection; None before the first one."""
        self.refused = False
        """Whether the last failure was an answer: it refused, or did not know, a command."""
        self.reason = ""
        """The kind of error for which it is not used, or takes no purge; empty: none."""
        self.refusal = ""
        """The kind of error by which it refused the last write; empty: it took it."""
        self._refusal_told_at = float("-inf")
        self._told: Final[set[str]] = set()
        """The reasons of this outage that the log was told."""
        self._lost_connection = False
        self._warned_hidden = False
        self.closes_on_info = False
        """Whether it ends each connection that sends INFO, as some proxies do."""
        self._lacks_wait = False

    @property
    def is_untried(self) -> bool:
        """Whether no connection to it was made, and none failed."""
        return self.history is None and not self.breaker.suspicious

    @property
    def address(self) -> str:
        """Its host and port, or the path of its socket; with sentinels, theirs."""
        parts = urlsplit(self._url)
        return parts.netloc.rpartition("@")[2] or parts.path

    def confirmation(self, seconds: float) -> Command | None:
        """Return the WAIT for a replica's copy of a purge; None where no replicas are known.

        Args:
            seconds: the budget. "No replica has it" is answered within it, and is no failure.
        """
        if not self.has_replicas or self._lacks_wait:
            return None
        return ("WAIT", 1, int(seconds * _WAIT_SHARE * 1000))

    def patience(self, seconds: float) -> float:
        """Return how many seconds to wait for the server, given the budget in seconds.

        After a failure it is a small part, until the server answers again: all attempts of one
        request, such as the purges before and after its answer, cost its budget only once.
        """
        return seconds * (_PATIENCE_LEFT if self.breaker.suspicious else _PATIENCE)

    def meet(self, connection: object, info: object) -> bool:
        """Note the history of a new connection; return whether it may be used.

        Another history than the last one means that another server, or an older snapshot, took
        over. Our last purges may be lost with the former one, so the namespace is purged before a
        hit is trusted again. Where the server hides its history, each connection after a lost one
        counts as another server.

        Args:
            connection: a connection of redis-py.
            info: the answer to INFO replication, an error included.

        Raises:
            InvalidResponse: this is no answer to INFO.
        """
        history = self.history_in(info)
        if history == HIDDEN_HISTORY and not self._warned_hidden:
            self._warned_hidden = True
            logger.warning(
                "Redis hides its replication ID (INFO replication does not tell it): the cache is "
                "emptied after each lost connection, and a failover without one goes unnoticed. "
                "Allow INFO, and connect to the server rather than to a proxy."
            )
        if connection_history(connection):
            # redis-py reconnected by itself after the server had closed the connection.
            self._lost_connection = True
        if not self.changed(history):
            note_history(connection, history)
            return True
        note_history(connection, b"")
        self._owner.rotate()
        return False

    def history_in(self, info: object) -> bytes:
        """Return the history in an answer to INFO replication, which may be an error.

        Raises:
            RedisError: the server takes no writes, or is no Redis server.
        """
        if isinstance(info, SERVER_IS_ELSEWHERE):
            raise info
        if isinstance(info, redis.ResponseError):
            return HIDDEN_HISTORY
        if not isinstance(info, bytes) or not _is_info(info):
            raise InvalidResponse("the answer is not that to INFO")
        if self._sentinels is not None and b"\nrole:slave" in info:
            # The sentinel that named it does not know yet that it was demoted.
            raise ReadOnlyError("the server is a replica now")
        # Where a replica can take over, a missing replica is no reason to confirm a purge without
        # it: this server may be the one that is cut off.
        is_replaceable = self._sentinels is not None or self.is_in_cluster
        self.has_replicas = has_replicas(info) or (is_replaceable and self.has_replicas)
        return history_of(info)

    def learn_without_info(self, timeout: float) -> bool:
        """Find out whether it ends connections that send INFO, though it answers a PING.

        Only a server that never answered INFO can be such a one.

        Args:
            timeout: seconds for connecting, and for each answer.

        Raises:
            RedisError, OSError: it does not answer a PING either.
        """
        if self.history is not None or self.closes_on_info:
            return False
        self.send([("PING",)], timeout)
        try:
            self.send([INFO], timeout)
        except redis.TimeoutError:
            return False
        except redis.ConnectionError:
            self.closes_on_info = True
        return self.closes_on_info

    def exchange(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        """Send commands on a blocking connection, but for an INFO that would end it; see `send`."""
        if not self.closes_on_info:
            return send(connection, commands)
        answers = iter(send(connection, [each for each in commands if each != INFO]))
        return [NO_INFO if each == INFO else next(answers) for each in commands]

    def changed(self, history: bytes) -> bool:
        """Note a history; return whether the last one was another."""
        known, self.history = self.history, history
        lost, self._lost_connection = self._lost_connection, False
        if history == HIDDEN_HISTORY:
            return lost or known == UNMET
        return known is not None and known != history

    def replaced(self) -> None:
        """Note that another server took over: connections to the former one are not used again."""
        self.history = UNMET

    def failed(self, error: BaseException) -> None:
        """Count a failure of the server; the third in a row opens the breaker."""
        self._lost_connection = True
        self.refused = isinstance(error, redis.ResponseError)
        PROCESS.budget_overruns += isinstance(error, TimeoutError | redis.TimeoutError)
        if self.breaker.failed():
            self.tell(error)
            self._owner.recover()

    def tell(self, error: BaseException) -> None:
        """Tell the log why requests do not use it; once for each reason until `works`."""
        if self.note(error):
            logger.warning(
                "Redis unavailable (%s): serving uncached; retrying every %s s.",
                describe(error),
                PROBE_INTERVAL,
            )

    def note(self, error: BaseException) -> bool:
        """Note why it is not used, or takes no purge; return whether that is new."""
        self.reason = _kind(error)
        is_new = self.reason not in self._told
        self._told.add(self.reason)
        return is_new

    def written(self, answers: Sequence[Any]) -> None:
        """Note from answers to writes whether it takes them, and tell the log where it does not.

        Reads are answered all the same: hits go on, end one by one, and no failure is counted.
        """
        refused = next((one for one in answers if _is_refused(one)), None)
        if refused is None:
            if self.refusal and any(one in CONFIRMED for one in answers):
                self.refusal = ""
            return
        self.refusal = _kind(refused)
        now = monotonic_clock()
        if now - self._refusal_told_at > _TELL_AGAIN:
            logger.warning(
                "Redis refuses to store responses (%s): hits come from what is stored already.",
                describe(refused),
            )
        self._refusal_told_at = now

    def works(self) -> None:
        """Note that the background probe found nothing wrong."""
        self.reason = ""
        self._told.clear()

    def succeeded(self) -> None:
        """Count an answer of the server."""
        self.breaker.succeeded()

    def refuses_wait(self, answer: object) -> bool:
        """Return whether the server has no WAIT at all; it is not asked again, and a line says so.

        A WAIT that its user may not call can be allowed, and confirms nothing until then.
        """
        if not (isinstance(answer, redis.ResponseError) and "unknown command" in str(answer)):
            return False
        if not self._lacks_wait:
            self._lacks_wait = True
            logger.warning(
                "Redis has no WAIT: a purge is confirmed by the primary alone, and one that the "
                "primary loses in a split brain is lost. Use a server that has WAIT."
            )
        return True

    def is_still(self, info: object) -> bool:
        """Return whether this answer to INFO replication comes from the server that was met last.

        A server that is demoted or promoted becomes another one without closing a connection.
        """
        return self.history_in(info) == self.history

    def options(self, *, in_loop: bool) -> dict[str, Any]:
        """Return redis-py's options for connections to the server.

        Args:
            in_loop: whether an event loop awaits the connections.
        """
        options = with_credentials(url_options(self._url, in_loop=in_loop), self._credentials)
        if self._sentinels is None:
            return with_bounded_lookup(options, in_loop=in_loop)
        return following(self._sentinels, options, in_loop=in_loop)

    def pool(
        self,
        timeout: float,
        *,
        connect_timeout: float | None = None,
        on_connect: Callable[[Any], None] | None = None,
    ) -> redis.ConnectionPool:
        """Return a pool of blocking connections that never resend.

        Args:
            timeout: seconds for each answer.
            connect_timeout: seconds for each step of connecting; by default the same. After a
                failure it is `timeout`, until the server answers again.
            on_connect: is called with each new connection.
        """
        options: dict[str, Any] = {**never_resending(timeout), "redis_connect_func": on_connect}
        options |= self.options(in_loop=False)
        if connect_timeout is not None:
            options |= self.connecting(options, timeout, connect_timeout)
        return redis.ConnectionPool(**options)

    def connecting(
        self, options: dict[str, Any], timeout: float, connect_timeout: float
    ) -> dict[str, Any]:
        """Return the option of blocking connections that bounds connecting; see `pool`."""
        if not issubclass(options.get("connection_class", BlockingConnection), BlockingConnection):
            return {}
        longest = max(timeout, connect_timeout)
        return {"patience": lambda: timeout if self.breaker.suspicious else longest}

    def send(
        self, commands: Sequence[Command], timeout: float, *, ping_within: float | None = None
    ) -> list[Any]:
        """Send commands over a new connection; neither answers nor failures are counted.

        Args:
            commands: what is sent; an error stands in the place of its answer.
            timeout: seconds that connecting, and each answer, may take.
            ping_within: seconds within which a PING has to be answered first.

        Raises:
            RedisError, OSError: the server did not answer. An invalid reply makes redis-py raise
                any exception.
        """
        pool = self.pool(timeout)
        try:
            connection = pool.get_connection()
            if ping_within is not None:
                _ping(connection, ping_within)
            return self.exchange(connection, commands)
        finally:
            pool.disconnect()


def _ping(connection: Any, seconds: float) -> None:
    # A proxy beside us may reach the server only with the first command.
    connection.send_command("PING", check_health=False)
    connection.read_response()
    connection.send_command("PING", check_health=False)
    # The system measures it, also while other threads keep this one from running.
    if not connection.can_read(seconds):
        raise redis.TimeoutError("it answers, but not within CACHE_READ_BUDGET")
    connection.read_response()


def _is_info(answer: bytes) -> bool:
    """Return whether an answer has the form of INFO's; some servers leave fields out, or all."""
    lines = (line for line in answer.splitlines() if line.strip())
    return all(line.startswith(b"#") or b":" in line for line in lines)


def _is_refused(answer: object) -> bool:
    """Return whether an answer says that the server takes no writes, or not from this user."""
    if isinstance(answer, NoPermissionError):
        # A right for lists or lifetimes may lack: responses are stored without it.
        return "'set'" in str(answer)
    if isinstance(answer, OutOfMemoryError | ReadOnlyError):
        return True
    return isinstance(answer, redis.ResponseError) and _kind(answer) in {"MISCONF", "NOREPLICAS"}


def _kind(error: BaseException) -> str:
    """Return the class of an error, or its first word where the class says nothing: MISCONF."""
    name, word = type(error).__name__, str(error).partition(" ")[0]
    return word if name == "ResponseError" and word.isupper() else name


def describe(error: BaseException) -> str:
    """Return the error in one line, without passwords."""
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    # An error such as asyncio's TimeoutError has no words.
    return mask_password(said[:200]).removesuffix(": ")


def send(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one round trip on a blocking connection of redis-py; return the answers.

    An error stands in its place.

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
    """Note the server history of a redis-py connection on it."""
    setattr(connection, _HISTORY_ATTRIBUTE, history)


def connection_history(connection: object) -> bytes:
    """Return the history that `note_history` noted; empty before the connection was made."""
    history: bytes = getattr(connection, _HISTORY_ATTRIBUTE, b"")
    return history
