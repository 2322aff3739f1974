"""What the router knows before it is asked: templates, groups, security, declared parameters.

The route of a request is only known once the router has run, and a cache answers before that. So
the routes are read once, and matched here the way Starlette matches them: in order, the first
whole match wins.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Final, final, get_args

from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Host, Mount, Route, compile_path

from maxage.policy import Control, control_of
from maxage.store.tokens import collection_group, path_group

logger = logging.getLogger("maxage")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInfo:
    """One route as the cache sees it."""

    template: str
    methods: frozenset[str] | None
    """None: every method (a mounted application)."""
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
    host_regex: re.Pattern[str] | None = None

    def accepts(self, method: str) -> bool:
        """Return whether the route answers this method."""
        return self.methods is None or method in self.methods


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
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

    def match(self, method: str, path: str, host: str = "") -> RouteMatch | None:
        """Return the route that answers, or None where the router has none for it."""
        for route in self.routes:
            if route.accepts(method):
                found = _match(route, path, host)
                if found is not None:
                    return found
        return None

    def allowed(self, path: str, host: str = "") -> bool:
        """Return whether any route, whatever its methods, has this path."""
        return any(_match(route, path, host) is not None for route in self.routes)

    def groups_of(self, found: RouteMatch, host: str = "") -> tuple[str, ...]:
        """Return the groups that a stored response of this path belongs to.

        Its own path, each path above it that has a route (a purge of that takes what lies
        beneath), and the collections that it is a view of.
        """
        if found.route.opaque:
            return fallback_groups(found.path)
        prefixes = _prefixes(found.path)
        groups = [path_group(p) for p in prefixes if p == found.path or self.allowed(p, host)]
        return (*groups, *self._viewed(found))

    def touched_by(self, found: RouteMatch) -> tuple[str, ...]:
        """Return the groups that a mutating request to this path purges.

        The path with all that lies beneath it and, by the kind of route: a member touches the views
        of its collection; an action (`POST /items/5/publish`, with no GET of its own) the member or
        collection it acts on.
        """
        if found.route.opaque:
            return fallback_touched(found.path)
        groups = [path_group(found.path)]
        segments = _split(found.route.template)
        if segments and _is_parameter(segments[-1]):
            groups.append(collection_group(_fill(segments[:-1], found)))
        elif not self._is_read(found.route.template):
            groups += self._acted_upon(found, segments)
        return tuple(dict.fromkeys((*groups, *self._viewed(found))))

    def _acted_upon(self, found: RouteMatch, segments: Sequence[str]) -> Iterator[str]:
        """Yield the groups of the nearest member, or else of the nearest collection, above."""
        prefixes = _prefixes(found.path)[1:-1]
        parameters = {
            _fill(segments[: i + 1], found) for i, s in enumerate(segments) if _is_parameter(s)
        }
        for prefix in reversed(prefixes):
            if prefix in parameters:
                yield path_group(prefix)
                yield collection_group(_parent(prefix))
                return
        for length in range(len(segments) - 1, 0, -1):
            # By template: `/items/bulk` is no item, though `/items/{id}` happens to match it.
            if self._is_read("/".join(segments[:length])):
                yield path_group(_fill(segments[:length], found))
                return

    def _viewed(self, found: RouteMatch) -> Iterator[str]:
        """Yield the collections that the path shows a view of: itself, or a fixed name beneath."""
        segments = _split(found.route.template)
        for length in range(len(segments) + 1):
            beneath = segments[length:]
            if beneath and _is_parameter(beneath[0]):
                continue
            if self._has_members(segments[:length]):
                yield collection_group(_fill(segments[:length], found))

    def _has_members(self, collection: Sequence[str]) -> bool:
        """Return whether some mutating route has members directly beneath the template."""
        return any(
            route.methods is not None
            and len(route_segments) == len(collection) + 1
            and _is_parameter(route_segments[-1])
            and all(_overlap(a, b) for a, b in zip(route_segments, collection, strict=False))
            for route in self.routes
            if not (route.methods is not None and route.methods <= _SAFE)
            for route_segments in (_split(route.template),)
        )

    def _is_read(self, template: str) -> bool:
        """Return whether there is a GET of the same template; a catch-all route is none of it."""
        shape = _shape(template)
        return any(r.accepts("GET") and _shape(r.template) == shape for r in self.routes)


_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def fallback_groups(path: str) -> tuple[str, ...]:
    """Return the groups of a path without a known route: each path above it, and itself as list."""
    return (*(path_group(p) for p in _prefixes(path)[-_MAX_DEPTH:]), collection_group(path))


def fallback_touched(path: str) -> tuple[str, ...]:
    """Return what a mutating request to a path without a known route purges."""
    return (path_group(path), collection_group(_parent(path)), collection_group(path))


def read_routes(routes: Iterable[BaseRoute]) -> RouteTable:
    """Return the table of an application's routes: included, mounted and by host."""
    return RouteTable(list(_read(routes, "", None)))


def _read(
    routes: Iterable[BaseRoute], prefix: str, host: re.Pattern[str] | None
) -> Iterator[RouteInfo]:
    for context in _contexts(routes):
        original: BaseRoute = getattr(context, "original_route", context)
        if isinstance(original, Mount):
            yield from _read_mount(original, prefix, host)
        elif isinstance(original, Host):
            yield from _read(original.routes or (), prefix, original.host_regex)
        elif isinstance(original, Route):
            yield _read_route(context, prefix, host)
        elif original.__class__.__name__ == "_FrontendRouteGroup":
            # Static files served behind everything else: FastAPI's `app.frontend`.
            yield _opaque(prefix, host)


def _contexts(routes: Iterable[BaseRoute]) -> Iterable[Any]:
    """Yield the routes with what included routers add to them (FastAPI includes lazily)."""
    try:
        from fastapi.routing import iter_route_contexts  # noqa: PLC0415 - FastAPI is optional
    except ImportError:
        return routes
    return iter_route_contexts(list(routes))


def _read_mount(mount: Mount, prefix: str, host: re.Pattern[str] | None) -> Iterator[RouteInfo]:
    inner = prefix + mount.path
    if mount.routes:
        yield from _read(mount.routes, inner, host)
    else:
        yield _opaque(inner, host)


def _opaque(prefix: str, host: re.Pattern[str] | None) -> RouteInfo:
    template = prefix + "/{path:path}"
    return RouteInfo(
        template=template, methods=None, opaque=True, regex=_regex(prefix + "/{path:path}"),
        host_regex=host,
    )  # fmt: skip


def _read_route(context: Any, prefix: str, host: re.Pattern[str] | None) -> RouteInfo:
    template = prefix + context.path
    dependants = list(_dependants(getattr(context, "dependant", None)))
    security = [d.call for d in dependants if _security_model(d.call) is not None]
    sources = tuple(dict.fromkeys(_source(_security_model(call)) for call in security))
    methods = context.methods
    info = RouteInfo(
        template=template,
        methods=None if methods is None else frozenset(methods),
        control=control_of(context.endpoint),
        has_security=bool(security),
        security=tuple(source for source in sources if source is not None),
        header_names=_header_names(dependants),
        cookie_names=tuple(
            sorted({n for d in dependants for f in d.cookie_params for n in _spellings(f)})
        ),
        query_names=_query_names(dependants),
        canonical=_canonical(template, dependants),
        regex=_regex(template),
        host_regex=host,
    )
    if info.has_security and info.control and info.control.ttl and not info.control.vary_by:
        logger.warning(
            "%s has a security dependency: cached() has no effect there without vary_by=.",
            info.template,
        )
    return info


def _dependants(dependant: Any) -> Iterator[Any]:
    """Yield FastAPI's description of an endpoint and of all its dependencies."""
    if dependant is not None:
        yield dependant
        for inner in dependant.dependencies:
            yield from _dependants(inner)


def _security_model(call: object) -> Any:
    model = getattr(call, "model", None)
    return model if hasattr(call, "scheme_name") else None


def _source(model: Any) -> SecuritySource | None:
    place = getattr(model, "in_", None)
    if place is None:
        # Every scheme but an API key reads Authorization (OpenAPI 3.1, security scheme object).
        return SecuritySource(place="header", name="authorization")
    where = place.value if isinstance(place, Enum) else str(place)
    name = str(getattr(model, "name", ""))
    return SecuritySource(place=where, name=name.lower() if where == "header" else name)


def _header_names(dependants: Iterable[Any]) -> tuple[bytes, ...]:
    names: set[bytes] = set()
    for dependant in dependants:
        for parameter in dependant.header_params:
            names |= {n.encode("latin-1", "replace").lower() for n in _spellings(parameter)}
    return tuple(sorted(names))


def _query_names(dependants: Sequence[Any]) -> frozenset[str] | None:
    if not dependants or any(
        d.request_param_name or d.http_connection_param_name for d in dependants
    ):
        # Whoever has the request can read any parameter.
        return None
    return frozenset(n for d in dependants for f in d.query_params for n in _spellings(f))


def _spellings(parameter: Any) -> Iterator[str]:
    """Yield the names of a parameter; of a model of parameters, those of its fields."""
    annotation = getattr(parameter.field_info, "annotation", None)
    candidates: tuple[Any, ...] = (annotation, *get_args(annotation))
    yield from _aliases(str(parameter.alias), parameter.field_info)
    for candidate in candidates:
        # `Model | None` holds its model inside.
        for name, info in getattr(candidate, "model_fields", {}).items():
            yield from _aliases(name, info)


def _aliases(name: str, info: Any) -> Iterator[str]:
    """Yield every name that may be meant; one too many only keeps more requests apart."""
    validation: Any = getattr(info, "validation_alias", None)
    choices = getattr(validation, "choices", (validation,))
    firsts = (getattr(choice, "path", (choice,))[0] for choice in choices)
    for alias in (name, getattr(info, "alias", None), *firsts):
        if isinstance(alias, str):
            yield alias
            yield alias.replace("_", "-")


def _canonical(template: str, dependants: Iterable[Any]) -> dict[str, Canonical]:
    _, _, convertors = compile_path(template)
    canonical: dict[str, Canonical] = {
        name: _by_convertor(convertor)
        for name, convertor in convertors.items()
        if convertor.__class__.__name__ not in {"StringConvertor", "PathConvertor"}
    }
    for dependant in dependants:
        for parameter in dependant.path_params:
            annotation = parameter.field_info.annotation
            metadata = tuple(parameter.field_info.metadata)
            if metadata or annotation not in (str, None):
                # Metadata may normalise too: StringConstraints(to_lower=True), validators.
                typed: Any = Annotated[(annotation, *metadata)] if metadata else annotation
                canonical |= _by_type(str(parameter.alias), typed)
    return canonical


def _by_convertor(convertor: Any) -> Canonical:
    def canonical(value: str) -> str:
        return str(convertor.to_string(convertor.convert(value)))

    return canonical


def _by_type(name: str, annotation: Any) -> dict[str, Canonical]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - whatever the application's own types raise
        return {}

    def canonical(value: str) -> str:
        parsed = adapter.validate_python(value)
        return str(parsed.value if isinstance(parsed, Enum) else parsed)

    return {name: canonical}


def _match(route: RouteInfo, path: str, host: str) -> RouteMatch | None:
    if route.host_regex is not None and not route.host_regex.match(host):
        return None
    found = route.regex.match(path)
    if found is None:
        return None
    params = {name: _spelled(route, name, value) for name, value in found.groupdict().items()}
    pieces: list[str] = []
    last = 0
    for name in found.groupdict():
        start, end = found.span(name)
        pieces += (path[last:start], params[name])
        last = end
    canonical_path = "/" + ("".join(pieces) + path[last:]).strip("/")
    return RouteMatch(route=route, path=canonical_path, params=params)


def _spelled(route: RouteInfo, name: str, value: str) -> str:
    canonical = route.canonical.get(name)
    if canonical is None:
        return value
    try:
        return canonical(value)
    except Exception:  # noqa: BLE001 - the application's own validators
        # What the route itself will refuse keeps its spelling.
        return value


def _regex(template: str) -> re.Pattern[str]:
    # A trailing slash is optional here: purges must reach both spellings, and a router which
    # redirects one to the other stores nothing under the redirected one by default.
    pattern, _, _ = compile_path(template)
    text = pattern.pattern
    return re.compile(text.removesuffix("$").removesuffix("/") + "/?$", pattern.flags)


def _split(template: str) -> list[str]:
    return [segment for segment in template.split("/") if segment]


def _shape(template: str) -> list[str]:
    """Return the segments of a template without the names of its parameters."""
    return [_PARAMETER.sub("{}", segment) for segment in _split(template)]


def _is_parameter(segment: str) -> bool:
    return "{" in segment


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
