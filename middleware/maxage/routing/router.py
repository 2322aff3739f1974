"""Reads an application's router into a table: included, mounted and by host.

What FastAPI and Starlette know of their routes is looked up here and nowhere else.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Annotated, Any, Final, get_args

from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Host, Mount, Route, compile_path

from maxage.routing.route_policy import control_of
from maxage.routing.route_table import Canonical, RouteInfo, RouteTable, SecuritySource
from maxage.routing.template import template_regex

logger = logging.getLogger("maxage")

_NAME: Final = re.compile(r"\{(\w+)(:\w+)?\}")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_routes(routes: Iterable[BaseRoute]) -> RouteTable:
    """Return the table of an application's routes: included, mounted and by host."""
    return RouteTable(list(_read(routes, "", None)))


def _read(routes: Iterable[BaseRoute], prefix: str, host: Host | None) -> Iterator[RouteInfo]:
    for context in _contexts(routes):
        original: BaseRoute = getattr(context, "original_route", context)
        if isinstance(original, Mount):
            # By the context: an included router puts its prefix before its mounts.
            yield from _read_inner(original.app, _joined(prefix, context.path), host)
        elif isinstance(original, Host):
            yield from _read_inner(original.app, prefix, original)
        elif isinstance(original, Route):
            yield _read_route(context, prefix, host)
        elif original.__class__.__name__ == "_FrontendRouteGroup":
            # Static files served behind everything else: FastAPI's `app.frontend`.
            yield _opaque(prefix, host)


def _joined(prefix: str, path: str) -> str:
    """Return the template of a path that is mounted under a prefix.

    Of two parameters of one name the inner one counts, as for Starlette; the outer one is renamed.
    """
    inner = {name for name, _ in _NAME.findall(path)}
    taken = {name for name, _ in _NAME.findall(prefix + path)}

    def outer(found: re.Match[str]) -> str:
        name = found[1]
        if name in inner:
            while name in taken:
                name += "_"
            taken.add(name)
        return f"{{{name}{found[2] or ''}}}"

    return _NAME.sub(outer, prefix) + path


def _contexts(routes: Iterable[BaseRoute]) -> Iterable[Any]:
    """Yield the routes with what included routers add to them (FastAPI includes lazily)."""
    try:
        from fastapi.routing import iter_route_contexts  # noqa: PLC0415 - FastAPI is optional
    except ImportError:
        return routes
    return iter_route_contexts(list(routes))


def _read_inner(app: Any, prefix: str, host: Host | None) -> Iterator[RouteInfo]:
    """Yield the routes of an application inside this one."""
    routes = routes_of(app)
    if routes:
        yield from _read(routes, prefix, host)
    else:
        yield _opaque(prefix, host)


def routes_of(app: Any) -> Sequence[Any] | None:
    """Return the routes of an application, through the middleware wrapped around it."""
    return routes_in(router_of(app))


def routes_in(router: Any) -> Sequence[Any] | None:
    """Return the routes that a router holds itself."""
    routes = getattr(router, "routes", None)
    return routes if isinstance(routes, (list, Sequence)) else None  # pyright: ignore[reportUnknownVariableType] -- Any from getattr


def router_of(app: Any) -> Any:
    """Return what holds the routes of an application: itself, or what it is wrapped around."""
    for _ in range(32):
        if app is None or getattr(app, "routes", None):
            return app
        app = getattr(app, "app", None)
    return None


def _opaque(prefix: str, host: Host | None) -> RouteInfo:
    template = _joined(prefix, "/{path:path}")
    return RouteInfo(
        template=template, methods=None, opaque=True, regex=template_regex(template),
        host=host.host if host else "",
        host_regex=host.host_regex if host else None,
    )  # fmt: skip


def _read_route(context: Any, prefix: str, host: Host | None) -> RouteInfo:
    template = _joined(prefix, context.path)
    dependants = list(_dependants(getattr(context, "dependant", None)))
    security = [d.call for d in dependants if _security_model(d.call) is not None]
    sources = tuple(dict.fromkeys(_source(_security_model(call)) for call in security))
    info = RouteInfo(
        template=template,
        methods=_methods(context),
        origin=getattr(context, "original_route", context),
        control=control_of(context.endpoint),
        has_security=bool(security),
        security=tuple(source for source in sources if source is not None),
        header_names=_header_names(dependants),
        cookie_names=tuple(
            sorted({n for d in dependants for f in d.cookie_params for n in _spellings(f)})
        ),
        query_names=_query_names(dependants),
        canonical=_canonical(template, dependants),
        regex=template_regex(template),
        host=host.host if host else "",
        host_regex=host.host_regex if host else None,
    )
    if info.has_security and info.control and info.control.ttl and not info.control.vary_by:
        logger.warning(
            "%s has a security dependency: cached() has no effect there without vary_by=.",
            info.template,
        )
    _warn_of_unknown_names(info)
    return info


def _warn_of_unknown_names(route: RouteInfo) -> None:
    control = route.control
    known = {name for name, _ in _NAME.findall(route.template)}
    for text in (*control.tags, *control.invalidates) if control else ():
        for name, _ in _NAME.findall(text):
            if name not in known:
                logger.warning(
                    "%s has no path parameter %r: %r is taken as it stands.",
                    route.template, name, text,
                )  # fmt: skip


def _methods(context: Any) -> frozenset[str] | None:
    if context.methods is not None:
        return frozenset(context.methods)
    # Starlette's HTTPEndpoint has a method of its class for each; it answers HEAD with its GET.
    named = {name for name in _METHODS if hasattr(context.endpoint, name.lower())}
    return frozenset(named | {"HEAD"} if "GET" in named else named) or None


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
