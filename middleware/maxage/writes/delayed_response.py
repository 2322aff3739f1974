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
    """

    _purge: "asyncio.Future[bool] | None" = None
    """The purge under way before the answer; None: the answer need not wait."""
    _messages: list[Message]
    _leaving: "asyncio.Task[None] | None" = None
    _awaited = False
    """Whether the application waits, or has waited, for the answer to leave."""
    _returned = False

    def __init__(self, send: Send) -> None:
        self._send: Final = send

    def send(
        self, message: Message, purge: Callable[[], "asyncio.Future[bool]"]
    ) -> Awaitable[None]:
        """Send the message when `purge`, which begins at the answer's start, is done."""
        if self._purge is None and message["type"] == "http.response.start":
            begun = purge()
            if not begun.done():
                self._purge, self._messages = begun, []
                begun.add_done_callback(self._purged)
        if self._purge is None:
            return self._send(message)
        return self._send_after(self._purge, message)

    async def _send_after(self, purge: "asyncio.Future[bool]", message: Message) -> None:
        """Take the start and a single piece at once; send others behind them."""
        if self._leaving is None and self._takes(message):
            self._messages.append(message)
            return
        self._awaited = True
        # An application that stops waiting for this piece does not cancel those before it.
        await asyncio.shield(self._leave(purge))
        await self._send(message)

    def finish(self, purged_again: Awaitable[bool]) -> Awaitable[object]:
        """Let the answer leave, now that the application has returned; wait for its last purge."""
        return purged_again if self._purge is None else self._finish(self._purge, purged_again)

    async def _finish(self, purge: "asyncio.Future[bool]", purged_again: Awaitable[bool]) -> None:
        self._returned = True
        purge.remove_done_callback(self._purged)
        try:
            if self._leaving is None:
                await self._send_all(purge)
            elif not self._awaited:
                await self._leaving
        finally:
            await purged_again

    def abort(self, *, cancelled: bool) -> None:
        """End an application call that failed; nothing more is sent if it was cancelled."""
        if cancelled:
            self._returned = True
            if self._leaving is not None:
                self._leaving.cancel()
            self._purge = self._leaving = None

    def _takes(self, message: Message) -> bool:
        if not self._messages:
            return True
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return last and len(self._messages) == 1

    def _purged(self, purge: "asyncio.Future[bool]") -> None:
        """Let the answer leave while the application does other things."""
        if not self._returned and not purge.cancelled():
            self._leave(purge)

    def _leave(self, purge: "asyncio.Future[bool]") -> "asyncio.Task[None]":
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._send_all(purge))
        return self._leaving

    async def _send_all(self, purge: "asyncio.Future[bool]") -> None:
        await purge
        for message in self._messages:
            await self._send(message)
