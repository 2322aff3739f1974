"""The base of the responders of one request."""

from threading import get_ident
from typing import Any, Final

from maxage.asgi.service import Service
from maxage.asgi.types import Message, Receive, Scope, Send
from maxage.cache.cache import Cache
from maxage.invalidation.dependencies import current_dependencies
from maxage.rfc9111.message import Headers

pair: Final[Any] = tuple
"""Makes a header line a pair that can be kept; a tuple is taken as it is."""


async def send_in_loop(send: Send, message: Message) -> None:
    """Take a message that a thread of the application made, in the event loop that runs this."""
    await send(message)


class Responder:
    """One request, with the parts of the middleware that answer it."""

    def __init__(
        self, service: Service, cache: Cache, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.service: Final = service
        self.cache: Final = cache
        self.scope: Final = scope
        self.receive: Final = receive
        self.send: Final = send
        self.headers: Final = Headers(tuple(map(pair, scope.get("headers", ()))))
        self.thread: Final = get_ident()
        """The thread of its event loop. To ask for the loop itself takes five times as long."""
        self.outer: Final = current_dependencies.get()
        """The dependencies that a middleware around this one notes for the same request."""


async def send_nothing() -> None:
    """Drop a message."""


async def send_both(send: Send, start: Message, message: Message) -> None:
    """Send a start and what follows it."""
    await send(start)
    await send(message)
