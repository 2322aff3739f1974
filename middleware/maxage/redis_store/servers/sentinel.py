"""Sentinel: each new connection asks the sentinels for the primary.

One blocking function asks them. An event loop runs it in a thread, which is rare: only new
connections ask.
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
    LONGEST_LOOKUP,
    AwaitableConnection,
    AwaitableTlsConnection,
    BlockingConnection,
    BlockingTlsConnection,
    never_resending,
    url_options,
    with_bounded_lookup,
)
from maxage.redis_url import ServerGroup

_LEAST_WAIT: Final = 0.01
"""Seconds that each sentinel gets at least, however many there are."""


@final
class Sentinels:
    """The sentinels that watch one primary; safe to use from several threads."""

    def __init__(self, group: ServerGroup) -> None:
        self._group: Final = group
        self.placeholder_url: Final = group.server_url("primary.invalid", 6379)
        """A URL with the options of the primary; dialling replaces its host."""
        self._hosts = group.hosts

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
                # From now on the sentinel that answered is asked first.
                self._hosts = (*self._hosts[number:], *self._hosts[:number])
                return address
        raise RedisConnectionError("no sentinel names a primary")

    def _ask(self, host: str, port: int, timeout: float) -> tuple[str, int] | None:
        address = url_options(self._group.sentinel_url(host, port), in_loop=False)
        options = never_resending(timeout) | with_bounded_lookup(address, in_loop=False)
        pool = blocking.ConnectionPool(**options)
        try:
            connection = pool.get_connection()
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._group.primary_name)
            answer: Any = connection.read_response(disable_decoding=True)
            return (answer[0].decode(), int(answer[1])) if answer else None
        except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError):
            # An invalid reply included: the next sentinel is asked.
            return None
        finally:
            pool.disconnect()


class _BlockingToPrimary(BlockingConnection):
    """A blocking connection to the server that is the primary when it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    def _connect(self) -> Any:
        timeout = self.socket_connect_timeout or LONGEST_LOOKUP
        self.host, self.port = self._sentinels.primary(timeout)
        return super()._connect()


class _BlockingTlsToPrimary(_BlockingToPrimary, BlockingTlsConnection):
    pass


class _AwaitableToPrimary(AwaitableConnection):
    """An event loop's connection to the server that is the primary when it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    async def _connect(self) -> None:
        timeout = self.socket_connect_timeout or LONGEST_LOOKUP
        self.host, self.port = await run_blocking(self._sentinels.primary, timeout)
        await super()._connect()


class _AwaitableTlsToPrimary(_AwaitableToPrimary, AwaitableTlsConnection):
    pass


def following(sentinels: Sentinels, options: dict[str, Any], *, in_loop: bool) -> dict[str, Any]:
    """Return redis-py's connection options with a class whose connections lead to the primary."""
    named = options.get("connection_class")
    tls = isinstance(named, type) and issubclass(
        named, (blocking.SSLConnection, awaitable.SSLConnection)
    )
    classes: dict[tuple[bool, bool], type] = {
        (False, False): _BlockingToPrimary,
        (False, True): _BlockingTlsToPrimary,
        (True, False): _AwaitableToPrimary,
        (True, True): _AwaitableTlsToPrimary,
    }
    return options | {"connection_class": classes[in_loop, tls], "sentinels": sentinels}
