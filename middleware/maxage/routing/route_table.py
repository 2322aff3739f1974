"""What the router knows before it is asked: templates, security, declared parameters.

The route of a request is only known once the router has run, and a cache answers before that. So
the routes are read once (`router`), and matched here the way Starlette matches them: in order, the
first whole match wins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from msgspec import Struct

from maxage.routing.route_policy import Control

Canonical = Callable[[str], str]
"""Gives the one spelling of a path parameter's value, so that `05` and `5` name one resource."""


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

    def match(self, method: str, path: str, host: str = "") -> RouteMatch | None:
        """Return the route that answers, or None where the router has none for it."""
        for route in self._by_method.get(method, self._of_any_method):
            laid = route.regex.match(path)
            if laid is not None and is_for(route, host):
                return _match(route, path, laid)
        return None


def is_for(route: RouteInfo, host: str) -> bool:
    """Return whether the route answers requests for this host."""
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
