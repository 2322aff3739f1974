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
from maxage.cache.key import CROSS_ORIGIN, FORWARDED_HEADERS, FRAGMENT_HEADERS
from maxage.cache.lookup import confirm_of, result_of_copy, result_of_own_copy
from maxage.cache.target import Target
from maxage.cache.terms import Terms
from maxage.invalidation.dependencies import current_dependencies
from maxage.reads.known_request import (
    PLAIN_GET,
    Identity,
    KnownRequest,
    Line,
    Plain,
    PlainRoute,
    identity_of,
)
from maxage.rfc9111.age import current_age
from maxage.rfc9111.content_coding import takes_zstd
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import (
    NAME_OF,
    Headers,
    Request,
    StoredResponse,
    may_remember,
)
from maxage.routing.route_table import Routed
from maxage.store.base import Near
from maxage.store.lookup_result import LookupResult
from maxage.store.memory import MemoryStore
from maxage.store.prepared import MOST_FORMS, Confirm, PreparedResponse

LOOK_SECONDS: Final = 1.0
"""Between two looks whether the application has other routes."""
_WEIGHTY: Final = FORWARDED_HEADERS | FRAGMENT_HEADERS | OVERRIDES | {
    b"authorization", b"cookie", b"content-length", b"transfer-encoding", b"cache-control",
    b"pragma", b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since",
    b"if-range", b"range", b"host", b"origin", b"expect", b"upgrade",
}  # fmt: skip
"""Headers on which it can depend whether a stored response answers, besides those of Vary."""
_PLAIN: Final = frozenset({b"host", b"if-none-match", b"origin", b"accept-encoding"})
"""Those among them that a plain request may have."""
_REMEMBERED: Final = 2048
"""Requests that one generation remembers without a near cache."""
_MOST_ROUTES: Final = 4096
"""Routes that are remembered with what their plain requests have in common."""
_LONGEST: Final = 1024
"""Bytes of host, path, query and condition of a request that is remembered."""
_SAMPLED: Final = 16
"""Of so many requests that a copy made known, one is remembered. Fewer would take long to find the
requests asked for most; more would drop them for requests that come once."""
_ROUNDING: Final = 1e-6
"""Seconds by which a prepared response ends too early rather than too late."""
_MOST_SHAPES: Final = 256
"""Shapes that are remembered."""
_Shape = tuple[int, int | None, int | None, tuple[bytes, ...]]
"""Where the header lines of a plain request have host, condition and coding, and the parts of its
key. Most requests have their lines in one of a few orders."""


@final
class FastPath:
    """Recognizes plain requests, and prepares responses to them; one for each middleware."""

    def __init__(self, service: Service, cache: Cache) -> None:
        settings = service.settings
        self.service: Final = service
        self.cache: Final = cache
        self._routes: Final = service.targets.routes
        self._weighty = _WEIGHTY | {n.lower().encode() for n in settings.cache_credential_headers}
        if settings.cache_compress:
            self._weighty |= {b"accept-encoding"}
        self._shapes: Final[dict[tuple[bytes, ...], _Shape | None]] = {}
        """By the names of the header lines; None: such requests are not plain."""
        self._known: dict[Identity, KnownRequest] = {}
        self._before: dict[Identity, KnownRequest] = {}
        """The generation before; a request that comes again moves on into the new one."""
        self._known_by_copies = 0
        """How many requests were known by their copies."""
        self._plain_routes: Final[dict[Terms, PlainRoute]] = {}
        self._look_at = -math.inf
        self._digest_is_enough: Final = not (
            settings.cache_status_key or type(cache.store) is MemoryStore
        )
        """False: a hit shows the whole key, or no near copy tells of requests."""
        self._prepares: Final = not settings.cache_early_refresh
        """False: at each request, chance decides anew whether it begins a refresh."""

    def __len__(self) -> int:
        """Return the number of requests that are known."""
        return len(self._known) + len(self._before)

    # known requests

    def known(self, scope: Scope) -> KnownRequest | None:
        """Return the known request that this one repeats; it has no override and no credentials."""
        plain = self.plain(scope)
        return None if plain is None else self.recalled(scope, plain)

    def plain(self, scope: Scope) -> Plain | None:
        """Return what a plain request has besides its URL and the selecting fields.

        None: the request is not plain.
        """
        headers = scope["headers"]
        names = tuple(map(NAME_OF, headers))
        try:
            shape = self._shapes[names]
        except KeyError:
            shape = self._shape_of(names)
        if shape is None:
            return None
        if ("session" in scope or "user" in scope or "auth" in scope) and is_identified(scope):
            return None
        host_at, condition_at, coding_at, parts = shape
        try:
            host = headers[host_at][1]
        except TypeError:
            # ASGI asks for any iterable, such as the items of a dictionary.
            host = b""
        if not host:
            return None
        if coding_at is not None and takes_zstd((headers[coding_at][1],)):
            condition = None if condition_at is None else headers[condition_at][1]
            return host, (condition, True), parts
        if condition_at is not None:
            return host, (headers[condition_at][1], False), parts
        return host, None, parts

    def _shape_of(self, names: tuple[bytes, ...]) -> _Shape | None:
        """Return the shape of requests whose header lines have these names, in this order."""
        at: dict[bytes, int] = {}
        shape: _Shape | None = None
        for index, name in enumerate(map(bytes.lower, names)):
            if name not in self._weighty:
                continue
            if name not in _PLAIN or (name in at and name != b"origin"):
                break
            at[name] = index
        else:
            if b"host" in at:
                parts = CROSS_ORIGIN if b"origin" in at else ()
                shape = at[b"host"], at.get(b"if-none-match"), at.get(b"accept-encoding"), parts
        if may_remember(names):
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[names] = shape
        return shape

    def recalled(self, scope: Scope, plain: Plain) -> KnownRequest | None:
        """Return the known request that a plain one repeats."""
        try:
            identity = (
                scope["method"], scope["path"], scope["raw_path"], scope["query_string"],
                scope["scheme"], scope["root_path"], plain,
            )  # fmt: skip
        except KeyError:
            identity = identity_of(scope, plain)
        known = self._known.get(identity) or self._from_before(identity)
        if known is None:
            near = self.cache.store.near if self._digest_is_enough else None
            return None if near is None else self._known_by_copy(near, scope, plain, identity)
        if not self._is_current(known.route.generation, scope) or (
            known.target is not None and known.variance != known.target.search.variance
        ):
            return None
        return known

    def _from_before(self, identity: Identity) -> KnownRequest | None:
        known = self._before.pop(identity, None)
        if known is not None:
            self._remember(identity, known)
        return known

    def _known_by_copy(
        self, near: Near, scope: Scope, plain: Plain, identity: Identity
    ) -> KnownRequest | None:
        """Return what a near copy tells of a request: an earlier one like it was admitted.

        The copies are many more than the requests that are remembered. One in so many becomes one
        of them: thus those that are asked for most are remembered.
        """
        raw_path, path = scope.get("raw_path"), scope["path"]
        host, wishes, parts = plain
        is_get = scope["method"] == "GET"
        if raw_path is None or len(host) > _LONGEST or not is_get or not path.isascii():
            return None
        site = self.service.targets.site(scope, host)
        key = site.digest(raw_path, scope.get("query_string", b""), path.encode(), parts)
        copy = near.find(key)
        route = None if copy is None else copy.owner
        if not isinstance(route, PlainRoute) or self._plain_routes.get(route.terms) is not route:
            return None
        if not self._is_current(route.generation, scope):
            return None
        known = KnownRequest("GET", route, key, wishes, parts, None)
        self._known_by_copies += 1
        if self._known_by_copies % _SAMPLED == 0 and self._may_remember(scope, plain):
            known.routed = self.routed(known, scope)
            self._remember(identity, known)
        else:
            known.copy, known.is_remembered = copy, False
        return known

    def learn(self, scope: Scope, target: Target) -> None:
        """Remember an admitted request, if it is plain, for the next one like it."""
        plain, info = self.plain(scope), target.route
        if plain is None or target.policy.vary_by is not None:
            return
        if info is not None and (info.has_security or info.header_names):
            # The answer depends on more than the URL and the selecting fields.
            return
        _, wishes, parts = plain
        if self._may_remember(scope, plain):
            route, key, near = self._route_of(target), target.key(parts), self.cache.store.near
            method, short = scope["method"], None
            if near is not None and self._is_of_url_alone(method, target):
                short = near.introduce(key, route)
            if short is not None and self._digest_is_enough:
                known = KnownRequest(method, route, short, wishes, parts, None)
            else:
                known = KnownRequest(method, route, key, wishes, parts, target)
            target.work_out_routed()
            known.routed = target.routed
            self._remember(identity_of(scope, plain), known)

    @staticmethod
    def _may_remember(scope: Scope, plain: Plain) -> bool:
        """Return whether what would be remembered of a request is short."""
        (host, wishes, _), raw_path = plain, scope.get("raw_path")
        if raw_path is None:
            return False
        condition = b"" if wishes is None else wishes[0] or b""
        query = scope.get("query_string", b"")
        return len(host) + len(raw_path) + len(query) + len(condition) <= _LONGEST

    def _route_of(self, target: Target) -> PlainRoute:
        """Return what the plain requests of a target's route have in common."""
        route = self._plain_routes.get(target.terms)
        if (
            route is None
            or route.generation != target.generation
            or route.counts is not target.counts
        ):
            if len(self._plain_routes) >= _MOST_ROUTES:
                self._plain_routes.clear()
            route = PlainRoute(target.terms, target.counts, target.generation)
            self._plain_routes[target.terms] = route
        return route

    @staticmethod
    def _is_of_url_alone(method: str, target: Target) -> bool:
        """Return whether the URL alone chooses the copy, so that it can be introduced."""
        return method == "GET" and not target.vary_names and target.search.variance is None

    def _remember(self, identity: Identity, known: KnownRequest) -> None:
        near = self.cache.store.near
        if len(self._known) >= (_REMEMBERED if near is None else near.known_requests):
            self._before, self._known = self._known, {}
        self._known[identity] = known

    def routed(self, known: KnownRequest, scope: Scope) -> Routed | None:
        """Return what the application's router adds to the scope of a known request."""
        route = known.route.terms.route
        return None if route is None else self.service.targets.routed(route, scope)

    def _is_current(self, generation: int, scope: Scope) -> bool:
        """Return whether what was found among the routes of this generation still holds."""
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
        return generation == routes.generation

    # prepared responses

    def near(self, known: KnownRequest, lines: list[Line]) -> PreparedResponse | None:
        """Return the response that a near copy gives to a known request."""
        near, target = self.cache.store.near, known.target
        if near is None or not self._prepares or (target is not None and target.unstorable):
            return None
        if current_dependencies.get() is not None:
            # A middleware around this one has to learn what the response depends on.
            return None
        chosen = known.copy_key
        if target is not None and target.vary_names:
            chosen = known.variant(target, lines)
        copy = known.copy or near.find(chosen)
        if copy is None:
            return None
        known.copy, now = None, self.cache.clock()
        forms = copy.prepared
        if forms is not None:
            prepared = forms.get(known.form)
            if prepared is not None and prepared.suits(known.route, now):
                return prepared
        if not known.is_remembered and known.form is PLAIN_GET:
            decision = copy.plain_hit(now)
            if decision is not None:
                # It answers this request alone.
                confirm = confirm_of(near, copy)
                return self._prepared_by(known, decision, confirm, now, now)
        headers = Headers(tuple(map(pair, lines)))
        if target is None:
            found = result_of_own_copy(near, copy, known.key)
        else:
            found = result_of_copy(near, copy, chosen, target, known.key, headers)
        prepared = None if found is None else self._prepare(known, found, headers, now)
        if prepared is not None and known.is_remembered:
            # Other requests come too seldom to use it again.
            near.keep_prepared(copy, known.form, prepared)
            if target is not None and self._is_of_url_alone(known.form[0], target):
                known.copy_key = near.introduce(known.key, known.route) or known.key
        return prepared

    def may_prepare(self) -> bool:
        """Return whether responses may be prepared: no middleware around wants dependencies."""
        return self._prepares and current_dependencies.get() is None

    def again(self, known: KnownRequest, scope: Scope) -> PreparedResponse | None:
        """Return the response that a near copy gives to a request that is the very same."""
        target = known.target
        if not self._is_current(known.route.generation, scope) or (
            target is not None and known.variance != target.search.variance
        ):
            return None
        return self.near(known, scope["headers"])

    def prepared(
        self, known: KnownRequest, found: LookupResult, headers: Headers
    ) -> PreparedResponse | None:
        """Return the response that a lookup gives to a known request, where `may_prepare`."""
        if found.entry is None:
            return None
        now = self.cache.clock()
        prepared = found.prepared.get(known.form)
        if prepared is not None and prepared.suits(known.route, now):
            return prepared
        prepared = self._prepare(known, found, headers, now)
        if prepared is not None:
            # A result may be shared for long, and clients make up conditions.
            if len(found.prepared) >= MOST_FORMS:
                found.prepared.clear()
            found.prepared[known.form] = prepared
        return prepared

    def _prepare(
        self, known: KnownRequest, found: LookupResult, headers: Headers, now: float
    ) -> PreparedResponse | None:
        """Ask the rules, and remember their response for as long as it stays the same."""
        terms, entry = known.route.terms, found.entry
        request = Request(method=known.form[0], headers=headers)
        decision = self.cache.decide(terms, request, found)
        if entry is None or not isinstance(decision, Serve) or decision.stale or decision.refresh:
            return None
        if entry.stored.anonymous:
            # Whether it answers depends on fields that are not part of a form.
            return None
        until = _same_until(entry.stored, now)
        return self._prepared_by(known, decision, found.confirm, now, until)

    def _prepared_by(
        self,
        known: KnownRequest,
        decision: Serve,
        confirm: Confirm | None,
        now: float,
        until: float,
    ) -> PreparedResponse:
        """Return the response by which the rules answer a known request until then."""
        return PreparedResponse(
            decision,
            tuple(self.service.hit_headers(decision, known.key)),
            owner=known.route,
            confirm=confirm,
            since=now,
            until=until,
        )


def _same_until(stored: StoredResponse, now: float) -> float:
    """Return until when Age and the seconds of freshness that are left stay the same."""
    if now < stored.response_time:
        # The clock was set back: the age stands still.
        return now
    age = current_age(stored, now=now)
    left = stored.freshness_lifetime - age
    return now + min(math.floor(age) + 1 - age, left - math.floor(left)) - _ROUNDING
