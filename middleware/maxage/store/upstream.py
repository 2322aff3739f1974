"""One Redis server as this process knows it: breaker, journal, history, and the way back.

The asynchronous and the synchronous half of the library share one `Upstream`, so that a server
that hangs costs the process its three failures once, and a purge that one half could not make
stops the other half from trusting what it reads.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final, final

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

from maxage.store.guard import Breaker
from maxage.store.journal import Journal
from maxage.store.tokens import (
    HIDDEN_HISTORY,
    NAMESPACE_GROUP,
    TOKEN_SECONDS,
    fresh_token,
    history_of,
    token_key,
)
from maxage.url import mask_password, redis_py_url

Command = tuple[Any, ...]

SERVER_IS_ELSEWHERE: Final = (ReadOnlyError, BusyLoadingError, AuthenticationError, MovedError)
"""Answers after which a connection is given up, so that the next one reads the history again."""

_HISTORY_ATTRIBUTE: Final = "_maxage_history"
_UNREPLICATED: Final = (0, None)
"""What WAIT answers when no replica has it yet."""
_CONFIRMED: Final = (b"OK", "OK", True)
_PATIENCE_LEFT: Final = 0.04
"""The part of a budget that is left for an attempt which follows a failed one."""
_TOKEN_ENDS: Final = 10_000
"""Groups of which it is remembered until when their token lives."""

logger = logging.getLogger("maxage")

PROBE_INTERVAL: Final = 0.2
"""Seconds between two looks at a server that was away."""
PROBE_TIMEOUT: Final = 0.4
"""Seconds that one look may take."""


@final
class Upstream:
    """What the process knows about one server and one namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url: Final = redis_py_url(url)
        self.namespace: Final = namespace
        self.breaker: Final = Breaker()
        self.journal: Final = Journal()
        self.has_replicas = False
        """Whether replicas were connected to the server when the newest connection was made."""
        self._history: bytes | None = None
        self._lost_connection = False
        self._token_ends: dict[str, float] = {}
        self._lock = threading.Lock()
        self._recovery: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = threading.Event()

    @property
    def trusted(self) -> bool:
        """Whether hits may be served: the server answers and no purge is owed to it."""
        return not self.breaker.open and self.journal.empty

    @property
    def history(self) -> bytes | None:
        """The server history of the newest connection; None before the first one."""
        return self._history

    def meet(self, connection: object, history: bytes) -> bool:
        """Note the history of a new connection; return whether it may be used.

        A history other than the last one means that another server or an older snapshot took over:
        our last purges may have gone to the one that is no more. So the namespace is purged before
        anything is trusted again. Where the server hides its history, every connection after a
        lost one counts as another server.
        """
        if connection_history(connection):
            # redis-py has replaced by itself what the server had closed: nobody saw a failure.
            self._lost_connection = True
        if not self._changed(history):
            note_history(connection, history)
            return True
        note_history(connection, b"")
        self.owe([NAMESPACE_GROUP])
        return False

    def _changed(self, history: bytes) -> bool:
        known, self._history = self._history, history
        lost, self._lost_connection = self._lost_connection, False
        if history == HIDDEN_HISTORY:
            return lost
        return known is not None and known != history

    # the commands, the same for both halves

    def creation_commands(
        self, lacking: Sequence[tuple[bytes, bytes | None]], history: bytes
    ) -> list[Command]:
        """Return commands which create tokens, given their keys and what lies there now.

        The last one reads them all.
        """
        commands: list[Command] = []
        for key, present in lacking:
            # Another worker may have created it meanwhile, hence NX; a token of another history is
            # overwritten: a new unique value is a purge, which is always safe.
            only_if_missing = ("NX",) if present is None else ()
            commands.append(
                ("SET", key, fresh_token(history), "EX", TOKEN_SECONDS, *only_if_missing)
            )
        return [*commands, ("MGET", *(key for key, _ in lacking))]

    def token_commands(self, groups: Iterable[str], tokens: Iterable[bytes]) -> list[Command]:
        """Return commands which write these tokens."""
        return [
            ("SET", token_key(self.namespace, group), token, "EX", TOKEN_SECONDS)
            for group, token in zip(groups, tokens, strict=True)
        ]

    def unconfirmed(self, groups: Sequence[str], answers: Sequence[Any] | None) -> list[str]:
        """Return the groups whose new token was not confirmed."""
        for group in groups:
            self._token_ends.pop(group, None)
        if answers is None or (len(answers) > len(groups) and answers[-1] in _UNREPLICATED):
            return list(groups)
        confirmed = answers[: len(groups)]
        return [g for g, said in zip(groups, confirmed, strict=True) if said not in _CONFIRMED]

    def write_commands(
        self, values: Sequence[tuple[bytes, bytes]], keep_for: float, late: Iterable[str]
    ) -> list[Command]:
        """Return commands which keep the values, and extend the tokens of `late` groups."""
        milliseconds, seconds = int(keep_for * 1000), _token_seconds(keep_for)
        return [
            *(("SET", key, value, "PX", milliseconds) for key, value in values),
            *(("EXPIRE", token_key(self.namespace, group), seconds) for group in late),
        ]

    def written(
        self,
        answers: Sequence[Any] | None,
        values: Sequence[tuple[bytes, bytes]],
        keep_for: float,
        late: Iterable[str],
    ) -> bool:
        """Return whether all values were kept."""
        if answers is None or any(said not in _CONFIRMED for said in answers[: len(values)]):
            return False
        if len(self._token_ends) >= _TOKEN_ENDS:
            self._token_ends.clear()
        self._token_ends.update(dict.fromkeys(late, monotonic() + _token_seconds(keep_for)))
        return True

    def ending_before(self, groups: Iterable[str], keep_for: float) -> list[str]:
        """Return the groups whose token may end before a value that is kept for so long.

        A token is extended only then, since every extension is a message to whoever listens.
        """
        ends = monotonic() + keep_for
        return [group for group in groups if self._token_ends.get(group, 0.0) < ends]

    def owe(self, groups: Iterable[str]) -> None:
        """Put purges that are not confirmed into the journal and begin to make up for them."""
        if self.journal.empty:
            logger.warning(
                "A purge could not be confirmed: nothing is served from Redis until it is."
            )
        self.journal.add(groups)
        self.recover()

    def failed(self, error: BaseException) -> None:
        """Count a failure of the server; the third in a row opens the breaker."""
        self._lost_connection = True
        was_open = self.breaker.open
        if self.breaker.failed():
            if not was_open:
                logger.warning(
                    "The cache is bypassed: Redis does not answer (%s).", self.describe(error)
                )
            self.recover()

    def patience(self, seconds: float) -> float:
        """Return how long to wait for the server, where `seconds` is the budget.

        After a failure only a little, until it answers again: the several attempts of one request
        together are to cost its budget, not each of them.
        """
        return seconds * _PATIENCE_LEFT if self.breaker.suspicious else seconds

    def succeeded(self) -> None:
        """Count an answer of the server."""
        self.breaker.succeeded()

    def describe(self, error: BaseException) -> str:
        """Return the error in one line, without passwords."""
        return mask_password(f"{type(error).__name__}: {error}".splitlines()[0][:200])

    def recover(self) -> None:
        """Start the background probe unless it runs."""
        with self._lock:
            if self._pid != os.getpid():
                # A forked worker inherits the object, not the thread.
                self._pid, self._recovery = os.getpid(), None
            if self._recovery is None and not self._closing.is_set():
                self._recovery = threading.Thread(
                    target=self._probe, name="maxage-recovery", daemon=True
                )
                self._recovery.start()

    def close(self) -> None:
        """Stop the background probe; `reopen` allows it again."""
        self._closing.set()
        recovery = self._recovery
        if recovery is not None and recovery is not threading.current_thread():
            recovery.join(PROBE_TIMEOUT * 2)

    def reopen(self) -> None:
        """Allow the background probe after `close`."""
        self._closing.clear()
        if not self.trusted:
            self.recover()

    def _probe(self) -> None:
        while not self._closing.is_set():
            if self._recovered():
                with self._lock:
                    # Under the lock, so that a purge owed just now finds either this thread going
                    # on or none at all.
                    if self.trusted or self._closing.is_set():
                        self._recovery = None
                        return
            self._closing.wait(PROBE_INTERVAL)
        with self._lock:
            self._recovery = None

    def _recovered(self) -> bool:
        """Ask the server once, pay what is owed, and close the breaker."""
        try:
            connection = sync_client(self.url, timeout=PROBE_TIMEOUT)
            try:
                self._pay(connection)
            finally:
                connection.close()
        except Exception as error:  # noqa: BLE001 - garbage makes redis-py raise anything
            # The thread must outlive it, or nothing would ever close the breaker.
            logger.debug("Redis is still away: %s", self.describe(error))
            return False
        if self.breaker.open:
            self.breaker.close()
            logger.warning("The cache is in use again: Redis answers.")
        return True

    def _pay(self, client: "redis.Redis") -> None:
        history = read_history(client)
        if self._changed(history):
            self.journal.add([NAMESPACE_GROUP])
        # PING first: with nothing owed it is what shows that the server answers.
        client.ping()
        groups, mark = self.journal.owed()
        if not groups:
            return
        pipeline = client.pipeline(transaction=False)
        for group in groups:
            # A fresh value at every attempt: a delayed write of an earlier one must never bring
            # back a token under which something was stored.
            pipeline.set(token_key(self.namespace, group), fresh_token(history), ex=TOKEN_SECONDS)
        pipeline.execute()
        self.journal.settle(groups, mark)


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


_upstreams: dict[tuple[str, str], Upstream] = {}
_upstreams_lock = threading.Lock()


def upstream_for(url: str, namespace: str) -> Upstream:
    """Return the one `Upstream` of this process for a server and a namespace."""
    with _upstreams_lock:
        return _upstreams.setdefault((url, namespace), Upstream(url, namespace))


def strings(answer: object, count: int) -> list[bytes | None]:
    """Return the answer to an MGET of `count` keys.

    Raises:
        InvalidResponse: it is none: whoever answers there is not to be believed.
    """
    if isinstance(answer, list) and len(answer) == count:
        checked = [value for value in answer if value is None or isinstance(value, bytes)]
        if len(checked) == count:
            return checked
    raise InvalidResponse("the answer is not that to the command")


def told_history(info: object) -> bytes:
    """Return the history that the answer to INFO replication names.

    Raises:
        InvalidResponse: it is no answer to that.
    """
    if not isinstance(info, bytes):
        raise InvalidResponse("the answer is not that to INFO")
    return history_of(info)


def _token_seconds(keep_for: float) -> int:
    return int(max(keep_for, TOKEN_SECONDS)) + 60


def note_history(connection: object, history: bytes) -> None:
    """Note on a connection of redis-py which server history it leads to."""
    setattr(connection, _HISTORY_ATTRIBUTE, history)


def connection_history(connection: object) -> bytes:
    """Return what `note_history` noted; empty before the connection was made."""
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
