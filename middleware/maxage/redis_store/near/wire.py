"""The protocol of a listening connection: reads its messages."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# hiredis leaves part of its own signatures without types.

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, final

import hiredis
from redis.exceptions import InvalidResponse, RedisError

_INCOMPLETE: Final = object()


@final
class Wire(asyncio.Protocol):
    """Reads the messages of a listening connection.

    Args:
        heard: is called with the kind and the keys of each pushed message.
        answered: is called with each answer to a PING.
        begun: is resolved when the server sends messages.
        lost: fails when the connection is lost.
    """

    def __init__(
        self,
        heard: Callable[[bytes, Iterable[bytes] | None], None],
        answered: Callable[[bytes | None], None],
        begun: "asyncio.Future[None]",
        lost: "asyncio.Future[None]",
    ) -> None:
        # By default hiredis returns False for an incomplete message, but RESP3 has a False too.
        self._reader: Final = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._heard: Final = heard
        self._answered: Final = answered
        self._begun: Final = begun
        self._lost: Final = lost
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        """Handle every complete message."""
        try:
            self._reader.feed(data)
            while (message := self._reader.gets()) is not _INCOMPLETE:
                self._handle(message)
        except (hiredis.HiredisError, RedisError, TypeError, ValueError) as error:
            self._end(error)

    def _handle(self, message: Any) -> None:
        if isinstance(message, hiredis.ReplyError):
            raise message
        if isinstance(message, hiredis.PushNotification):
            kind, keys = message
            self._heard(kind, keys)
        elif self._begun.done():
            self._answered(message)
        else:
            self._greet(message)

    def _greet(self, message: Any) -> None:
        """Check the answers to HELLO, which is a map, and to CLIENT TRACKING."""
        if self._greeted and message == b"OK":
            self._begun.set_result(None)
        elif self._greeted or not isinstance(message, dict):
            command = "CLIENT TRACKING" if self._greeted else "HELLO"
            raise InvalidResponse(f"the answer is not that to {command}")
        self._greeted = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the future that stands for the connection."""
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        cause = ConnectionError(f"the connection was lost ({error})")
        if not self._begun.done():
            self._begun.set_exception(cause)
        elif not self._lost.done():
            self._lost.set_exception(cause)
            # If listening was refused, this is not awaited; asyncio would log it as unhandled.
            self._lost.exception()
