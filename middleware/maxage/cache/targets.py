"""Targets: find key, policy and groups of a URL before it is looked up."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import unquote

from msgspec.structs import replace

from maxage.cache.bounded_memo import MOST_WEIGHT, BoundedMemo
from maxage.cache.key import (
    FORWARDED_HEADERS,
    Site,
    declared_query,
    forwarded_parts,
    host_name,
)
from maxage.cache.known_routes import KnownRoutes
from maxage.cache.machine import is_loopback, machine_name
from maxage.cache.target import Search, Target, Touched
from maxage.cache.terms import DEEPEST, Terms, TermsFinder
from maxage.invalidation.group_names import named_groups, path_group, tag_group
from maxage.invalidation.groups import RouteGroups, fallback_groups
from maxage.invalidation.root_paths import RootPaths, beneath
from maxage.observe.counters import RouteCounts, begin_counting
from maxage.redis_url import server_url
from maxage.rfc9111.message import Headers
from maxage.routing.default_lifetime import takes_default
from maxage.routing.route_policy import Rule
from maxage.routing.route_table import Routed, RouteInfo, RouteMatch, RouteTable, routed
from maxage.routing.template import pattern_of
from maxage.store.tokens import NAMESPACE_GROUP

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

_MOST_BESIDE_COPIES: Final = 512
"""Targets that are remembered where a near cache answers most requests without one."""
_MOST_WRITTEN: Final = 512
"""Written URLs whose groups are remembered: more would let a process grow for an hour."""
_MOST_SITES: Final = 64
"""Sites that are remembered."""
_Sited = tuple[str, str, bytes, str, tuple[bytes, ...]]
"""Method, scheme, host, root path, and what `forwarded_parts` gives."""
_Identity = tuple[bytes, bytes, bytes, bytes]
"""The name of a site, the query, the raw path and the decoded path."""
_BRACES: Final = re.compile(r"\{(\w+)\}")


@final
class Targets:
    """Finds the target of a request; remembers a bounded number of them."""

    def __init__(
        self, settings: "CacheSettings", rules: Sequence[Rule], app: Any, *, instance: int
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
        self._settings: Final = settings
        self._keys_declared: Final = settings.cache_keyed_query == "declared"
        self._app: Final = app
        self.routes: Final = KnownRoutes(app, self._use)
        self._terms: Final = TermsFinder(settings, rules, self.tally)
        self._route_groups: RouteGroups | None = None
        self._targets: BoundedMemo[Target] = BoundedMemo()
        self._taught: BoundedMemo[Target] = BoundedMemo()
        """Targets that a response taught something which a new target would not know."""
        self._most_targets: Final = (
            _MOST_BESIDE_COPIES if settings.cache_near_bytes else MOST_WEIGHT
        )
        self._sites: Final[dict[_Sited, Site]] = {}
        self._searches: BoundedMemo[Search] = BoundedMemo()
        """Searches of paths requested with a query, by the URL without one."""
        self._touched: BoundedMemo[Touched] = BoundedMemo()
        self._root_paths: Final = RootPaths()
        self._told: Final[dict[str, tuple[str, ...]]] = {}
        """The templates of each kind that the log has named last."""

    def _use(self, table: RouteTable) -> None:
        """Find targets by these routes from now on."""
        self._terms.forget()
        mode, policy_of = self._settings.cache_purge, self._terms.policy_of
        self._route_groups = groups = RouteGroups(table, mode, policy_of)
        # What other threads have found meanwhile has the groups of before.
        self._terms.forget()
        for found in (self._sites, self._targets, self._taught, self._touched):
            found.clear()
        self._name_orphans(tuple(route.template for route in groups.orphans))
        self._name_operations(tuple(pattern_of(route.template) for route in groups.operations))

    def find(self, scope: Mapping[str, Any], headers: Headers) -> Target:
        """Return the target of a QUERY, or of a GET or HEAD of that URL."""
        forwarded: tuple[bytes, ...] = ()
        if headers.has_any(FORWARDED_HEADERS):
            forwarded = forwarded_parts(headers.raw)
        return self.at_host(scope, headers.combined(b"host") or _server(scope), forwarded)

    def at_host(
        self, scope: Mapping[str, Any], host: bytes, forwarded: tuple[bytes, ...] = ()
    ) -> Target:
        """Return the target of a request with this Host.

        `forwarded` is what `forwarded_parts` gives of its fields.
        """
        self.routes.watch(scope)
        site = self.site(scope, host, forwarded)
        path = scope["path"].encode("utf-8", "surrogatepass")
        raw_path = scope.get("raw_path") or path
        # One object where nothing in it is encoded.
        path = raw_path if raw_path == path else path
        identity = (site.name, scope.get("query_string", b""), raw_path, path)
        target = self._targets.get(identity)
        if target is None and self._taught:
            target = self._taught.get(identity)
        if target is None:
            target = self._new(identity, site, scope)
            for forgotten, other in self._targets.remember(identity, target, self._most_targets):
                if other.is_taught:
                    self._taught.remember(forgotten, other)
        return target

    def site(
        self, scope: Mapping[str, Any], host: bytes, forwarded: tuple[bytes, ...] = ()
    ) -> Site:
        """Return the site of a request with this Host; see `at_host`."""
        known = (
            scope["method"], scope.get("scheme", "http"), host, scope.get("root_path", ""),
            forwarded,
        )  # fmt: skip
        return self._sites.get(known) or self._new_site(known, self._root_path(scope))

    def _new_site(self, known: _Sited, inner_root: str) -> Site:
        method, scheme, host, root_path, forwarded = known
        namespace, release = self._named
        machine = self._machine if is_loopback(host) else ""
        site = Site(
            namespace,
            release + self.routes.overrides.name + machine,
            "QUERY" if method == "QUERY" else "GET",
            scheme.encode(),
            host,
            str(root_path).encode("utf-8", "surrogatepass"),
            forwarded,
            inner_root=inner_root,
        )
        if len(self._sites) >= _MOST_SITES:
            self._sites.clear()
        self._sites[known] = site
        return site

    def _new(self, identity: _Identity, site: Site, scope: Mapping[str, Any]) -> Target:
        _, query, raw_path, path = identity
        shown = inner = scope["path"]
        if site.inner_root:
            inner = beneath(shown, site.inner_root)
        by_default = takes_default(inner, query, self._terms.secrets)
        groups: tuple[str, ...]
        if shown.count("/") > DEEPEST:
            groups = (NAMESPACE_GROUP,)
            terms = self._terms.of_deep(shown, inner, by_default=by_default)
        else:
            match = self.routes.last_table.match(site.method, inner, site.host_name)
            terms = self._terms.at(shown, inner, match, by_default=by_default)
            groups = self._groups(inner, match, site.host_name, terms)
        if self._keys_declared and terms.route is not None and terms.route.query_names is not None:
            query = declared_query(query, terms.route.query_names)
        # By position, in the order of its fields: by name it takes five times as long.
        return Target(
            site, raw_path, path, query, site.key(raw_path, query, path), terms, terms.route,
            terms.policy, terms.rules,
            self.count_url(terms.counts, scope) if self.count_url else terms.counts,
            groups, self.routes.generation, inner,
            self._search(identity) if query or self._searches else Search(),
            groups + terms.tables, terms.tables, terms.answers_others,
        )  # fmt: skip

    def _groups(
        self, inner: str, match: RouteMatch | None, host: str, terms: Terms
    ) -> tuple[str, ...]:
        """Return the groups that responses of a path belong to."""
        groups: tuple[str, ...]
        if match is None or self._route_groups is None:
            groups = (NAMESPACE_GROUP, *fallback_groups(inner))
        else:
            paths = terms.path_groups
            if paths is None:
                paths = self._route_groups.path_groups(match.route, terms.policy)
                terms.path_groups = paths
            groups = paths.of(match, host)
        tags = terms.policy.tags
        if not tags:
            return groups
        return (*groups, *dict.fromkeys(tag_group(formatted(tag, match)) for tag in tags))

    def _search(self, identity: _Identity) -> Search:
        """Return the search that all queries of the path share."""
        site, query, *path = identity
        if not query:
            return self._searches.get(identity) or Search()
        bare = (site, b"", *path)
        search = self._searches.get(bare)
        if search is None:
            target = self._targets.get(bare) or self._taught.get(bare)
            search = Search() if target is None else target.search
            self._searches.remember(bare, search)
        return search

    def routed(self, route: RouteInfo, scope: Mapping[str, Any]) -> Routed | None:
        """Return what the application's router adds to the scope of a request of this route."""
        return routed(route, self._inner_path(scope))

    def match(self, scope: Mapping[str, Any], headers: Headers) -> RouteMatch | None:
        """Return the route that answers a request, where there is one."""
        host = host_name(headers.first(b"host") or b"")
        return self.routes.table(scope).match(scope["method"], self._inner_path(scope), host)

    def touched(self, scope: Mapping[str, Any], headers: Headers, router: Any = None) -> Touched:
        """Return the groups that a mutating request purges.

        `router` is the one that has answered; None: it is unknown, and may be each that is known.
        """
        table = self.routes.table(scope)
        # Mostly this is the only use of these headers: an index of them would cost more.
        host = b""
        for name, value in headers.raw:
            if name.lower() == b"host":
                host = value
                break
        tables = self.routes.tables_of(router) or (table,)
        at = (scope["method"], self._inner_path(scope), host)
        one = tables[0] if len(tables) == 1 else table
        identity = at if one is table else (*at, str(id(one)))
        touched = self._touched.get(identity)
        if touched is None:
            touched = _merged([self._touched_at(*at, known) for known in tables])
            self._touched.remember(identity, touched, _MOST_WRITTEN)
        return touched

    def terms_of(self, scope: Mapping[str, Any], headers: Headers) -> Terms:
        """Return what holds for a request of any method."""
        path = self._inner_path(scope)
        return self._terms.at(path, path, self.match(scope, headers))

    def _touched_at(self, method: str, path: str, host: bytes, routes: RouteTable) -> Touched:
        match = routes.match(method, path, host_name(host))
        policy = self._terms.at(path, path, match).policy
        groups: tuple[str, ...] = ()
        reads = 0
        if self._route_groups is not None and not policy.only:
            at = match
            if at is None and self._route_groups.mode == "matching":
                # A layer inside may know the method by another name: a form's or a header's.
                at = routes.match_any(path, host_name(host))
            spelled = [at] if at is None else routes.spellings(at, path, host_name(host))
            purged = (self._route_groups.touched_by(one, path) for one in spelled)
            groups = tuple(chain.from_iterable(purged))
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
        match = self.routes.table(scope).match("GET", decoded)
        spelled = decoded if match is None else match.path
        return (path_group(spelled),)

    def _inner_path(self, scope: Mapping[str, Any]) -> str:
        """Return the path as the router sees it.

        Groups are named by it: an application has the same groups under each of its root paths.
        """
        root_path = self._root_path(scope)
        return beneath(scope["path"], root_path) if root_path else scope["path"]

    def _root_path(self, scope: Mapping[str, Any]) -> str:
        # FastAPI puts its own root path into the scope, which one wrapped around it does not see.
        root_path = str(scope.get("root_path") or getattr(self._app, "root_path", "") or "")
        if root_path not in self._root_paths.seen:
            self._root_paths.note(root_path)
            self._touched.clear()
        return root_path

    def answers_head(self, scope: Mapping[str, Any], headers: Headers, target: Target) -> bool:
        """Return whether the route of the target's GET answers a HEAD too, as far as is known."""
        if not self.routes.table(scope).routes:
            return True
        match = self.match(scope, headers)
        return (None if match is None else match.route) is target.route

    def _name_orphans(self, orphans: tuple[str, ...]) -> None:
        if self._are_new("orphans", orphans):
            logger.warning(
                "No write is known for all that these cached routes show, so that every write "
                "purges them: %s. "
                "State ttl=, tags= or isolated=True on each, by @cached or a Rule.",
                ", ".join(dict.fromkeys(orphans)),
            )

    def _name_operations(self, operations: tuple[str, ...]) -> None:
        if self._are_new("operations", operations):
            logger.warning(
                "A POST to these paths may change anything, so that it purges all reads: %s. Name "
                "what it changes by @invalidates_only or Rule(path, invalidates_only=[...]).",
                ", ".join(operations),
            )

    def _are_new(self, kind: str, templates: tuple[str, ...]) -> bool:
        """Return whether the log is to name these: there are some, and others than before."""
        before, self._told[kind] = self._told.get(kind, ()), templates
        return bool(templates) and templates != before


def _merged(parts: Sequence[Touched]) -> Touched:
    """Return what a request purges that one of several routers answers."""
    first = next((part for part in parts if part.is_known), parts[0])
    groups = dict.fromkeys(group for part in parts for group in part.groups)
    return replace(first, groups=tuple(groups)) if len(parts) > 1 else first


def _server(scope: Mapping[str, Any]) -> bytes:
    """Return the server's address, which replaces a missing Host (HTTP/1.0)."""
    server = scope.get("server")
    return f"{server[0]}:{server[1]}".encode() if server else b""


def formatted(tag: str, match: RouteMatch | None) -> str:
    """Return the tag with path parameters filled in; unknown names stay as they are."""
    params: Mapping[str, str] = {} if match is None else match.params
    return _BRACES.sub(lambda name: params.get(name[1], name[0]), tag)
