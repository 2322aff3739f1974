"""redis-py connections whose DNS lookup is bounded by the connect timeout.

Neither `socket.getaddrinfo` nor an event loop's version of it can be interrupted. So `run_blocking`
looks the name up first, within the connect timeout. redis-py looks it up again, and is called only
after the first lookup succeeded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py leaves part of its own signatures without types.

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio.connection as awaitable
import redis.connection as blocking
from redis.backoff import NoBackoff
from redis.retry import Retry

from maxage.redis_options import connection_options
from maxage.redis_store.servers.blocking_calls import run_blocking, start_blocking

LONGEST_LOOKUP: Final = 1.0
"""Seconds for a DNS lookup where no connect timeout is set."""


class BlockingConnection(blocking.Connection):
    """A blocking connection whose DNS lookup is bounded.

    Args:
        patience: returns the seconds for each step of connecting, TLS and authentication included;
            by default the timeouts of the options hold.
        options: redis-py's.
    """

    def __init__(self, *, patience: Callable[[], float] | None = None, **options: Any) -> None:
        self._patience = patience
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py leaves it untyped

    def _connect(self) -> Any:
        answer_timeout = self.socket_timeout
        if self._patience is not None:
            # Of the socket too, until the connection is made.
            self.socket_timeout = self.socket_connect_timeout = self._patience()
        try:
            if not _is_ip_address(self.host):
                lookup = start_blocking(socket.getaddrinfo, self.host, self.port)
                lookup.result(self.socket_connect_timeout or LONGEST_LOOKUP)
            return super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        finally:
            self.socket_timeout = answer_timeout

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect, unless it is connected; from then on the timeout is that of answers."""
        if self._sock is None:
            super().connect_check_health(check_health, retry_socket_connect)
            made: Any = self._sock
            if self._patience is not None:
                made.settimeout(self.socket_timeout)


class BlockingTlsConnection(BlockingConnection, blocking.SSLConnection):
    """The same with TLS."""

    def can_read(self, timeout: float = 0) -> bool:
        """Return whether there is an unexpected answer.

        redis-py only asks whether bytes arrived, which is true of the session tickets of TLS 1.3:
        it would give such a connection up.
        """
        if not super().can_read(timeout):
            return False
        parser: Any = self._parser
        if parser._reader.has_data():  # noqa: SLF001 - redis-py has no public name for it
            return True
        return bool(parser.read_from_socket(timeout=0, raise_on_timeout=False))


class AwaitableConnection(awaitable.Connection):
    """An event loop's connection whose DNS lookup is bounded."""

    async def _connect(self) -> None:
        if not _is_ip_address(self.host):
            async with asyncio.timeout(self.socket_connect_timeout or LONGEST_LOOKUP):
                await run_blocking(socket.getaddrinfo, self.host, self.port)
        await super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped


class AwaitableTlsConnection(AwaitableConnection, awaitable.SSLConnection):
    """The same with TLS."""


_BOUNDED: Final[dict[object, type]] = {
    blocking.Connection: BlockingConnection,
    blocking.SSLConnection: BlockingTlsConnection,
    awaitable.Connection: AwaitableConnection,
    awaitable.SSLConnection: AwaitableTlsConnection,
}


def never_resending(timeout: float) -> dict[str, Any]:
    """Return redis-py's options for blocking connections that never resend a command.

    Args:
        timeout: seconds for connecting, and for each answer.
    """
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "protocol": 2,
        "driver_info": None,
    }


def url_options(url: str, *, in_loop: bool) -> dict[str, Any]:
    """Return redis-py's options for connections to the server of a URL.

    Args:
        url: as redis-py spells it, with checked options.
        in_loop: whether an event loop awaits the connections.
    """
    address = url.partition("?")[0].partition("#")[0]
    named: dict[str, Any] = dict((awaitable if in_loop else blocking).parse_url(address))
    options = connection_options(url)
    # As in redis-py, the option `db` comes before the path, but user and password before options.
    return options | named | {name: options[name] for name in ("db",) if name in options}


def with_bounded_lookup(options: dict[str, Any], *, in_loop: bool) -> dict[str, Any]:
    """Return redis-py's connection options with a class whose DNS lookup is bounded.

    Args:
        options: as `url_options` returns them.
        in_loop: whether an event loop awaits the connections.
    """
    usual = awaitable.Connection if in_loop else blocking.Connection
    named = options.get("connection_class", usual)
    return options | {"connection_class": _BOUNDED.get(named, named)}


def _is_ip_address(host: object) -> bool:
    """Return whether the host needs no DNS lookup."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True
