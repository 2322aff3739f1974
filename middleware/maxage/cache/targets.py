"""Targets: find key, policy and groups of a URL before it is looked up."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final
from urllib.parse import unquote

from msgspec.structs import replace

from maxage.cache.answerer import Answerer
from maxage.cache.bounded_memo import BoundedMemo
from maxage.cache.key import FORWARDED_HEADERS, Place, declared_query, forwarded_parts, host_name
from maxage.cache.machine import is_loopback, machine_name
from maxage.cache.target import Restriction, Search, Target, Terms, Touched
from maxage.invalidation.group_names import named_groups, path_group, tag_group
from maxage.invalidation.groups import RouteGroups, fallback_groups
from maxage.invalidation.root_paths import RootPaths, beneath
from maxage.observe.counters import RouteCounts, begin_counting
from maxage.redis_url import server_url
from maxage.rfc9111.message import Headers
from maxage.rfc9111.policy import Policy
from maxage.routing.default_lifetime import takes_default
from maxage.routing.overrides import Overrides
from maxage.routing.route_policy import RoutePolicy, Rule, matching_rules, route_policy
from maxage.routing.route_table import (
    RouteInfo,
    RouteMatch,
    RouteTable,
    routed,
)
from maxage.routing.router import (
    hidden_router,
    needs_only_url,
    read_routes,
    router_of,
    routes_in,
    table_of,
)
from maxage.settings import CacheSettings
from maxage.store.tokens import NAMESPACE_GROUP

logger = logging.getLogger("maxage")

_DEEPEST: Final = 32
"""Segments of a path that is cached; each may need a token of its own."""

_MOST_ROUTERS: Final = 16
"""Routers besides the first that are read, and hosts with a router of their own."""
_MOST_TERMS: Final = 4096
"""Combinations of a route and rules whose terms are remembered."""

_BRACES: Final = re.compile(r"\{(\w+)\}")


@final
class Targets:
    """Finds the target of a request; remembers a bounded number of them."""

    def __init__(
        self, settings: CacheSettings, rules: Sequence[Rule], app: Any, *, instance: int
    ) -> None:
        self.tally: Final = begin_counting(self)
        """The counts of all routes, and of the middleware that has these targets."""
        self.count_url: Callable[[RouteCounts, Mapping[str, Any]], RouteCounts] | None = None
        """Returns the counts of a URL, given those of its route; None: it has no others."""
        # Applications in one process share the embedded store, but never an entry.
        own = f"#{instance}" if server_url(settings.redis_url) is None else ""
        self._named = (settings.cache_namespace, settings.cache_release + own)
        self._machine = "" if own else f"@{machine_name()}"
        """Part of the keys of loopback hosts. Machines that share a store share no such host."""
        self._settings = settings
        self._rules = tuple(rules)
        self._app = app
        self._routes: RouteTable | None = None
        self._tables: dict[int, RouteTable] = {}
        """Where several routers are known: their tables, by the identity of their routes."""
        self._route_groups: RouteGroups | None = None
        self.generation = 0
        self.overrides = Overrides(RouteTable(()))
        """Those with which the routes were read."""
        self._router: Any = None
        """The object that has the routes, once it is known."""
        self._others: list[Any] = []
        """Other routers that have answered, as behind a function that chooses an application."""
        self._at_hosts: dict[str, Any] = {}
        """The router of each host at which another one's route was foreseen."""
        self._routes_read: list[tuple[int, int]] = []
        """Identities of the lists of routes that were read, and their lengths then: other routes
        may be equal, but have other checks."""
        self._lists_read: list[Sequence[Any]] = []
        """These lists, whose identities are theirs as long as they live."""
        self._targets: BoundedMemo[Target] = BoundedMemo()
        self._searches: BoundedMemo[Search] = BoundedMemo()
        """Searches of paths requested with a query, by the URL without one."""
        self._touched: BoundedMemo[Touched] = BoundedMemo()
        self._root_paths: Final = RootPaths()
        self._named_orphans: tuple[str, ...] = ()
        self._warned_of: set[bool] = set()
        """Whether routes were known when a warning of an unknown one was logged."""
        self._surprises: list[object] = []
        """Endpoints that answered where the routes told of another one, or of none."""
        self._rules_memo: dict[tuple[float, bool, tuple[bytes, ...]], Policy] = {}
        self._terms: dict[tuple[RouteInfo | None, tuple[Rule, ...], bool], Terms] = {}
        self._base_rules: Final = _policy(settings)

    def find(self, scope: Mapping[str, Any], headers: Headers) -> Target:
        """Return the target of a QUERY, or of a GET or HEAD of that URL."""
        forwarded: tuple[bytes, ...] = ()
        if headers.has_any(FORWARDED_HEADERS):
            forwarded = forwarded_parts(headers.raw)
        path = scope["path"].encode("utf-8", "surrogatepass")
        raw_path = scope.get("raw_path") or path
        place = (
            scope.get("scheme", "http").encode(),
            headers.combined(b"host") or _server(scope),
            str(scope.get("root_path", "")).encode("utf-8", "surrogatepass"),
            raw_path,
            # One object where nothing in it is encoded.
            raw_path if raw_path == path else path,
            *forwarded,
        )
        method = "QUERY" if scope["method"] == "QUERY" else "GET"
        identity = (method, scope.get("query_string", b""), *place)
        self._watch_routes(scope)
        target = self._targets.get(identity)
        if target is None:
            target = self._new(identity, place, scope)
            self._targets.remember(identity, target)
        return target

    def watch(self, scope: Mapping[str, Any]) -> int:
        """Return a number that changes when other routes are there, and with them other targets."""
        self._watch_routes(scope)
        return self.generation

    def answerer(
        self, target: Target, scope: Mapping[str, Any], before: tuple[object, object]
    ) -> Answerer:
        """Return whether the route that has answered is the one by which the key was made.

        What the router left in the scope counts above the routes that were read. Where the two
        differ, the routes are read again; the response fits no key, and is not stored.

        Args:
            target: of the request.
            scope: of the request, at its response.
            before: endpoint and router in the scope before the application was called.
        """
        endpoint, route = scope.get("endpoint"), target.route
        if self.learn(scope, before[1]) or (endpoint is not None and _is_foreign(route, scope)):
            self._prefer(target, scope)
            return Answerer.OTHER
        if route is not None and route.endpoint is endpoint and endpoint is not None:
            # A mounted application without known routes may have passed a copy on.
            return Answerer.UNKNOWN if route.opaque else Answerer.FORESEEN
        if endpoint is None or endpoint is before[0]:
            return Answerer.UNKNOWN
        if (route is None or route.opaque) and needs_only_url(scope):
            return Answerer.FORESEEN
        self._read_again(scope, endpoint)
        return Answerer.OTHER

    def warn_of_unknown(self, target: Target) -> None:
        """Log once why responses get no default lifetime where the scope names no route."""
        known = target.route is not None
        if known in self._warned_of:
            return
        self._warned_of.add(known)
        if known:
            logger.warning(
                "%s of %s: the scope does not tell which route answered, since a layer inside the "
                "cache passes a copy of it on, or answers itself. Such responses are stored only "
                "with freshness of their own. Let the layer change the scope in place, move it "
                "outside of the cache, or state a lifetime by @cached or a Rule.",
                target.path, _name_of(self._app),
            )  # fmt: skip
        else:
            logger.warning(
                "No route of %s is known, and the scope names none: only responses with freshness "
                "of their own (Cache-Control, Expires) are stored. State lifetimes by a Rule.",
                _name_of(self._app),
            )

    def learn(self, scope: Mapping[str, Any], before: object = None) -> bool:
        """Read the routes of the router that has answered, if they are not known yet.

        Args:
            scope: of a request or of the lifespan.
            before: the router in the scope before the application was called.

        Returns:
            Whether there is such a router.
        """
        router = scope.get("router")
        if router is None or router is before or not (routes := routes_in(router)):
            return False
        if self._router is None:
            self._router = router
        elif len(self._others) >= _MOST_ROUTERS or any(
            routes is routes_in(known) for known in (self._router, *self._others)
        ):
            return False
        else:
            self._others.append(router)
        self._watch_routes(scope)
        return True

    def _prefer(self, target: Target, scope: Mapping[str, Any]) -> None:
        """Let the routes of the router that has answered come first at the target's host."""
        known = target.host in self._at_hosts or len(self._at_hosts) >= _MOST_ROUTERS
        if target.route is not None and self._others and not known:
            self._at_hosts[target.host] = scope.get("router")
            self._routes_read = []
            self._watch_routes(scope)

    def _read_again(self, scope: Mapping[str, Any], endpoint: object) -> None:
        """Read the routes again, once for each endpoint that was not foreseen."""
        if endpoint not in self._surprises and len(self._surprises) < _MOST_TERMS:
            self._surprises.append(endpoint)
            self._routes_read = []
            self._watch_routes(scope)

    def table(self, scope: Mapping[str, Any]) -> RouteTable:
        """Return the application's routes, none of them where they cannot be read."""
        self._watch_routes(scope)
        return self._routes or RouteTable(())

    def match(self, scope: Mapping[str, Any], headers: Headers) -> RouteMatch | None:
        """Return the route that answers a request, where there is one."""
        host = host_name(headers.first(b"host") or b"")
        return self.table(scope).match(scope["method"], self._inner_path(scope), host)

    @property
    def has_several_routers(self) -> bool:
        """Whether more than one router has answered, so that a URL does not tell which one will."""
        return bool(self._others)

    def touched(self, scope: Mapping[str, Any], headers: Headers, router: Any = None) -> Touched:
        """Return the groups that a mutating request purges.

        Args:
            scope: of the request, as it arrived.
            headers: of the request.
            router: the one that has answered; None: it is unknown, and may be each that is known.
        """
        self._watch_routes(scope)
        # Mostly this is the only use of these headers: an index of them would cost more.
        host = b""
        for name, value in headers.raw:
            if name.lower() == b"host":
                host = value
                break
        own = None if router is None else self._tables.get(id(routes_in(router)))
        at = (scope["method"], self._inner_path(scope), host)
        identity = at if own is None else (*at, str(id(own)))
        touched = self._touched.get(identity)
        if touched is None:
            tables = (own,) if own else (*self._tables.values(),) or (self._routes,)
            touched = _merged([self._touched_at(*at, table) for table in tables])
            self._touched.remember(identity, touched)
        return touched

    def terms_of(self, scope: Mapping[str, Any], headers: Headers) -> Terms:
        """Return what holds for a request of any method."""
        path = self._inner_path(scope)
        return self._terms_at(path, path, self.match(scope, headers))

    def _touched_at(
        self, method: str, path: str, host: bytes, routes: RouteTable | None
    ) -> Touched:
        match = routes.match(method, path, host_name(host)) if routes else None
        policy = self._terms_at(path, path, match).policy
        groups: tuple[str, ...] = ()
        reads = 0
        if self._route_groups is not None and not policy.only:
            at = match
            if at is None and routes and self._route_groups.mode == "matching":
                # A layer inside may know the method by another name: a form's or a header's.
                at = routes.match_any(path, host_name(host))
            groups = self._route_groups.touched_by(at, path)
            reads = self._route_groups.count_reads(match)
        mount = "" if match is None else formatted(match.route.mounted_at, match)
        named = (
            group
            for name in policy.invalidates
            for group in named_groups(formatted(name, match), mounted_at=mount)
        )
        known = match is not None and match.route.methods is not None
        return Touched(
            groups=tuple(dict.fromkeys((*groups, *named))),
            route=f"{method} {match.route.template}" if match and known else "unknown route",
            is_known=known,
            reads=reads,
            counts=self.tally.of_route(match.route.template if match and known else None),
        )

    def member(self, path: str, scope: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the groups of one path named by a response: itself and all beneath it."""
        decoded = beneath(unquote(path.partition("?")[0]), self._root_path(scope))
        match = self._routes.match("GET", decoded) if self._routes is not None else None
        spelled = decoded if match is None else match.path
        return (path_group(spelled),)

    def _root_path(self, scope: Mapping[str, Any]) -> str:
        # FastAPI puts its own root path into the scope, which one wrapped around it does not see.
        return str(scope.get("root_path") or getattr(self._app, "root_path", "") or "")

    def _inner_path(self, scope: Mapping[str, Any]) -> str:
        """Return the path as the router sees it.

        Groups are named by it: an application has the same groups under each of its root paths.
        """
        root_path = self._root_path(scope)
        if root_path not in self._root_paths.seen:
            self._root_paths.note(root_path)
            self._touched.clear()
        return beneath(scope["path"], root_path)

    def answers_head(self, scope: Mapping[str, Any], headers: Headers, target: Target) -> bool:
        """Return whether the route of the target's GET answers a HEAD too, as far as is known."""
        if not self.table(scope).routes:
            return True
        match = self.match(scope, headers)
        return (None if match is None else match.route) is target.route

    def _new(self, identity: tuple[Any, ...], place: Place, scope: Mapping[str, Any]) -> Target:
        method, query = identity[:2]
        path, inner = scope["path"], self._inner_path(scope)
        deep = path.count("/") > _DEEPEST
        host = host_name(place[1])
        match = self._routes.match(method, inner, host) if self._routes and not deep else None
        terms = self._terms_at(path, inner, match, by_default=takes_default(inner, query))
        groups: tuple[str, ...] = ()
        if deep:
            policy = replace(terms.policy, cache=False)
            terms = Terms(
                None, policy, terms.rules, counts=self.tally.of_route(None),
                matching=terms.matching, restriction="deep",
            )  # fmt: skip
        elif match is None or self._route_groups is None:
            groups = fallback_groups(inner)
        else:
            groups = self._route_groups.groups_of(match, host, terms.policy)
        tags = terms.policy.tags and dict.fromkeys(
            tag_group(formatted(tag, match)) for tag in terms.policy.tags
        )
        declared = terms.route.query_names if terms.route is not None else None
        if self._settings.cache_keyed_query == "declared" and declared is not None:
            query = declared_query(query, declared)
        return Target(
            named=self._named_for(place[1]),
            place=place,
            query=query,
            terms=terms,
            groups=(NAMESPACE_GROUP, *groups, *tags),
            generation=self.generation,
            search=self._search(identity),
            routed=None if match is None else routed(match.route, inner),
            counts=self.count_url(terms.counts, scope) if self.count_url else terms.counts,
        )

    def _named_for(self, host: bytes) -> tuple[str, str]:
        namespace, release = self._named
        machine = self._machine if is_loopback(host) else ""
        return namespace, release + self.overrides.name + machine

    def _terms_at(
        self, path: str, inner: str, match: RouteMatch | None, *, by_default: bool = True
    ) -> Terms:
        """Return what holds for a path; `by_default`: whether it takes the default lifetime."""
        route = match.route if match is not None else None
        matching = matching_rules(self._rules, path, inner) if self._rules else ()
        restriction: Restriction | None = None if by_default else "probe or secret"
        if route is not None and (route.serves_files or route.is_documentation):
            # They change without a write.
            by_default = False
            restriction = "files" if route.serves_files else "documentation"
        terms = self._terms.get((route, matching, by_default))
        if terms is None:
            policy = route_policy(
                default_lifetime=self._settings.cache_expiration if by_default else 0.0,
                rules=matching,
                control=route.control if route is not None else None,
            )
            if len(self._terms) >= _MOST_TERMS:
                self._terms.clear()
            # A hit would skip a check of credentials: never cached implicitly.
            guarded = route is not None and route.has_security and policy.vary_by is None
            if guarded:
                restriction = "security"
            if route is not None and route.reads_all_headers and policy.vary_by is None:
                policy, restriction = replace(policy, cache=False), "headers"
            lifetime = 0.0 if guarded else policy.default_lifetime
            keyed = () if route is None else route.declared_fields
            rules = self._rules_with(lifetime, declared=policy.lifetime_is_declared, keyed=keyed)
            counts = self.tally.of_route(route.template if route is not None else None)
            terms = Terms(
                route, policy, rules, counts=counts, matching=matching, restriction=restriction
            )
            self._terms[route, matching, by_default] = terms
        return terms

    def _rules_with(self, lifetime: float, *, declared: bool, keyed: tuple[bytes, ...]) -> Policy:
        """Return the rules with a default lifetime; an application declares only a few."""
        rules = self._rules_memo.get((lifetime, declared, keyed))
        if rules is None:
            rules = replace(
                self._base_rules,
                default_lifetime=lifetime,
                lifetime_is_declared=declared,
                keyed_fields=keyed,
            )
            self._rules_memo[lifetime, declared, keyed] = rules
        return rules

    def _search(self, identity: tuple[Any, ...]) -> Search:
        """Return the search that all queries of the path share."""
        if not identity[1]:
            return self._searches.get(identity) or Search()
        bare = (identity[0], b"", *identity[2:])
        search = self._searches.get(bare)
        if search is None:
            target = self._targets.get(bare)
            search = Search() if target is None else target.search
            self._searches.remember(bare, search)
        return search

    def _policy_of(self, route: RouteInfo) -> RoutePolicy:
        """Return the policy of a route, by the rules that match its template."""
        # Only a rule for any depth is about all paths of a parameter that takes slashes.
        path = route.template.replace(":path}", "}" + "/{}" * _DEEPEST)
        match = RouteMatch(route=route, path=path, params={})
        default = takes_default(path, b"")
        return self._terms_at(path, path, match, by_default=default).policy

    def _watch_routes(self, scope: Mapping[str, Any]) -> None:
        """Read the routes when they are first needed, and again when some were added."""
        if self._router is None:
            self._router = router_of(self._app) or router_of(scope.get("app"))
            if self._router is None and self._routes is None:
                self._router = hidden_router(self._app)
        lists = [routes_in(router) or () for router in (self._router, *self._others)]
        read = [(id(routes), len(routes)) for routes in lists]
        if self._routes is not None and read == self._routes_read and self.overrides.hold():
            return
        self._routes = self._table_of(lists)
        self.overrides = Overrides(self._routes, self.overrides)
        self._routes_read, self._lists_read = read, lists
        self.generation += 1
        self._targets.clear()
        self._touched.clear()
        self._terms.clear()
        self._route_groups = RouteGroups(self._routes, self._settings.cache_purge, self._policy_of)
        self._name_orphans(tuple(route.template for route in self._route_groups.orphans))

    def _table_of(self, lists: Sequence[Sequence[Any]]) -> RouteTable:
        """Return the table of all routers; at a host, those of its own router come first."""
        if not self._others:
            return table_of(self._app, lists[0])
        tables = {id(routes): read_routes(routes).of_router(id(routes)) for routes in lists}
        self._tables = tables
        at_hosts = [
            route
            for host, router in self._at_hosts.items()
            if (table := tables.get(id(routes_in(router)))) is not None
            for route in table.at_host(host)
        ]
        rest = [route for table in tables.values() for route in table.routes]
        return RouteTable([*at_hosts, *rest])

    def _name_orphans(self, orphans: tuple[str, ...]) -> None:
        if orphans and orphans != self._named_orphans:
            logger.warning(
                "No write is known for %d cached routes, so that every write purges them: %s. "
                "State ttl=, tags= or isolated=True on each, by @cached or a Rule.",
                len(orphans), ", ".join(orphans),
            )  # fmt: skip
        self._named_orphans = orphans


def _is_foreign(route: RouteInfo | None, scope: Mapping[str, Any]) -> bool:
    """Return whether another router than the route's has answered, where several are known.

    Two applications may have the same endpoint, with other checks.
    """
    if route is None or route.router is None:
        return False
    return route.router != id(routes_in(scope.get("router")))


def _merged(parts: Sequence[Touched]) -> Touched:
    """Return what a request purges that one of several routers answers."""
    first = next((part for part in parts if part.is_known), parts[0])
    groups = dict.fromkeys(group for part in parts for group in part.groups)
    return replace(first, groups=tuple(groups)) if len(parts) > 1 else first


def _name_of(app: Any) -> str:
    """Return the name by which an application is known to its author."""
    return f"{app.__module__}.{getattr(app, '__qualname__', app.__class__.__qualname__)}"


def _policy(settings: CacheSettings) -> Policy:
    """Return the rules that the settings make, before rules and decorators are asked."""
    return Policy(
        default_lifetime=settings.cache_expiration,
        heuristic_fraction=settings.cache_heuristic_fraction,
        obey_request_directives=settings.cache_obey_request_directives,
        store_set_cookie=settings.cache_store_set_cookie,
        store_server_errors=settings.cache_store_server_errors,
        store_client_errors=settings.cache_store_client_errors,
        stale_if_error=settings.cache_stale_if_error,
        stale_while_revalidate=settings.cache_stale_while_revalidate,
        exchange_fields=frozenset(n.lower().encode() for n in settings.cache_exchange_headers),
        store_partial=settings.cache_store_partial,
        language_order=settings.cache_language_order,
        language_select=settings.cache_language_select,
    )


def _server(scope: Mapping[str, Any]) -> bytes:
    """Return the server's address, which replaces a missing Host (HTTP/1.0)."""
    server = scope.get("server")
    return f"{server[0]}:{server[1]}".encode() if server else b""


def formatted(tag: str, match: RouteMatch | None) -> str:
    """Return the tag with path parameters filled in; unknown names stay as they are."""
    params: Mapping[str, str] = {} if match is None else match.params
    return _BRACES.sub(lambda name: params.get(name[1], name[0]), tag)
