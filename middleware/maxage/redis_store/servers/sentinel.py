"""Sentinel: who is the primary now, asked anew for each connection.

The question is put by the same plain function for both halves, for an event loop aside: it is asked
only when a connection is made.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from time import monotonic
from typing import Any, Final, final

import redis.asyncio.connection as awaitable
import redis.connection as blocking
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from maxage.redis_store.servers.blocking_calls import run_blocking
from maxage.redis_store.servers.dns import (
    LONGEST_WAIT,
    Awaitable,
    AwaitableTls,
    Blocking,
    BlockingTls,
    by_name,
    never_resending,
)
from maxage.redis_url import ServerGroup

_LEAST_WAIT: Final = 0.01
"""Seconds that a sentinel is given at least, however many there are."""


@final
class Sentinels:
    """The sentinels that watch one primary; safe to use from several threads."""

    def __init__(self, group: ServerGroup) -> None:
        self._group: Final = group
        self._hosts = group.hosts

    @property
    def placeholder_url(self) -> str:
        """A URL with the options of the primary; its host is replaced when it is dialled."""
        return self._group.server_url("primary.invalid", 6379)

    def primary(self, timeout: float) -> tuple[str, int]:
        """Return host and port of the primary, as the first sentinel that answers names it.

        Raises:
            RedisConnectionError: none of them answered within `timeout` seconds.
        """
        ends = monotonic() + timeout
        for number, (host, port) in enumerate(self._hosts):
            left = len(self._hosts) - number
            patience = max((ends - monotonic()) / left, _LEAST_WAIT)
            address = self._ask(host, port, patience)
            if address is not None:
                # The one that answers is asked first from now on.
                self._hosts = (*self._hosts[number:], *self._hosts[:number])
                return address
        raise RedisConnectionError("no sentinel names a primary")

    def _ask(self, host: str, port: int, timeout: float) -> tuple[str, int] | None:
        address = dict(blocking.parse_url(self._group.sentinel_url(host, port)))
        options = never_resending(timeout) | by_name(address, in_loop=False)
        pool = blocking.ConnectionPool(**options)
        try:
            connection = pool.get_connection()
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._group.primary_name)
            answer: Any = connection.read_response(disable_decoding=True)
            return (answer[0].decode(), int(answer[1])) if answer else None
        except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError):
            # Garbage too: the next one is asked.
            return None
        finally:
            pool.disconnect()


class _Blocking(Blocking):
    """A connection that leads to whoever is the primary when it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py leaves it untyped

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.primary(self.socket_connect_timeout or LONGEST_WAIT)
        return super()._connect()


class _BlockingTls(_Blocking, BlockingTls):
    pass


class _Awaitable(Awaitable):
    """The awaitable twin."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    async def _connect(self) -> None:
        timeout = self.socket_connect_timeout or LONGEST_WAIT
        self.host, self.port = await run_blocking(self._sentinels.primary, timeout)
        await super()._connect()


class _AwaitableTls(_Awaitable, AwaitableTls):
    pass


def following(sentinels: Sentinels, options: dict[str, Any], *, in_loop: bool) -> dict[str, Any]:
    """Return the connection options of redis-py such that they lead to the primary."""
    known = options.get("connection_class")
    tls = isinstance(known, type) and issubclass(
        known, (blocking.SSLConnection, awaitable.SSLConnection)
    )
    kinds: dict[tuple[bool, bool], type] = {
        (False, False): _Blocking,
        (False, True): _BlockingTls,
        (True, False): _Awaitable,
        (True, True): _AwaitableTls,
    }
    return options | {"connection_class": kinds[in_loop, tls], "sentinels": sentinels}
