"""Route map: the groups of each read of an application, and the reads that each write purges.

Each template becomes a sample path. A parameter's value depends on its position only, so that
`{id}` of one route meets `{item_id}` of another. The map shows the names again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from maxage.cache.target import Target
from maxage.cache.targets import Targets
from maxage.cache.terms import Terms
from maxage.invalidation.group_names import ORPHAN_GROUP
from maxage.middleware import CacheMiddleware
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.routing.route_table import RouteInfo
from maxage.store.tokens import NAMESPACE_GROUP

_PARAMETER: Final = re.compile(r"\{(\w+)(?::(\w+))?\}")
_ANY_METHOD: Final = "any method"
_FIRST_VALUE: Final = 90_000
_MOST_LAYERS: Final = 64
"""Middleware of one application that is looked through."""
_LEGEND: Final = """\
p: a path and all paths beneath it, c: a path alone, with its queries, m: all values of a parameter,
o: all orphans, the reads that no write is known for, g: a tag, n: everything.
Not shown: tags that a response names itself, and objects read through the typed cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedRead:
    """A route that answers GET."""

    path: str
    """Its template."""
    groups: tuple[str, ...]
    """The groups of its responses, with the names of parameters in them."""
    cached: bool
    """False: its responses are never cached."""
    orphan: bool
    """Whether every write purges it, since no write is known for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedWrite:
    """A route that may change something."""

    methods: tuple[str, ...]
    path: str
    """Its template."""
    groups: tuple[str, ...]
    """The groups that it purges."""
    reads: tuple[str, ...]
    """The templates of the reads in one of these groups."""
    shared: tuple[str, ...]
    """For each of these reads the group that it shares with the write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMap:
    """All routes of an application, in their order. `str()` gives a text for people."""

    reads: tuple[MappedRead, ...]
    writes: tuple[MappedWrite, ...]

    @property
    def orphans(self) -> tuple[str, ...]:
        """The templates of the reads that every write purges, since no write is known for them."""
        return tuple(read.path for read in self.reads if read.orphan)

    def __str__(self) -> str:
        width = max((len(read.path) for read in self.reads), default=0)
        lines = ["Reads, and the groups that their responses are in", ""]
        for read in self.reads:
            said = "  ".join(read.groups) if read.cached else "never cached"
            lines.append(f"  {read.path:{width}}  {said}".rstrip())
        lines += ["", "Writes, and the reads that they purge"]
        for write in self.writes:
            lines += ["", f"  {', '.join(write.methods)} {write.path}"]
            shared = zip(write.reads, write.shared, strict=True)
            lines += [f"      {path:{width}}  by {group}" for path, group in shared]
            if not write.reads:
                lines.append(f"      none; it purges {'  '.join(write.groups) or 'nothing'}")
        return "\n".join([*lines, "", _LEGEND])


def route_map(app: Any) -> RouteMap:
    """Return the map of an ASGI application, by its routes, decorators and rules."""
    return map_of(targets_of(app))


def map_of(targets: Targets) -> RouteMap:
    """Return the map of the application that these targets belong to."""
    table = targets.routes.table(scope_of("GET", "/"))
    reads: list[MappedRead] = []
    found: dict[str, frozenset[str]] = {}
    for route in table.routes:
        if route.accepts("GET"):
            _, _, names = _sample(route)
            target = sample_target(targets, route)
            groups = [group for group in target.groups if group != NAMESPACE_GROUP]
            read = MappedRead(
                path=title_of(route),
                groups=_named(groups, names),
                cached=target.policy.cache,
                orphan=ORPHAN_GROUP in groups,
            )
            reads.append(read)
            found[read.path] = frozenset(target.groups) if read.cached else frozenset()
    writes = tuple(_write(targets, route, found) for route in table.routes if unsafe_methods(route))
    return RouteMap(reads=tuple(reads), writes=writes)


def mapped_write(known: RouteMap, route: RouteInfo, method: str) -> MappedWrite | None:
    """Return the entry of a route for one of its methods; None: it has none."""
    path, methods = title_of(route), {method, _ANY_METHOD}
    found = (one for one in known.writes if one.path == path and methods.intersection(one.methods))
    return next(found, None)


def targets_of(app: Any) -> Targets:
    """Return the targets of the application's cache, or of a default cache where it has none."""
    return middleware_of(app)[0].targets


def middleware_of(app: Any) -> tuple[CacheMiddleware, Any]:
    """Return the application's cache, and the application that holds it.

    The cache is the one that answers requests, where the application has begun to, or else a new
    one with the same settings and rules. An application without a cache gets a default one.
    """
    if isinstance(app, CacheMiddleware):
        return app, None
    layer = getattr(app, "middleware_stack", None)
    for _ in range(_MOST_LAYERS):
        if layer is None or isinstance(layer, CacheMiddleware):
            break
        layer = getattr(layer, "app", None)
    if isinstance(layer, CacheMiddleware):
        return layer, app
    for one in getattr(app, "user_middleware", ()):
        if one.cls is CacheMiddleware:
            return CacheMiddleware(app, *one.args, **one.kwargs), app
    inner = getattr(app, "app", None)
    return middleware_of(inner) if inner is not None else (CacheMiddleware(app), None)


def scope_of(method: str, target: str) -> dict[str, Any]:
    """Return the part of a request's scope on which groups depend."""
    path, _, query = target.partition("?")
    return {
        "type": "http", "method": method, "scheme": "http", "path": path,
        "query_string": query.encode(), "headers": [],
    }  # fmt: skip


def _write(targets: Targets, route: RouteInfo, reads: Mapping[str, frozenset[str]]) -> MappedWrite:
    methods = unsafe_methods(route)
    sample, host, names = _sample(route)
    groups = targets.touched(scope_of(methods[0], sample), _headers(host)).groups
    shared = {path: [g for g in groups if g in its] for path, its in reads.items()}
    return MappedWrite(
        methods=methods if route.methods is not None else (_ANY_METHOD,),
        path=title_of(route),
        groups=_named(groups, names),
        reads=tuple(path for path, both in shared.items() if both),
        shared=_named((both[0] for both in shared.values() if both), names),
    )


def sample_target(targets: Targets, route: RouteInfo) -> Target:
    """Return the target of a GET of a route, with sample values in its path."""
    sample, host, _ = _sample(route)
    return targets.find(scope_of("GET", sample), _headers(host))


def sample_terms(targets: Targets, route: RouteInfo, method: str) -> Terms:
    """Return the terms of a request with this method to a route."""
    sample, host, _ = _sample(route)
    return targets.terms_of(scope_of(method, sample), _headers(host))


def unsafe_methods(route: RouteInfo) -> tuple[str, ...]:
    """Return the methods of a route that may change something, in order; files have none."""
    methods = ("POST",) if route.methods is None else route.methods
    if route.serves_files:
        return ()
    return tuple(sorted(method for method in methods if is_unsafe(method)))


def title_of(route: RouteInfo) -> str:
    """Return host and template of a route, without the types of its parameters."""
    return route.host + _PARAMETER.sub(r"{\1}", route.template)


def _headers(host: str) -> Headers:
    return Headers(((b"host", host.encode("latin-1", "replace")),))


def _sample(route: RouteInfo) -> tuple[str, str, Mapping[str, str]]:
    """Return a sample path of the route, its host, and the name of each value in that path."""
    names: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        number = _FIRST_VALUE + 10 * route.template.count("/", 0, found.start()) + len(names)
        made = f"00000000-0000-4000-8000-{number:012}" if found[2] == "uuid" else str(number)
        names[made] = "{" + found[1] + "}"
        return made

    return _PARAMETER.sub(value, route.template), _PARAMETER.sub(r"\1", route.host), names


def _named(groups: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    shown = list(groups)
    for value, name in names.items():
        shown = [group.replace(value, name) for group in shown]
    return tuple(shown)
