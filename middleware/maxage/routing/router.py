"""Router: read an application's routes into a table, included, mounted and by host.

Only this module looks into FastAPI's and Starlette's routes.
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Final, get_args

from msgspec.structs import replace
from starlette.convertors import Convertor
from starlette.routing import BaseRoute, Host, Mount, Route, WebSocketRoute, compile_path
from starlette.staticfiles import StaticFiles

from maxage.errors import SettingsError
from maxage.routing.controls import control_of, control_of_method
from maxage.routing.overrides import overrides_of
from maxage.routing.route_table import Canonical, Dependency, RouteInfo, RouteTable

logger = logging.getLogger("maxage")

_NAME: Final = re.compile(r"\{(\w+)(:\w+)?\}")
_MOST_DIGITS: Final = 30
"""Digits of a decimal number up to which it is written without an exponent."""
_DEPTH: Final = 32
"""Middleware around one application that is looked through."""
_DEPTH_HIDDEN: Final = 4
"""Layers that hide an application which are looked through."""
_MOST_PLACES_IN_ITSELF: Final = 2
"""Places, one behind the other, at which the routes of an application mounted in itself are read.
"""
_MOST_PATHS_SHOWN: Final = 3
"""Paths that a warning of many routes names."""
_READABLE: Final = (Route, WebSocketRoute)
_FRONTEND: Final = ("_FrontendRouteGroup",)
"""FastAPI's `app.frontend`."""
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_routes(routes: Iterable[BaseRoute]) -> RouteTable:
    """Return the table of an application's routes: included, mounted and by host."""
    return RouteTable(list(_read(routes, "", None, ())))


def table_of(app: Any, routes: Iterable[BaseRoute] | None) -> RouteTable:
    """Return the table of an application with these routes, or of one that only serves files."""
    if not routes and _serves_files(app):
        return RouteTable([_opaque("", None, None, serves_files=True)])
    return read_routes(routes or ())


def _read(
    routes: Iterable[BaseRoute], prefix: str, host: Host | None, around: tuple[int, ...]
) -> Iterator[RouteInfo]:
    """Yield the routes at a prefix, inside of the routers that are mounted `around` them."""
    around = (*around, id(routes))
    is_behind = False
    free: dict[tuple[str, bool], list[str]] = {}
    for context in _contexts(routes):
        original: BaseRoute = getattr(context, "original_route", context)
        is_free = _chooses_freely(original)
        if is_free:
            # What is not its own path, but is asked behind it, depends on what it looks at, too.
            is_behind = is_behind or not isinstance(original, Route)
            path = prefix + (getattr(context, "path", "") or "/*")
            free.setdefault((type(original).__qualname__, is_behind), []).append(path)
        try:
            found = list(_read_one(original, context, prefix, host, around))
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an object of the application's raises
            found = []
            _warn_of_unread(original, prefix, error)
        for info in found:
            yield replace(info, reads_all_headers=True) if is_free or is_behind else info
    for (name, hides), paths in free.items():
        _warn_of_free(name, paths, ", nor of the routes behind" if hides else "")


def _warn_of_free(name: str, paths: Sequence[str], beside: str) -> None:
    """Log once for each class of routes that choose by code of their own."""
    more = len(paths) - _MOST_PATHS_SHOWN
    shown = ", ".join(paths[:_MOST_PATHS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    logger.warning(
        "%s: the matches() of its own class %s may look at any header, so that without vary_by= "
        "nothing is cached there%s.",
        shown, name, beside,
    )  # fmt: skip


def _warn_of_unread(route: BaseRoute, prefix: str, error: Exception) -> None:
    """Log a route that cannot be read."""
    logger.warning(
        "%s/*: a route of the class %s cannot be read (%r), so that a write there purges by its "
        "path alone.",
        prefix, type(route).__qualname__, error,
    )  # fmt: skip


def _read_one(
    original: BaseRoute, context: Any, prefix: str, host: Host | None, around: tuple[int, ...]
) -> Iterator[RouteInfo]:
    if isinstance(original, Mount):
        # The context's path includes the prefix of an included router.
        yield from _read_inner(original.app, _joined(prefix, context.path), host, around)
    elif isinstance(original, Host):
        yield from _read_inner(original.app, prefix, original, around)
    elif isinstance(original, Route):
        if context.methods is None and isinstance(context.endpoint, type):
            yield from _read_endpoint(context, prefix, host)
        else:
            yield _read_route(context, prefix, host)
    elif type(original).__name__ in _FRONTEND:
        # Static files behind all other routes.
        yield _opaque(prefix, host, None, serves_files=True)


def _chooses_freely(route: object) -> bool:
    """Return whether a route finds out by code of its own whether it answers a request."""
    owner = next((kind for kind in type(route).__mro__ if "matches" in vars(kind)), BaseRoute)
    is_known = owner.__module__.partition(".")[0] in {"starlette", "fastapi"}
    return not is_known and not isinstance(route, WebSocketRoute)


def unreadable_in(app: Any) -> Iterator[BaseRoute]:
    """Yield the routes of an application, mounted ones included, that are of an unknown class."""
    for route in _all_in(app):
        is_known = isinstance(route, (*_READABLE, Mount, Host))
        if not is_known and type(route).__name__ not in _FRONTEND:
            yield route


def choosing_in(app: Any) -> Iterator[BaseRoute]:
    """Yield the routes of an application, mounted ones included, with code of their own to match.

    What such a route looks at is in no key, so that nothing is cached there without `vary_by`.
    """
    return filter(_chooses_freely, _all_in(app))


def mounted_in(app: Any) -> Iterator[Any]:
    """Yield the applications that are mounted in an application, at any depth."""
    return (route.app for route in _all_in(app) if isinstance(route, (Mount, Host)))


def _all_in(app: Any, around: tuple[int, ...] = ()) -> Iterator[BaseRoute]:
    """Yield the routes of an application, and behind each mount those of the mounted one."""
    routes = routes_of(app) or ()
    if id(routes) in around:
        return  # it is mounted in itself
    for context in _contexts(routes):
        original: BaseRoute = getattr(context, "original_route", context)
        yield original
        if isinstance(original, (Mount, Host)):
            yield from _all_in(original.app, (*around, id(routes)))


def _joined(prefix: str, path: str) -> str:
    """Return the template of a path that is mounted under a prefix.

    The outer one of two parameters with the same name is renamed: Starlette uses the inner one.
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


def check_fastapi() -> None:
    """Check that the routes of the FastAPI that is loaded, if any, can be read.

    Raises:
        SettingsError: it is older than 0.138; one sentence says what to install.
    """
    routing = sys.modules.get("fastapi.routing")
    if routing is not None and not hasattr(routing, "iter_route_contexts"):
        version = sys.modules["fastapi"].__version__
        raise SettingsError(
            f"FastAPI {version} is too old for the cache, which cannot read its routes: "
            "pip install 'fastapi>=0.160'."
        )


def _contexts(routes: Iterable[BaseRoute]) -> Iterable[Any]:
    """Yield the routes with the prefixes of included routers (FastAPI includes lazily)."""
    routing = sys.modules.get("fastapi.routing")
    if routing is None:
        # The application has none of FastAPI's routes, and importing FastAPI takes 0.1 s.
        return routes
    contexts: Iterable[Any] = routing.iter_route_contexts(list(routes))
    return contexts


def _read_inner(
    app: Any, prefix: str, host: Host | None, around: tuple[int, ...]
) -> Iterator[RouteInfo]:
    """Yield the routes of an application inside this one.

    One that is mounted in itself, as with `app.mount("/v1", app)`, has its routes at two places.
    There is no end of the places behind these, so that nothing is cached there.
    """
    routes = routes_of(app)
    if routes and around.count(id(routes)) == _MOST_PLACES_IN_ITSELF:
        inner = _opaque(prefix, host, None, serves_files=False)
        yield replace(inner, reads_all_headers=True)
    elif routes:
        yield from _read(routes, prefix, host, around)
    else:
        yield _opaque(prefix, host, app, serves_files=_serves_files(app))


def _serves_files(app: Any) -> bool:
    """Return whether the application serves static files, through middleware around it."""
    for _ in range(_DEPTH):
        if app is None or isinstance(app, StaticFiles):
            return app is not None
        app = _attribute(app, "app")
    return False


def routes_of(app: Any) -> Sequence[Any] | None:
    """Return the routes of an application, through the middleware wrapped around it."""
    return routes_in(router_of(app))


def routes_in(router: Any) -> Sequence[Any] | None:
    """Return the routes that a router holds itself."""
    routes = _attribute(router, "routes")
    return routes if isinstance(routes, (list, Sequence)) else None  # pyright: ignore[reportUnknownVariableType] -- Any from getattr


def router_of(app: Any) -> Any:
    """Return the object that holds the routes: the application, or one that it wraps."""
    for _ in range(_DEPTH):
        if app is None or _attribute(app, "routes"):
            return app
        app = _attribute(app, "app")
    return None


def _attribute(owner: Any, name: str) -> Any:
    """Return an attribute; None: there is none, or it raises, as a lazy proxy without context."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - whatever an object of the application's raises
        return None


def hidden_router(app: Any) -> Any:
    """Return the only application that layers hold in a closure or under any name; None: none.

    Unlike `router_of` it looks through layers of any kind, so that it is asked once.
    """
    layers, found = {id(app): app}, dict[int, Any]()
    for _ in range(_DEPTH_HIDDEN):
        held = {id(one): one for layer in layers.values() for one in _held_by(layer)}
        routers = {number: router_of(one) for number, one in held.items()}
        found |= {id(one): one for one in routers.values() if _has_routes(one)}
        layers = {number: one for number, one in held.items() if routers[number] is None}
    return next(iter(found.values())) if len(found) == 1 else None


def _has_routes(router: Any) -> bool:
    return any(isinstance(route, BaseRoute) for route in routes_in(router) or ())


def _held_by(layer: Any) -> list[Any]:
    """Return the callables in the closure and in the attributes of a layer."""
    attributes: dict[str, Any] = _attribute(layer, "__dict__") or {}
    held = list(attributes.values())
    for cell in _attribute(layer, "__closure__") or ():
        with suppress(ValueError):  # it has no value yet
            held.append(cell.cell_contents)
    return [one for one in held if _may_be_layer(one)]


def _may_be_layer(held: Any) -> bool:
    """Return whether the object may be looked into; a lazy proxy may raise when asked its type."""
    try:
        return callable(held) and not isinstance(held, type)
    except Exception:  # noqa: BLE001 - whatever an object of the application's raises
        return False


def _opaque(prefix: str, host: Host | None, app: Any, *, serves_files: bool) -> RouteInfo:
    template = _joined(prefix, "/{path:path}")
    return RouteInfo(
        template=template, methods=None, endpoint=app, opaque=True, serves_files=serves_files,
        regex=compile_path(template)[0],
        host=host.host if host else "",
        host_regex=host.host_regex if host else None,
    )  # fmt: skip


def _read_route(context: Any, prefix: str, host: Host | None) -> RouteInfo:
    template = _joined(prefix, context.path)
    regex, _, convertors = compile_path(template)
    dependants = list(_dependants(getattr(context, "dependant", None), _overrides(context)))
    info = RouteInfo(
        template=template,
        methods=_methods(context),
        endpoint=context.endpoint,
        wired_by=getattr(context, "dependency_overrides_provider", None),
        origin=getattr(context, "original_route", context),
        control=control_of(context.endpoint),
        is_documentation=getattr(context.endpoint, "__module__", "") == "fastapi.applications",
        has_security=_has_security(context, dependants),
        header_names=_header_names(dependants),
        has_header_model=any(_is_model(f) for d in dependants for f in d.header_params),
        reads_all_headers=any(_takes_all(f) for d in dependants for f in d.header_params),
        cookie_names=tuple(
            sorted({n for d in dependants for f in d.cookie_params for n in _spellings(f)})
        ),
        status_code=getattr(context, "status_code", None),
        dependencies=_dependencies(dependants[1:]),
        query_names=_query_names(dependants),
        canonical=_canonical(convertors, dependants),
        convertors=convertors,
        regex=regex,
        host=host.host if host else "",
        host_regex=host.host_regex if host else None,
    )
    if info.control and info.control.ttl and not info.control.vary_by:
        cause = (
            "has a security dependency" if info.has_security else
            "has a header model that takes extra fields" if info.reads_all_headers else
            None
        )  # fmt: skip
        if cause is not None:
            logger.warning(
                "%s %s, so that cached(ttl=...) has no effect; add vary_by=.", info.template, cause
            )
    _warn_of_unknown_names(info)
    return info


def _read_endpoint(context: Any, prefix: str, host: Host | None) -> Iterator[RouteInfo]:
    """Yield the routes of a Starlette HTTPEndpoint: the methods of one control are one route.

    A `head` of its own is a route of its own: a stored GET does not answer for it.
    """
    info = _read_route(context, prefix, host)
    endpoint = context.endpoint
    kinds = {
        one: (control_of_method(endpoint, one), one == "HEAD" and hasattr(endpoint, "head"))
        for one in sorted(info.methods or ())
    }
    for kind in dict.fromkeys(kinds.values()):
        methods = frozenset(one for one, its in kinds.items() if its == kind)
        part = replace(info, methods=methods, control=kind[0])
        _warn_of_unknown_names(part)
        yield part


def _warn_of_unknown_names(route: RouteInfo) -> None:
    control = route.control
    known = {name for name, _ in _NAME.findall(route.template)}
    for text in (*control.tags, *control.invalidates) if control else ():
        for name, _ in _NAME.findall(text):
            if name not in known:
                logger.warning(
                    "%s has no path parameter %r, so that %r is used as it is.",
                    route.template, name, text,
                )  # fmt: skip


def _methods(context: Any) -> frozenset[str] | None:
    if context.methods is not None:
        return frozenset(context.methods)
    # Starlette's HTTPEndpoint has one function for each method, and answers HEAD by its GET.
    named = {name for name in _METHODS if hasattr(context.endpoint, name.lower())}
    return frozenset(named | {"HEAD"} if "GET" in named else named) or None


def _dependants(
    dependant: Any, overrides: Mapping[Any, Any], above: tuple[Any, ...] = ()
) -> Iterator[Any]:
    """Yield FastAPI's description of an endpoint and of all its dependencies, as overridden."""
    # An override may depend on the very dependency that it overrides.
    if dependant is not None and dependant.call not in above:
        yield dependant
        for inner in dependant.dependencies:
            replaced = _overridden(inner, overrides)
            yield from _dependants(replaced, overrides, (*above, dependant.call))


def _dependencies(dependants: Iterable[Any]) -> tuple[Dependency, ...]:
    return tuple(
        Dependency(call=each.call, exits_late=getattr(each, "scope", None) != "function")
        for each in dependants
    )


def _overridden(dependant: Any, overrides: Mapping[Any, Any]) -> Any:
    """Return the description of the dependency that takes the place of another."""
    call = overrides.get(dependant.call, dependant.call) if overrides else dependant.call
    if call is dependant.call:
        return dependant
    from fastapi.dependencies.utils import get_dependant  # noqa: PLC0415 - FastAPI is optional

    try:
        return get_dependant(path=dependant.path or "", call=call, name=dependant.name)
    except Exception:  # noqa: BLE001 - FastAPI raises it again at each request
        return dependant


def needs_only_url(scope: Mapping[str, Any]) -> bool:
    """Return whether the route that has answered needs nothing to be cached but its URL.

    Then no decorator says anything of its endpoint, and it checks no credentials and declares no
    header and no cookie.

    Args:
        scope: of the request, in which Starlette's and FastAPI's routers leave the route.
    """
    endpoint = scope["endpoint"]
    if _chooses_freely(scope.get("route")):
        return False
    if isinstance(endpoint, type):
        return control_of_method(endpoint, scope["method"]) is None
    if control_of(endpoint) is not None:
        return False
    fastapi: Mapping[str, Any] = scope.get("fastapi", {})
    included = fastapi.get("effective_route_context")
    for context in (included, scope.get("route")):
        if context is not None and getattr(context, "endpoint", None) is endpoint:
            dependants = list(_dependants(getattr(context, "dependant", None), _overrides(context)))
            declared = any(d.header_params or d.cookie_params for d in dependants)
            return not declared and not _has_security(context, dependants)
    return True


def _overrides(context: Any) -> Mapping[Any, Any]:
    return overrides_of(getattr(context, "dependency_overrides_provider", None))


def _has_security(context: Any, dependants: Iterable[Any]) -> bool:
    marked = getattr(context, "dependencies", None) or ()
    return any(map(_is_security, dependants)) or any(map(_is_check, marked))


def _is_security(dependant: Any) -> bool:
    """Return whether a dependant checks requests: a scheme, scopes, or a `Security` parameter."""
    call = dependant.call
    if dependant.security_scopes_param_name or hasattr(call, "scheme_name"):
        return True
    if not dependant.dependencies:
        return False
    from fastapi.dependencies.utils import get_typed_signature  # noqa: PLC0415 - as above

    for parameter in get_typed_signature(call).parameters.values():
        annotation = getattr(parameter.annotation, "__value__", parameter.annotation)
        if any(map(_is_check, (parameter.default, *get_args(annotation)[1:]))):
            return True
    return False


def _is_check(marker: Any) -> bool:
    """Return whether a marker of a parameter is FastAPI's `Security`."""
    # It adds nothing but scopes to a `Depends`, and a function of the user's own needs none.
    return any(kind.__qualname__ == "Security" for kind in type(marker).__mro__)


def _takes_all(parameter: Any) -> bool:
    """Return whether a parameter is a model that allows or forbids fields that it does not name."""
    return any(
        config is not None and config.get("extra") in {"allow", "forbid"}
        for model in _models(parameter)
        for config in (getattr(model, "model_config", None),)
    )


def _is_model(parameter: Any) -> bool:
    return any(hasattr(model, "model_fields") for model in _models(parameter))


def _header_names(dependants: Iterable[Any]) -> tuple[bytes, ...]:
    names: set[bytes] = set()
    for dependant in dependants:
        for parameter in dependant.header_params:
            names |= {n.encode("latin-1", "replace").lower() for n in _spellings(parameter)}
    return tuple(sorted(names))


def _query_names(dependants: Sequence[Any]) -> frozenset[str] | None:
    if not dependants or any(
        d.request_param_name or d.http_connection_param_name or any(map(_takes_all, d.query_params))
        for d in dependants
    ):
        # A dependency with the request, or an open model, can read any parameter.
        return None
    return frozenset(n for d in dependants for f in d.query_params for n in _spellings(f))


def _spellings(parameter: Any) -> Iterator[str]:
    """Yield the names of a parameter, or of the fields of a parameter model."""
    yield from _aliases(str(parameter.alias), parameter.field_info)
    for candidate in _models(parameter):
        for name, info in getattr(candidate, "model_fields", {}).items():
            yield from _aliases(name, info)


def _models(parameter: Any) -> tuple[Any, ...]:
    """Return the classes of which a parameter's model is one, if it is a model."""
    annotation = getattr(parameter.field_info, "annotation", None)
    # The model of `Model | None` is an argument of the union.
    return (annotation, *get_args(annotation))


def _aliases(name: str, info: Any) -> Iterator[str]:
    """Yield every possible name; an extra one only separates more requests."""
    validation: Any = getattr(info, "validation_alias", None)
    choices = getattr(validation, "choices", (validation,))
    firsts = (getattr(choice, "path", (choice,))[0] for choice in choices)
    for alias in (name, getattr(info, "alias", None), *firsts):
        if isinstance(alias, str):
            yield alias
            yield alias.replace("_", "-")


def _canonical(
    convertors: Mapping[str, Convertor[Any]], dependants: Iterable[Any]
) -> dict[str, Canonical]:
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
                # Metadata may normalise: StringConstraints(to_lower=True), validators.
                typed: Any = Annotated[(annotation, *metadata)] if metadata else annotation
                canonical |= _by_type(str(parameter.alias), typed)
    return canonical


def _by_convertor(convertor: Any) -> Canonical:
    def canonical(value: str) -> str:
        return str(convertor.to_string(convertor.convert(value)))

    return canonical


def _by_type(name: str, annotation: Any) -> dict[str, Canonical]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - FastAPI brought it, which read the annotation

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - the application's own types
        return {}

    def canonical(value: str) -> str:
        parsed = adapter.validate_python(value)
        return _text_of(parsed.value if isinstance(parsed, Enum) else parsed)

    def canonical_integer(value: str) -> str:
        # Most are spelled so already. To look takes a tenth of the time that validation takes.
        is_canonical = value.isdecimal() and value.isascii() and value[0] != "0"
        return value if is_canonical else canonical(value)

    return {name: canonical_integer if annotation is int else canonical}


def _text_of(value: object) -> str:
    """Return one text for all values that are equal."""
    if isinstance(value, (int, str)):
        return str(value)
    if isinstance(value, float):
        value += 0.0  # -0.0 becomes 0.0
    elif isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    elif isinstance(value, Decimal) and value.is_finite():
        value = value.normalize() or Decimal(0)
        if abs(value.adjusted()) < _MOST_DIGITS:
            return f"{value:f}"
    return str(value)
