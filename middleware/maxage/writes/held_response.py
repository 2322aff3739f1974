"""An answer that is held until its write is committed and purged."""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final, final

from maxage.asgi.service import Service
from maxage.asgi.types import Message, Send
from maxage.cache.cache import Cache
from maxage.writes.refusal import NOT_PURGED, TOO_LONG, refuse


class _State(Enum):
    HELD = auto()
    PASSED_ON = auto()
    """Too long to be held: it leaves as it comes."""
    TOO_LONG = auto()
    """Too long to be held, and dropped: it may have to be refused."""
    ABORTED = auto()
    """The application call failed: nothing is sent."""


@final
class HeldResponse:
    """The messages of one answer; bounded in bytes, by itself and together with all others.

    Args:
        service: of the middleware.
        cache: bounds the bytes.
        send: to the client.
        refuses: whether 503 replaces an answer whose purge is not confirmed.
    """

    def __init__(self, service: Service, cache: Cache, send: Send, *, refuses: bool) -> None:
        self._service: Final = service
        self._cache: Final = cache
        self._send: Final = send
        self._refuses: Final = refuses
        self._state = _State.HELD
        self._messages: list[Message] = []
        self._size = 0

    async def send(self, message: Message, purge: Callable[[], Awaitable[bool]]) -> None:
        """Hold the message; if the answer is too long to be held, `purge`, and send it."""
        if self._state is _State.PASSED_ON:
            await self._send(message)
        elif self._state is _State.HELD and not self._hold(message):
            messages = [*self._release(), message]
            self._state = _State.TOO_LONG if self._refuses else _State.PASSED_ON
            if self._state is _State.PASSED_ON:
                await purge()
                for one in messages:
                    await self._send(one)

    async def finish(self, purged_again: Awaitable[bool]) -> None:
        """Send the answer when its last purge is confirmed, or 503 if it is not."""
        try:
            confirmed = await purged_again
        finally:
            messages = self._release()
        if self._state is _State.TOO_LONG:
            await self._refuse(TOO_LONG)
        elif self._state is _State.HELD and self._refuses and not confirmed:
            await self._refuse(NOT_PURGED)
        elif self._state is _State.HELD:
            for message in messages:
                await self._send(message)

    def abort(self, *, cancelled: bool) -> None:
        """End an application call that failed; nothing more is sent."""
        del cancelled
        self._state = _State.ABORTED

    def _hold(self, message: Message) -> bool:
        cache, size = self._cache, len(message.get("body", b""))
        longest = cache.settings.cache_max_body_bytes
        if self._size + size > longest or not cache.pending_writes.take(size):
            return False
        self._messages.append(message)
        self._size += size
        return True

    def _release(self) -> list[Message]:
        self._cache.pending_writes.give_back(self._size)
        messages, self._messages, self._size = self._messages, [], 0
        return messages

    async def _refuse(self, reason: bytes) -> None:
        await refuse(self._service, self._send, reason, now=self._cache.clock())
