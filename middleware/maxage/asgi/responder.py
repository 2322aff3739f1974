"""What the responders of one request each have in common, and what they ask of the middleware."""

from typing import Any, Final

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.service import Service
from maxage.asgi.types import Receive, Scope, Send
from maxage.cache.cache import Cache
from maxage.cache.lookup_result import LookupResult
from maxage.cache.target import Target
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.rfc9111.decisions import ForwardReason, Serve
from maxage.rfc9111.message import Headers, Request

pair: Final[Any] = tuple
"""Makes a header line a pair that can be kept; one that is a tuple is taken as it is."""


class Responder:
    """What both kinds of requests have in common."""

    def __init__(
        self, service: Service, cache: Cache, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.service: Final = service
        self.cache: Final = cache
        self.scope: Final = scope
        self.receive: Final = receive
        self.send: Final = send
        self.headers: Final = Headers.of(tuple(map(pair, scope.get("headers", ()))))
        self.outer: Final = current_dependencies.get()
        """What is noted of the request by a middleware around this one."""

    def noting(self, *, mutating: bool) -> Dependencies:
        """Return what is to note what the application reads and changes."""
        return Dependencies(mutating=mutating, store=self.cache.store, outer=self.outer)

    def with_status(
        self, headers: list[tuple[bytes, bytes]], status: CacheStatus
    ) -> list[tuple[bytes, bytes]]:
        """Append our member of Cache-Status behind what other caches said."""
        if self.service.settings.cache_status_header:
            headers.append((b"cache-status", status.header_value()))
        return headers


class ReadResponder(Responder):
    """A responder that can answer from the store."""

    target: Target
    request: Request
    found: LookupResult
    content: bytes | None = None
    """The content of a QUERY; None: a GET or HEAD, which has none."""
    collapsed: bool | None = None
    """Whether it waited for another request's response, and could use it."""

    def forwarded(self, reason: ForwardReason, **more: Any) -> CacheStatus:
        """Return the member of Cache-Status of a request that went on to the application."""
        return CacheStatus(fwd=reason, collapsed=self.collapsed, key=self._shown_key(), **more)

    def _shown_key(self) -> str | None:
        return self.found.key.decode() if self.service.settings.cache_status_key else None

    async def serve(self, decision: Serve, *, fwd: CacheStatus | None = None) -> None:
        """Send what the rules decided, with our member of Cache-Status."""
        self.cache.counters.stale += decision.stale
        if fwd is None:
            headers = self.service.hit_headers(decision, self.found.key)
        else:
            headers = self.with_status(self.service.stored_headers(decision), fwd)
        if self.outer is not None and self.found.entry is not None:
            for group, token in self.found.entry.tokens:
                self.outer.depend_at(self.cache.store.authority, group, token)
        await self.send(
            {"type": "http.response.start", "status": decision.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": decision.body})
