"""An answer that is delayed until the purge that must precede it, while the application goes on.

Most applications return as soon as they have answered. If the application is not made to wait for
the purge, it returns before the purges of this turn of the event loop are sent: then one write is
both the purge before the answer's first byte and the purge after the application call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, final

from maxage.asgi.types import Message, Send


@final
class DelayedResponse:
    """The start of an answer, and its body if that is a single piece.

    Both leave as soon as the purge is done. A longer answer makes the application wait, so that no
    more than one piece is in memory.

    Args:
        send: to the client.
        purge: begins the purge, at the answer's start.
    """

    _begun: "asyncio.Future[bool] | None" = None
    """The purge under way before the answer; None: the answer need not wait."""
    _messages: list[Message]
    _leaving: "asyncio.Task[None] | None" = None
    _awaited = False
    """Whether the application waits, or has waited, for the answer to leave."""
    _returned = False

    def __init__(self, send: Send, purge: Callable[[], "asyncio.Future[bool]"]) -> None:
        self._send: Final = send
        self._purge: Final = purge

    def begin(self) -> None:
        """Begin the purge, for which the answer waits; it is about to start."""
        if self._begun is None:
            begun = self._purge()
            if not begun.done():
                self._begun, self._messages = begun, []
                begun.add_done_callback(self._purged)

    def send(self, message: Message) -> Awaitable[None]:
        """Send the message when the purge is done."""
        return self._send(message) if self._begun is None else self._delay(self._begun, message)

    async def _delay(self, begun: "asyncio.Future[bool]", message: Message) -> None:
        """Take the start and a single piece at once; send others behind them."""
        messages = self._messages
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._leaving is None and (not messages or (len(messages) == 1 and is_last)):
            messages.append(message)
            return
        self._awaited = True
        # An application that stops waiting for this piece does not cancel those before it.
        await asyncio.shield(self._leave(begun))
        await self._send(message)

    def _purged(self, begun: "asyncio.Future[bool]") -> None:
        """Let the answer leave while the application does other things."""
        if not self._returned and not begun.cancelled():
            self._leave(begun)

    def _leave(self, begun: "asyncio.Future[bool]") -> "asyncio.Task[None]":
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._send_all(begun))
        return self._leaving

    async def _send_all(self, begun: "asyncio.Future[bool]") -> None:
        await begun
        for message in self._messages:
            await self._send(message)

    def abort(self, *, cancelled: bool) -> None:
        """End an application call that failed; nothing more is sent if it was cancelled."""
        if cancelled:
            self._returned = True
            if self._leaving is not None:
                self._leaving.cancel()
            self._begun = self._leaving = None

    def finish(self, purged_again: Awaitable[bool]) -> Awaitable[object]:
        """Let the answer leave, now that the application has returned; wait for its last purge."""
        return purged_again if self._begun is None else self._finish(self._begun, purged_again)

    async def _finish(self, begun: "asyncio.Future[bool]", purged_again: Awaitable[bool]) -> None:
        self._returned = True
        begun.remove_done_callback(self._purged)
        try:
            if self._leaving is None:
                await begun
                for message in self._messages:
                    await self._send(message)
            elif not self._awaited:
                await self._leaving
        finally:
            await purged_again
