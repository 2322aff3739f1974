"""Connections of redis-py to a host by its name: a resolver that hangs costs no more than a server.

Neither `socket.getaddrinfo` nor an event loop's twin of it can be bounded. So the name is looked up
first by `run_blocking`, within the time for connecting. redis-py looks it up again, and is called
only when that succeeded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py leaves part of its own signatures without types.

import asyncio
import ipaddress
import socket
from typing import Any, Final

import redis.asyncio.connection as awaitable
import redis.connection as blocking
from redis.backoff import NoBackoff
from redis.retry import Retry

from maxage.redis_store.servers.blocking_calls import run_blocking, start_blocking

LONGEST_WAIT: Final = 1.0
"""Seconds for looking up a name where nothing bounds connecting."""


class Blocking(blocking.Connection):
    """A connection for plain functions."""

    def _connect(self) -> Any:
        if not _is_address(self.host):
            lookup = start_blocking(socket.getaddrinfo, self.host, self.port)
            lookup.result(self.socket_connect_timeout or LONGEST_WAIT)
        return super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped


class BlockingTls(Blocking, blocking.SSLConnection):
    """The same with TLS."""


class Awaitable(awaitable.Connection):
    """A connection for an event loop."""

    async def _connect(self) -> None:
        if not _is_address(self.host):
            async with asyncio.timeout(self.socket_connect_timeout or LONGEST_WAIT):
                await run_blocking(socket.getaddrinfo, self.host, self.port)
        await super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped


class AwaitableTls(Awaitable, awaitable.SSLConnection):
    """The same with TLS."""


_KINDS: Final[dict[object, type]] = {
    blocking.Connection: Blocking,
    blocking.SSLConnection: BlockingTls,
    awaitable.Connection: Awaitable,
    awaitable.SSLConnection: AwaitableTls,
}


def never_resending(timeout: float) -> dict[str, Any]:
    """Return redis-py's options for connections of plain functions that are asked once.

    Args:
        timeout: seconds that connecting, and each answer, may take.
    """
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "protocol": 2,
        "driver_info": None,
    }


def by_name(options: dict[str, Any], *, in_loop: bool) -> dict[str, Any]:
    """Return the connection options of redis-py such that names are looked up within the time.

    Args:
        options: as its `parse_url` returns them.
        in_loop: whether the connections are awaited.
    """
    usual = awaitable.Connection if in_loop else blocking.Connection
    kind = options.get("connection_class", usual)
    return options | {"connection_class": _KINDS.get(kind, kind)}


def _is_address(host: object) -> bool:
    """Return whether nobody has to be asked: the host is named by its number."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True
