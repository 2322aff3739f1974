"""What the router knows before it is asked: templates, groups, security, declared parameters.

The route of a request is only known once the router has run, and a cache answers before that. So
the routes are read once (`router`), and matched here the way Starlette matches them: in order, the
first whole match wins.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, final

from msgspec import Struct

from maxage.policy import Control
from maxage.store.tokens import collection_group, path_group

Canonical = Callable[[str], str]
"""Gives the one spelling of a path parameter's value, so that `05` and `5` name one resource."""

_MAX_DEPTH: Final = 32
"""Segments of a path without a route that have a group of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySource:
    """Where a route's security scheme finds its credentials."""

    place: str
    """`header`, `query` or `cookie`."""
    name: str
    """Lower case for headers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteInfo:
    """One route as the cache sees it; the same one only if it stands in the same place."""

    template: str
    methods: frozenset[str] | None
    """None: every method (a mounted application)."""
    origin: object = None
    """The application's own route; a router that is included twice shows each of its own twice."""
    opaque: bool = False
    """A mounted application whose routes cannot be read; its paths are taken by their segments."""
    control: Control | None = None
    has_security: bool = False
    """Whether a dependency checks credentials: a hit would skip it."""
    security: tuple[SecuritySource, ...] = ()
    header_names: tuple[bytes, ...] = ()
    """Header parameters that its dependencies declare, lower case, sorted."""
    cookie_names: tuple[str, ...] = ()
    query_names: frozenset[str] | None = None
    """Query parameters it declares; None where that cannot be known."""
    canonical: Mapping[str, Canonical] = field(default_factory=dict[str, Canonical])
    regex: re.Pattern[str]
    host: str = ""
    """The pattern of the host that it is for; empty: any."""
    host_regex: re.Pattern[str] | None = None

    def accepts(self, method: str) -> bool:
        """Return whether the route answers this method."""
        return self.methods is None or method in self.methods


class RouteMatch(Struct, frozen=True, kw_only=True):
    """A path laid against the template of its route."""

    route: RouteInfo
    path: str
    """The path with each parameter in its canonical spelling, without a trailing slash."""
    params: Mapping[str, str]
    """Path parameters in their canonical spelling."""

    @property
    def members(self) -> frozenset[str]:
        """The paths, this one or above it, that end in a parameter."""
        segments = _split(self.route.template)
        return frozenset(
            _fill(segments[: i + 1], self) for i, s in enumerate(segments) if _is_parameter(s)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the groups of a route's paths have in common, and how the others are made."""

    above: tuple[str, ...]
    """The groups of the paths above that have no parameter, all but the root."""
    stem: str
    """What the groups of the paths beneath these begin with."""
    fixed_views: tuple[str, ...]
    """The groups of the collections that it is a view of, as far as these have no parameter."""
    filled_views: tuple[list[str], ...]
    """The templates of the other ones, by their segments."""
    is_tree: bool

    def views(self, found: RouteMatch) -> Sequence[str]:
        """Return the collections that the path shows a view of: itself, or a fixed name beneath."""
        if not self.filled_views:
            return self.fixed_views
        return [*self.fixed_views, *(collection_group(_fill(v, found)) for v in self.filled_views)]


def _planned(template: str, views: Sequence[list[str]]) -> _Plan:
    # Not the last segment: what a path ends with is its own.
    above = list(takewhile(lambda segment: not _is_parameter(segment), _split(template)[:-1]))
    fixed = [view for view in views if not any(map(_is_parameter, view))]
    return _Plan(
        above=tuple(path_group(prefix) for prefix in _prefixes("/".join(above))[1:]),
        stem=path_group("/".join(above)).rstrip("/"),
        fixed_views=tuple(collection_group("/".join(view)) for view in fixed),
        # A collection with a parameter stands behind all that have none.
        filled_views=tuple(views[len(fixed) :]),
        is_tree=_spans_segments(template),
    )


@final
class RouteTable:
    """All routes of an application, in the order in which its router tries them."""

    def __init__(self, routes: Sequence[RouteInfo]) -> None:
        self.routes: Final = tuple(routes)
        named = {method for route in self.routes for method in route.methods or ()}
        self._by_method: Final = {
            method: tuple(route for route in self.routes if route.accepts(method))
            for method in named
        }
        self._of_any_method: Final = tuple(r for r in self.routes if r.methods is None)
        self._at_root: Final = tuple(r for r in self.routes if r.regex.match("/"))
        self._has_root: Final = any(route.host_regex is None for route in self._at_root)
        self._writing: Final = tuple(
            _split(route.template)
            for route in self.routes
            if not route.opaque and not (route.methods is not None and route.methods <= _SAFE)
        )
        self._by_origin: Final[dict[int, list[RouteInfo]]] = {}
        for route in self.routes:
            if route.origin is not None:
                # By its identity: Starlette's routes are equal to others, and have no hash.
                self._by_origin.setdefault(id(route.origin), []).append(route)
        self._reads: Final = frozenset(_shape(r.template) for r in self.routes if r.accepts("GET"))
        self._plans: Final[dict[RouteInfo, _Plan]] = {}

    def match(self, method: str, path: str, host: str = "") -> RouteMatch | None:
        """Return the route that answers, or None where the router has none for it."""
        for route in self._by_method.get(method, self._of_any_method):
            laid = route.regex.match(path)
            if laid is not None and _is_for(route, host):
                return _match(route, path, laid)
        return None

    def allowed(self, path: str, host: str = "") -> bool:
        """Return whether any route, whatever its methods, has this path."""
        return any(_is_for(route, host) and route.regex.match(path) for route in self.routes)

    def groups_of(self, found: RouteMatch, host: str = "") -> tuple[str, ...]:
        """Return the groups that a stored response of this path belongs to.

        Its own path, each path above it (a purge of that takes what lies beneath), and the
        collections that it is a view of.
        """
        if found.route.opaque:
            return fallback_groups(found.path)
        plan, segments = self._plan(found.route), _split(found.path)
        # Every path lies beneath the root.
        groups = [_ROOT_GROUP] if not segments or self._allows_root(host) else []
        groups += plan.above
        group = plan.stem
        for segment in segments[len(plan.above) :]:
            group = f"{group}/{segment}"
            groups.append(group)
        if plan.is_tree:
            # It may list what lies beneath it, as a directory does.
            groups.append(collection_group(found.path))
        groups += plan.views(found)
        return tuple(dict.fromkeys(groups))

    def _allows_root(self, host: str) -> bool:
        """Return what `allowed` says of the root."""
        return self._has_root or any(_is_for(route, host) for route in self._at_root)

    def touched_by(self, found: RouteMatch) -> tuple[str, ...]:
        """Return the groups that a mutating request to this path purges.

        The path with all that lies beneath it and, by the kind of route: a member touches the views
        of its collection; an action (`POST /items/5/publish`, with no GET of its own) the member or
        collection it acts on. A router that is included under two prefixes shows one thing in two
        places, so that each place is touched.
        """
        places = (found, *self._elsewhere(found))
        return tuple(dict.fromkeys(group for place in places for group in self._touched(place)))

    def _touched(self, found: RouteMatch) -> Iterator[str]:
        if found.route.opaque:
            yield from fallback_touched(found.path)
            return
        yield path_group(found.path)
        segments = _split(found.route.template)
        if segments and _is_parameter(segments[-1]):
            yield collection_group(_fill(segments[:-1], found))
            if _spans_segments(found.route.template):
                yield collection_group(_parent(found.path))
        elif not self._is_read(found.route.template):
            yield from self._acted_upon(found, segments)
        yield from self._plan(found.route).views(found)

    def _elsewhere(self, found: RouteMatch) -> Iterator[RouteMatch]:
        """Yield the other places of the same route whose path is known from this one's."""
        for route in self._by_origin.get(id(found.route.origin), ()):
            if route is found.route:
                continue
            segments = _split(route.template)
            names = {name for segment in segments for name in _PARAMETER.findall(segment)}
            if names <= found.params.keys():
                path = _fill(segments, found)
                yield RouteMatch(route=route, path=path, params=found.params)

    def _acted_upon(self, found: RouteMatch, segments: Sequence[str]) -> Iterator[str]:
        """Yield the groups of the nearest member, or else of the nearest collection, above."""
        members = found.members
        for prefix in reversed(_prefixes(found.path)[1:-1]):
            if prefix in members:
                yield path_group(prefix)
                yield collection_group(_parent(prefix))
                return
        for length in range(len(segments) - 1, 0, -1):
            # By template: `/items/bulk` is no item, though `/items/{id}` happens to match it.
            if self._is_read("/".join(segments[:length])):
                yield path_group(_fill(segments[:length], found))
                return

    def _plan(self, route: RouteInfo) -> _Plan:
        plan = self._plans.get(route)
        if plan is None:
            segments = _split(route.template)
            plan = _planned(route.template, list(self._collections_of(segments)))
            self._plans[route] = plan
        return plan

    def _collections_of(self, segments: list[str]) -> Iterator[list[str]]:
        """Yield the collections that a template shows a view of, as the segments of each."""
        for length in range(len(segments) + 1):
            beneath = segments[length:]
            if not (beneath and _is_parameter(beneath[0])) and self._is_collection(
                segments[:length]
            ):
                yield segments[:length]

    def _is_collection(self, segments: Sequence[str]) -> bool:
        """Return whether some mutating route is about a member directly beneath the template."""
        return any(
            len(writing) > len(segments)
            and _is_parameter(writing[len(segments)])
            and all(map(_overlap, writing, segments))
            for writing in self._writing
        )

    def _is_read(self, template: str) -> bool:
        """Return whether there is a GET of the same template; a catch-all route is none of it."""
        return _shape(template) in self._reads


_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_ROOT_GROUP: Final = path_group("/")


def fallback_groups(path: str) -> tuple[str, ...]:
    """Return the groups of a path without a known route: each path above it, and itself as list."""
    return (*(path_group(p) for p in _prefixes(path)[-_MAX_DEPTH:]), collection_group(path))


def fallback_touched(path: str) -> tuple[str, ...]:
    """Return what a mutating request to a path without a known route purges."""
    return (path_group(path), collection_group(_parent(path)), collection_group(path))


def _is_for(route: RouteInfo, host: str) -> bool:
    return route.host_regex is None or route.host_regex.match(host) is not None


def _match(route: RouteInfo, path: str, laid: re.Match[str]) -> RouteMatch:
    params = laid.groupdict()
    if params:
        spelled = {name: _spelled(route, name, value) for name, value in params.items()}
        if spelled != params:
            params, path = spelled, _with_params(path, laid, spelled)
    return RouteMatch(route=route, path="/" + path.strip("/"), params=params)


def _with_params(path: str, laid: re.Match[str], params: Mapping[str, str]) -> str:
    """Return the path with each parameter in its canonical spelling."""
    pieces: list[str] = []
    last = 0
    for name, value in params.items():
        start, end = laid.span(name)
        pieces += (path[last:start], value)
        last = end
    return "".join(pieces) + path[last:]


def _spelled(route: RouteInfo, name: str, value: str) -> str:
    canonical = route.canonical.get(name)
    if canonical is None:
        return value
    try:
        return canonical(value)
    except Exception:  # noqa: BLE001 - the application's own validators
        # What the route itself will refuse keeps its spelling.
        return value


def _split(template: str) -> list[str]:
    return [segment for segment in template.split("/") if segment]


def _shape(template: str) -> tuple[str, ...]:
    """Return the segments of a template without the names of its parameters."""
    return tuple(_PARAMETER.sub("{}", segment) for segment in _split(template))


def _is_parameter(segment: str) -> bool:
    return "{" in segment


def _spans_segments(template: str) -> bool:
    """Return whether the template ends in a parameter that takes slashes (`{name:path}`)."""
    return template.endswith(":path}")


def _overlap(a: str, b: str) -> bool:
    """Return whether one segment can stand for both template segments."""
    return a == b or _is_parameter(a) or _is_parameter(b)


_PARAMETER = re.compile(r"\{([^{}:]+)(?::[^{}]*)?\}")


def _fill(segments: Sequence[str], found: RouteMatch) -> str:
    """Return the path that the template's first segments stand for in this request."""
    template = "/" + "/".join(segments)
    return _PARAMETER.sub(lambda name: found.params.get(name[1], name[0]), template)


def _prefixes(path: str) -> list[str]:
    """Return every path above `path`, the root first, and itself last."""
    segments = _split(path)
    return ["/" + "/".join(segments[:length]) for length in range(len(segments) + 1)]


def _parent(path: str) -> str:
    return "/" + "/".join(_split(path)[:-1])
