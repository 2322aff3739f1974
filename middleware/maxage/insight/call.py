"""One call of the application: its duration, and its answer."""

import time
from time import perf_counter
from typing import Final, final

from maxage.asgi.types import Message, Scope, Send


@final
class TimedCall:
    """Times a call, and sees its answer pass; its scope is as it was before the call."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope: Final = scope
        self.at: Final = time.time()
        self.status = 500
        """Of the answer; a server makes a 500 of a call without one."""
        self.lines: list[tuple[bytes, bytes]] = []
        """Its headers."""
        self.size = 0
        self.seconds = 0.0
        """Without the time in which the client took the answer."""
        self._send: Final = send
        self._began: Final = perf_counter()
        self._waited = 0.0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            # An application may give an iterator.
            lines = [*message.get("headers", ())]
            self.status, self.lines = message.get("status", 0), lines
            message = {**message, "headers": lines}
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body") or b"")
        began = perf_counter()
        await self._send(message)
        self._waited += perf_counter() - began

    def end(self) -> None:
        """Note that the call has returned."""
        self.seconds = perf_counter() - self._began - self._waited
