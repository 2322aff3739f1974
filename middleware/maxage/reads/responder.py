"""The base of the responders that can answer from the store."""

from maxage.asgi.cache_status import CacheStatus, forwarded_value
from maxage.asgi.responder import Responder
from maxage.asgi.types import Scope
from maxage.cache.target import Target
from maxage.rfc9111.decisions import Decision, ForwardReason, Serve
from maxage.rfc9111.message import Request
from maxage.routing.route_table import Routed
from maxage.store.lookup_result import LookupResult
from maxage.store.wanted_claim import WantedClaim


class ReadResponder(Responder):
    """A GET, HEAD or QUERY, and the result of its last lookup."""

    target: Target
    request: Request
    found: LookupResult
    content: bytes | None = None
    """The content of a QUERY; None: a GET or HEAD, which has none."""
    collapsed: bool | None = None
    """Whether it waited for another request's response, and could use it."""
    wanted: WantedClaim | None = None
    """The claim that its lookup was to make if it found nothing."""
    waited: ForwardReason | None = None
    """Why it would have gone to the application, had it not used another request's response."""

    def decide(self) -> Decision:
        """Return whether the stored response answers, or what to ask the application."""
        return self.cache.decide(self.target, self.request, self.found)

    def forwarded(
        self,
        reason: ForwardReason,
        *,
        fwd_status: int | None = None,
        ttl: int | None = None,
        stored: bool = False,
        detail: str | None = None,
    ) -> bytes:
        """Return the member of Cache-Status of a request that went on to the application."""
        collapsed, names_key = self.collapsed, self.service.names_key
        if ttl is None and not names_key:
            return forwarded_value(reason, fwd_status, detail, stored, collapsed)
        status = CacheStatus(
            fwd=reason, fwd_status=fwd_status, ttl=ttl, stored=stored, collapsed=collapsed,
            key=self.found.key.decode() if names_key else None, detail=detail,
        )  # fmt: skip
        return status.header_value()

    def with_status(
        self, headers: list[tuple[bytes, bytes]], status: bytes
    ) -> list[tuple[bytes, bytes]]:
        """Append our member of Cache-Status behind those of other caches."""
        if self.service.sends_status:
            headers.append((b"cache-status", status))
        return headers

    async def serve(self, decision: Serve, *, fwd: bytes | None = None) -> None:
        """Send a stored response; `fwd` is its Cache-Status where it is no plain hit."""
        self.target.counts.stale += decision.stale
        self.target.work_out_routed()
        if self.target.routed is not None:
            set_route(self.scope, self.target.routed)
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


def set_route(scope: Scope, routed: Routed) -> None:
    """Set what the application's router sets in the scope, for the layers around the cache."""
    scope["route"], scope["endpoint"], params = routed
    if params:
        scope["path_params"] = {**scope.get("path_params", {}), **params}
    else:
        scope.setdefault("path_params", {})
