"""Fast path: reuse the target and key worked out for an earlier identical request.

A plain request has a host, perhaps If-None-Match, and no other field on which its answer depends.
What admission found out about it is remembered by these fields and its URL. For a near copy even
the response is prepared: the rules (`decide`) give the same one until its Age or `ttl` changes,
within a second. A request with credentials, cookies, an identity in the scope, overrides, a body, a
range or directives is never known here, and takes the whole way.
"""

import math
from typing import Final, final

from maxage.asgi.identity import is_identified
from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.responder import pair
from maxage.asgi.service import Service
from maxage.asgi.types import Scope
from maxage.cache.cache import Cache
from maxage.cache.key import CROSS_ORIGIN, FORWARDED_HEADERS
from maxage.cache.lookup import result_of_copy
from maxage.cache.target import Target
from maxage.invalidation.dependencies import current_dependencies
from maxage.reads.known_request import KnownRequest, Line
from maxage.rfc9111.age import current_age
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request, StoredResponse
from maxage.store.lookup_result import LookupResult
from maxage.store.prepared import PreparedResponse

LOOK_SECONDS: Final = 1.0
"""Between two looks whether the application has other routes."""
_WEIGHTY: Final = FORWARDED_HEADERS | OVERRIDES | {
    b"authorization", b"cookie", b"content-length", b"transfer-encoding", b"cache-control",
    b"pragma", b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since",
    b"if-range", b"range", b"host", b"origin", b"expect", b"upgrade",
}  # fmt: skip
"""Headers on which it can depend whether a stored response answers, besides those of Vary."""
_MOST_PREPARED: Final = 4
"""Forms of one copy that are prepared at the same time: GET, HEAD and 304."""
_REMEMBERED: Final = 2048
"""Requests that one generation remembers, in addition to one for each near copy."""
_LONGEST: Final = 1024
"""Bytes of host, path, query and condition of a request that is remembered."""
_ROUNDING: Final = 1e-6
"""Seconds by which a prepared response ends too early rather than too late."""
_Plain = tuple[bytes, bytes | None, tuple[bytes, ...]]
"""Host, If-None-Match and the parts of the key."""
_Identity = tuple[str, bytes | None, bytes, _Plain]
"""Method, raw path, query, and the rest of a plain request."""


@final
class FastPath:
    """Recognizes plain requests, and prepares responses to them; one for each middleware."""

    def __init__(self, service: Service, cache: Cache) -> None:
        settings = service.settings
        self.service: Final = service
        self.cache: Final = cache
        self._routes: Final = service.targets.routes
        self._weighty: Final = _WEIGHTY | {
            n.lower().encode() for n in settings.cache_credential_headers
        }
        self._known: dict[_Identity, KnownRequest] = {}
        self._before: dict[_Identity, KnownRequest] = {}
        """The generation before; a request that comes again moves on into the new one."""
        self._look_at = -math.inf
        self._prepares: Final = not settings.cache_early_refresh
        """False: at each request, chance decides anew whether it begins a refresh."""

    def __len__(self) -> int:
        """Return the number of requests that are known."""
        return len(self._known) + len(self._before)

    # known requests

    def known(self, scope: Scope) -> KnownRequest | None:
        """Return the known request that this one repeats; it has no override and no credentials."""
        plain = self._plain(scope["headers"])
        if plain is None:
            return None
        if ("session" in scope or "user" in scope or "auth" in scope) and is_identified(scope):
            return None
        get = scope.get
        identity = (scope["method"], get("raw_path"), get("query_string", b""), plain)
        known = self._known.get(identity) or self._recalled(identity)
        if (
            known is None
            or known.path != scope["path"]
            or known.scheme != get("scheme", "http")
            or known.root_path != get("root_path", "")
            or not self._holds(known, scope)
        ):
            return None
        return known

    def learn(self, scope: Scope, target: Target) -> None:
        """Remember an admitted request, if it is plain, for the next one like it."""
        plain = self._plain(scope["headers"])
        raw_path: bytes | None = scope.get("raw_path")
        if plain is None or raw_path is None or not _is_plain(target):
            return
        (host, condition, parts), query = plain, scope.get("query_string", b"")
        if len(host) + len(raw_path) + len(query) + len(condition or b"") <= _LONGEST:
            known = KnownRequest(scope, target, condition, parts)
            self._remember((scope["method"], raw_path, query, plain), known)

    def _plain(self, headers: list[Line]) -> _Plain | None:
        """Return what a plain request has besides its URL and the selecting fields."""
        host = condition = None
        parts: tuple[bytes, ...] = ()
        for name, value in headers:
            lower = name.lower()
            if lower in self._weighty:
                if lower == b"host" and host is None:
                    host = value
                elif lower == b"if-none-match" and condition is None:
                    condition = value
                elif lower == b"origin":
                    parts = CROSS_ORIGIN
                else:
                    return None
        return (host, condition, parts) if host else None

    def _remember(self, identity: _Identity, known: KnownRequest) -> None:
        near = self.cache.store.near
        if len(self._known) >= _REMEMBERED + (len(near) if near is not None else 0):
            self._before, self._known = self._known, {}
        self._known[identity] = known

    def _recalled(self, identity: _Identity) -> KnownRequest | None:
        known = self._before.pop(identity, None)
        if known is not None:
            self._remember(identity, known)
        return known

    def _holds(self, known: KnownRequest, scope: Scope) -> bool:
        """Return whether its target and key are still those of the request."""
        routes, now = self._routes, self.cache.monotonic()
        wired_by, overrides = routes.overrides.main
        # Different overrides may be equal objects.
        if (
            now >= self._look_at
            or wired_by.dependency_overrides != overrides
            or (overrides and not routes.overrides.hold())
        ):
            self._look_at = now + LOOK_SECONDS
            routes.watch(scope)
        return (
            known.target.generation == routes.generation
            and known.variance == known.target.search.variance
        )

    # prepared responses

    def near(self, known: KnownRequest, lines: list[Line]) -> PreparedResponse | None:
        """Return the response that a near copy gives to a known request."""
        near, target = self.cache.store.near, known.target
        if near is None or target.unstorable or not self._prepares:
            return None
        if current_dependencies.get() is not None:
            # A middleware around this one has to learn what the response depends on.
            return None
        copy = near.find(known.variant(lines) if target.vary_names else known.key)
        if copy is None:
            return None
        now = self.cache.clock()
        prepared = copy.prepared.get(known.form)
        if prepared is not None and prepared.suits(target.groups, now):
            return prepared
        headers = Headers.of(tuple(map(pair, lines)))
        found = result_of_copy(near, copy, target, known.key, headers)
        return None if found is None else self._prepare(known, found, headers, now)

    def may_prepare(self) -> bool:
        """Return whether responses may be prepared: no middleware around wants dependencies."""
        return self._prepares and current_dependencies.get() is None

    def again(self, known: KnownRequest, scope: Scope) -> PreparedResponse | None:
        """Return the response that a near copy gives to a request that is the very same."""
        return self.near(known, scope["headers"]) if self._holds(known, scope) else None

    def prepared(
        self, known: KnownRequest, found: LookupResult, headers: Headers
    ) -> PreparedResponse | None:
        """Return the response that a lookup gives to a known request, where `may_prepare`."""
        if found.entry is None:
            return None
        now = self.cache.clock()
        prepared = found.prepared.get(known.form)
        if prepared is not None and prepared.suits(known.target.groups, now):
            return prepared
        return self._prepare(known, found, headers, now)

    def _prepare(
        self, known: KnownRequest, found: LookupResult, headers: Headers, now: float
    ) -> PreparedResponse | None:
        """Ask the rules, and remember their response for as long as it stays the same."""
        target, entry = known.target, found.entry
        request = Request(method=known.form[0], headers=headers)
        decision = self.cache.decide(target, request, found)
        if entry is None or not isinstance(decision, Serve) or decision.stale or decision.refresh:
            return None
        if entry.stored.anonymous:
            # Whether it answers depends on fields that are not part of a form.
            return None
        prepared = PreparedResponse(
            decision,
            tuple(self.service.hit_headers(decision, known.key)),
            groups=target.groups,
            confirm=found.confirm,
            since=now,
            until=_same_until(entry.stored, now),
        )
        if len(found.prepared) >= _MOST_PREPARED:
            found.prepared.clear()
        found.prepared[known.form] = prepared
        return prepared


def _is_plain(target: Target) -> bool:
    """Return whether the answer depends on the URL and the selecting fields alone."""
    route = target.route
    if target.policy.vary_by is not None or route is None:
        return target.policy.vary_by is None
    return not (route.has_security or route.header_names)


def _same_until(stored: StoredResponse, now: float) -> float:
    """Return until when Age and the seconds of freshness that are left stay the same."""
    if now < stored.response_time:
        # The clock was set back: the age stands still.
        return now
    age = current_age(stored, now=now)
    left = stored.freshness_lifetime - age
    return now + min(math.floor(age) + 1 - age, left - math.floor(left)) - _ROUNDING
