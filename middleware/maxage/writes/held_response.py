"""An answer that is held until its write is committed and purged."""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final, final

from maxage.asgi.body_copy import BodyCopy
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
        purge: begins the purge before an answer that is too long to be held.
        refuses: whether 503 replaces an answer whose purge is not confirmed.
    """

    def __init__(
        self,
        service: Service,
        cache: Cache,
        send: Send,
        purge: Callable[[], Awaitable[bool]],
        *,
        refuses: bool,
    ) -> None:
        self._service: Final = service
        self._cache: Final = cache
        self._send: Final = send
        self._purge: Final = purge
        self._refuses: Final = refuses
        self._state = _State.HELD
        self._messages: list[Message] = []
        self._body: Final = BodyCopy(cache)
        """Counts the bytes that are held."""

    def begin(self) -> None:
        """Begin no purge: an answer that is held is purged once, at its end."""

    async def send(self, message: Message) -> None:
        """Hold a message, or send it behind those that were too long to be held."""
        if self._state is _State.PASSED_ON:
            await self._send(message)
        elif self._state is _State.HELD:
            self._messages.append(message)
            if not self._body.add(message):
                await self._overflow()

    async def finish(self, purged_again: Awaitable[bool]) -> None:
        """Send the answer when its last purge is confirmed, or 503 if it is not."""
        try:
            confirmed = await purged_again
        finally:
            self._body.drop()
        if self._state is _State.TOO_LONG:
            await self._refuse(TOO_LONG)
        elif self._state is _State.HELD and self._refuses and not confirmed:
            await self._refuse(NOT_PURGED)
        elif self._state is _State.HELD:
            await self._send_all()

    def abort(self, *, cancelled: bool) -> None:
        """End an application call that failed; nothing more is sent."""
        del cancelled
        self._state = _State.ABORTED

    async def _overflow(self) -> None:
        if self._refuses:
            self._state = _State.TOO_LONG
            self._messages.clear()
        else:
            self._state = _State.PASSED_ON
            await self._purge()
            await self._send_all()

    async def _send_all(self) -> None:
        messages, self._messages = self._messages, []
        for message in messages:
            await self._send(message)

    async def _refuse(self, reason: bytes) -> None:
        await refuse(self._service, self._send, reason, self._cache.clock)
