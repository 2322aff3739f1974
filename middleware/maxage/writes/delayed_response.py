"""An answer that waits for the purge which has to come before it, while the application goes on.

An application that has answered mostly returns at once. If it is not made to wait for the purge,
it has returned before the purges of this turn of the event loop are sent (`together`), so that one
purge is both: that before the answer's first byte, and that after all has run.
"""

import asyncio
from typing import Final, final

from maxage.asgi.types import Message, Send


@final
class DelayedResponse:
    """The start of an answer, and its body where that is a single piece.

    It leaves as soon as the purge is done. Longer answers wait with the application: nothing more
    than one piece is ever held.

    Args:
        purge: the purge that is waited for.
        send: to the client.
    """

    def __init__(self, purge: "asyncio.Future[bool]", send: Send) -> None:
        self._purge: Final = purge
        self._messages: Final[list[Message]] = []
        self._send: Final = send
        self._leaving: asyncio.Task[None] | None = None
        self._heeded = False
        """Whether the application waits, or has waited, for the answer to leave."""
        self._returned = False
        purge.add_done_callback(self._purged)

    async def send(self, message: Message) -> None:
        """Take the start and a body of one piece at once; send all else behind what waits."""
        if self._leaving is None and self._takes(message):
            self._messages.append(message)
            return
        self._heeded = True
        # Who gives this piece up gives up nothing of what was sent before it.
        await asyncio.shield(self._leave())
        await self._send(message)

    def _takes(self, message: Message) -> bool:
        if not self._messages:
            return True
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return last and len(self._messages) == 1

    async def finish(self) -> None:
        """See that the answer leaves, now that the application has returned."""
        self._returned = True
        if self._leaving is None:
            # It is no use any more; where the purge is just done, it is called all the same.
            self._purge.remove_done_callback(self._purged)
            await self._send_all()
        elif not self._heeded:
            await self._leaving

    def drop(self) -> None:
        """Send nothing any more: the request was cancelled."""
        self._returned = True
        if self._leaving is not None:
            self._leaving.cancel()

    def _purged(self, purge: "asyncio.Future[bool]") -> None:
        """Let the answer leave while the application does other things."""
        if not self._returned and not purge.cancelled():
            self._leave()

    def _leave(self) -> "asyncio.Task[None]":
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._send_all())
        return self._leaving

    async def _send_all(self) -> None:
        await self._purge
        for message in self._messages:
            await self._send(message)
