"""The 503 that replaces an answer whose purge is not confirmed (`CACHE_ON_LOST_PURGE=refuse`)."""

from typing import Final

from maxage.asgi.service import Service
from maxage.asgi.types import Send
from maxage.clock import Clock
from maxage.rfc9111.message import Headers

NOT_EXECUTED: Final = (
    b"Not executed: the store of the cache is unavailable, and what the request would change could "
    b"not be purged from the cache.\n"
)
NOT_PURGED: Final = (
    b"The fate of the request is unknown: it was executed, but what it changed could not be purged "
    b"from the cache.\n"
)
TOO_LONG: Final = (
    b"The fate of the request is unknown: it was executed, but its answer was too long to be held "
    b"until its purge was confirmed.\n"
)


async def refuse(service: Service, send: Send, reason: bytes, clock: Clock) -> None:
    """Answer 503 with this reason."""
    headers = Headers(
        (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(reason)),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"1"),
        )
    )
    lines = service.outgoing(headers, clock)
    await send({"type": "http.response.start", "status": 503, "headers": lines})
    await send({"type": "http.response.body", "body": reason})
