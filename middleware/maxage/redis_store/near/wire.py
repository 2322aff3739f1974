"""The bytes of a listening connection."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# hiredis leaves part of its own signatures without types.

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

import hiredis
from redis.exceptions import InvalidResponse, RedisError

_INCOMPLETE: Final = object()


@final
class Wire(asyncio.Protocol):
    """The bytes of the connection, once it listens."""

    def __init__(
        self,
        hear: Callable[[bytes, Any], None],
        answered: Callable[[Any], None],
        begun: "asyncio.Future[None]",
        lost: "asyncio.Future[None]",
    ) -> None:
        # By default it says False when no message is complete, which RESP3 knows as a message too.
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._hear = hear
        self._answered = answered
        self._begun = begun
        self._gone = lost
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        """Work off every message that is complete."""
        try:
            self._reader.feed(data)
            while (message := self._reader.gets()) is not _INCOMPLETE:
                self._one(message)
        except (hiredis.HiredisError, RedisError, TypeError, ValueError) as error:
            self._end(error)

    def _one(self, message: Any) -> None:
        if isinstance(message, hiredis.ReplyError):
            raise message
        if isinstance(message, hiredis.PushNotification):
            kind, keys = message
            self._hear(kind, keys)
        elif self._begun.done():
            self._answered(message)
        else:
            self._greet(message)

    def _greet(self, message: Any) -> None:
        """Take the answers to HELLO, which is a map, and to CLIENT TRACKING."""
        if self._greeted and message == b"OK":
            self._begun.set_result(None)
        elif self._greeted or not isinstance(message, dict):
            command = "CLIENT TRACKING" if self._greeted else "HELLO"
            raise InvalidResponse(f"the answer is not that to {command}")
        self._greeted = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        cause = ConnectionError(f"the connection was lost ({error})")
        if not self._begun.done():
            self._begun.set_exception(cause)
        elif not self._gone.done():
            self._gone.set_exception(cause)
