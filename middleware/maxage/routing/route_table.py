"""Route table: the routes of an application with their templates and declared parameters.

A cache answers before the application's router runs. So the routes are read once (`router`) and
matched here as Starlette matches them: in order, the first full match wins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from msgspec import Struct, field
from msgspec.structs import replace
from starlette.convertors import Convertor

from maxage.routing.control import Control

Canonical = Callable[[str], str]
"""Returns the canonical spelling of a path parameter, so that `05` and `5` name one resource."""


Routed = tuple[object, object, Mapping[str, Any]]
"""The values of `route`, `endpoint` and `path_params` in the scope."""


class Dependency(Struct, frozen=True, kw_only=True):
    """A function or class that FastAPI calls for each request of a route, before its endpoint."""

    call: Any
    exits_late: bool
    """Whether its exit code, if it has any, runs after the answer was sent."""


class RouteInfo(Struct, frozen=True, kw_only=True, eq=False):
    """One route of an application, at one place of its router."""

    template: str
    methods: frozenset[str] | None
    """None: every method (a mounted application)."""
    origin: object = None
    """The application's route object. A router that is included twice shows each route twice."""
    endpoint: object = None
    """The function, class or mounted application that answers."""
    wired_by: object = None
    """The FastAPI application whose `dependency_overrides` it obeys."""
    router: int | None = None
    """Identity of the routes of its router, where there are several routers."""
    opaque: bool = False
    """Whether it is a mounted application with unknown routes."""
    is_documentation: bool = False
    """Whether it shows the routes, as FastAPI's `/docs` does: no write changes it."""
    control: Control | None = None
    serves_files: bool = False
    """Whether it serves static files."""
    has_security: bool = False
    """Whether a dependency checks credentials: a hit would skip it."""
    header_names: tuple[bytes, ...] = ()
    """Declared header parameters, lower case, sorted."""
    has_header_model: bool = False
    """Whether FastAPI looks for the fields of a header model in a copy of all headers."""
    reads_all_headers: bool = False
    """Whether every request header may change the answer: a header model allows or forbids extra
    fields, or a class of routes chooses by code of its own. Not cached without `vary_by`."""
    cookie_names: tuple[str, ...] = ()
    status_code: int | None = None
    """The one that it declares for its answers; None: none, which is 200."""
    dependencies: tuple[Dependency, ...] = ()
    """Those of FastAPI, as overridden; each as often as it is depended on."""
    query_names: frozenset[str] | None = None
    """Declared query parameters; None: any parameter may be read."""
    canonical: Mapping[str, Canonical] = field(default_factory=dict[str, Canonical])
    convertors: Mapping[str, Convertor[Any]] = field(default_factory=dict[str, Convertor[Any]])
    """Of the path parameters, as the application's router converts them."""
    regex: re.Pattern[str]
    host: str = ""
    """Pattern of the hosts that it answers for; empty: any host."""
    host_regex: re.Pattern[str] | None = None

    @property
    def mounted_at(self) -> str:
        """The template's part in front of the path that the route itself was declared with."""
        declared = str(getattr(self.origin, "path", "")) or self.template
        return self.template.removesuffix(declared) if self.template.endswith(declared) else ""

    @property
    def declared_fields(self) -> tuple[bytes, ...]:
        """Names of the request fields that have declared parameters, lower case, sorted."""
        cookie = (b"cookie",) if self.cookie_names else ()
        return tuple(sorted({*self.header_names, *cookie}))

    def accepts(self, method: str) -> bool:
        """Return whether the route answers this method."""
        return self.methods is None or method in self.methods


class RouteMatch(Struct, frozen=True, gc=False):
    """A path, and the route that matches it."""

    route: RouteInfo
    path: str
    """The path with each parameter in its canonical spelling, without a trailing slash."""
    params: Mapping[str, str]
    """Path parameters in their canonical spelling."""


@final
class RouteTable:
    """All routes of an application, in the order of its router."""

    def __init__(self, routes: Sequence[RouteInfo]) -> None:
        self.routes: Final = tuple(routes)
        named = {method for route in self.routes for method in route.methods or ()}
        self._all: Final = _Candidates(self.routes)
        self._by_method: Final = {
            method: _Candidates([route for route in self.routes if route.accepts(method)])
            for method in named
        }
        self._of_any_method: Final = _Candidates([r for r in self.routes if r.methods is None])

    def match(self, method: str, path: str, host: str = "") -> RouteMatch | None:
        """Return the route that answers, or None where the router has none for it.

        Where the router has none for the path, but one for its other spelling, it redirects to
        that: the route is that one, so that a write names the same groups by both spellings.
        """
        candidates = self._by_method.get(method, self._of_any_method)
        found = candidates.first_match(path, host)
        if found is None and self._all.first_match(path, host) is None:
            found = candidates.first_match(_other_spelling(path), host)
        return found

    def spellings(self, match: RouteMatch, path: str, host: str = "") -> list[RouteMatch]:
        """Return a match as each route may spell its path that reads the same URL.

        One route may parse a parameter that another one takes as it stands: `05` is `5` to one.
        """
        if not match.params:
            return [match]
        read = self.match("GET", path, host)
        paths = {"/" + path.strip("/"): None, (read or match).path: None}
        others = [(one, match.route.regex.match(one)) for one in paths if one != match.path]
        return [
            match,
            *(
                RouteMatch(match.route, one, found.groupdict())
                for one, found in others
                if found is not None
            ),
        ]

    def of_router(self, router: int) -> "RouteTable":
        """Return the table of one router among several, by its identity."""
        return RouteTable([replace(route, router=router) for route in self.routes])

    def at_host(self, host: str) -> list[RouteInfo]:
        """Return the routes as they are at this host alone."""
        regex = re.compile(re.escape(host) + r"\Z")
        return [
            replace(route, host=host, host_regex=regex)
            for route in self.routes
            if is_for(route, host)
        ]

    def match_any(self, path: str, host: str = "") -> RouteMatch | None:
        """Return the first route of this path or its other spelling, whatever its methods."""
        found = self._all.first_match(path, host)
        return found or self._all.first_match(_other_spelling(path), host)


def _other_spelling(path: str) -> str:
    """Return the path without its slashes at the end, or with one if it has none."""
    return path.rstrip("/") if path.endswith("/") else path + "/"


_PLAIN_TEXT: Final = re.compile(r"\^((?:(?:[\w/]|\\\W)(?![?*+{]))*)(\$)?")
_ESCAPED: Final = re.compile(r"\\(\W)")


def _beginning(pattern: re.Pattern[str]) -> str:
    """Return how each path that a route's pattern matches begins, with a slash put at its end."""
    begins = _PLAIN_TEXT.match(pattern.pattern)
    if begins is None or "|" in pattern.pattern or pattern.flags & (re.IGNORECASE | re.VERBOSE):
        return ""
    return _ESCAPED.sub(r"\1", begins[1]) + ("/" if begins[2] else "")


_LAST_PARAMETER: Final = re.compile(r"\(\?P<(\w+)>\[\^/\]\+\)\$")


def _candidate(route: RouteInfo) -> tuple[str, bool, str, RouteInfo]:
    """Return how the paths of a route begin, what follows, and the route.

    What follows: whether it is nothing, and the name of a parameter that is one whole segment and
    the last; no name: something else may follow.
    """
    regex = route.regex
    beginning, plain = _beginning(regex), _PLAIN_TEXT.match(regex.pattern)
    if not beginning or plain is None:
        return "", False, "", route
    last = _LAST_PARAMETER.fullmatch(regex.pattern, plain.end())
    is_simple = last is not None and regex.flags == re.UNICODE and route.host_regex is None
    is_whole = plain.end() == len(regex.pattern) and bool(plain[2])
    return beginning, is_whole, last[1] if last is not None and is_simple else "", route


class _Candidates:
    """Routes in the order of their router, found by how a path begins.

    A look at a path's beginning takes a fifth of the time that a pattern takes.
    """

    def __init__(self, routes: Sequence[RouteInfo]) -> None:
        all_routes = list(map(_candidate, routes))
        begins = [start for start, _, _, _ in all_routes]
        segments = {start: start.split("/", 2)[1] for start in begins if "/" in start[1:]}
        self._others: Final = [one for one in all_routes if one[0] not in segments]
        """Those whose first segment has a parameter."""
        self._by_segment: Final = {
            segment: [one for one in all_routes if segments.get(one[0], segment) == segment]
            for segment in set(segments.values())
        }

    def first_match(self, path: str, host: str) -> RouteMatch | None:
        """Return the first route that matches the path at this host."""
        # The end of a pattern matches in front of a line's end too.
        slashed = path.removesuffix("\n") + "/"
        candidates = self._by_segment.get(slashed.split("/", 2)[1], self._others)
        for beginning, is_whole, last, route in candidates:
            if slashed == beginning if is_whole else slashed.startswith(beginning):
                if last:
                    # No pattern is needed.
                    value = path[len(beginning) :]
                    if value and "/" not in value:
                        return _route_match(route, path, {last: value})
                    continue
                matched = route.regex.match(path)
                if matched is not None and (route.host_regex is None or is_for(route, host)):
                    return _route_match(route, path, matched.groupdict())
        return None


def is_for(route: RouteInfo, host: str) -> bool:
    """Return whether the route answers requests for this host."""
    return route.host_regex is None or route.host_regex.match(host) is not None


def _route_match(route: RouteInfo, path: str, params: dict[str, str]) -> RouteMatch:
    """Return the match of a path with these parameters, which get their canonical spelling."""
    changed = False
    for name, canonical in route.canonical.items():
        value = params[name]
        try:
            spelled = canonical(value)
        except Exception:  # noqa: BLE001, S112 - the application's own validators
            # The route will refuse this value, so that any spelling will do.
            continue
        if spelled != value:
            params[name], changed = spelled, True
    if changed and (matched := route.regex.match(path)) is not None:
        path = _with_params(path, matched, params)
    return RouteMatch(route, "/" + path.strip("/"), params)


def _with_params(path: str, matched: re.Match[str], params: Mapping[str, str]) -> str:
    """Return the path with each parameter in its canonical spelling."""
    pieces: list[str] = []
    last = 0
    for name, value in params.items():
        start, end = matched.span(name)
        pieces += (path[last:start], value)
        last = end
    return "".join(pieces) + path[last:]


def routed(route: RouteInfo, path: str) -> Routed | None:
    """Return what the application's router adds to the scope of a request for this path."""
    matched = route.regex.match(path)
    if route.opaque or route.endpoint is None or matched is None:
        return None
    params = {
        name: route.convertors[name].convert(value) for name, value in matched.groupdict().items()
    }
    return route.origin, route.endpoint, params
