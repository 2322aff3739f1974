"""Layers: the middleware of an application, the outermost first."""

import ast
import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from msgspec import Struct
from starlette.middleware.base import BaseHTTPMiddleware

from maxage.lint.code.function import Function, function_of
from maxage.lint.code.places import place
from maxage.middleware import CacheMiddleware
from maxage.routing.router import mounted_in, router_of

LayerKind = Literal["cache", "cors", "compression", "session", "authentication", "rate limit", ""]
_KINDS: Final[tuple[tuple[LayerKind, re.Pattern[str]], ...]] = (
    ("cors", re.compile(r"(?i)cors(?![a-z])|^cors")),
    ("compression", re.compile(r"(?i)gzip|brotli|zstd|compress|deflate")),
    ("rate limit", re.compile(r"(?i)rate_?limit|slowapi|throttl|limiter")),
    ("session", re.compile(r"(?i)session(?!maker)")),
    ("authentication", re.compile(
        r"(?i)auth(?:$|n$|entic|_|middleware|backend|guard|check)|api_?key|(?:verify|check|require)_?"
        r"(?:token|user|login|key)|jwt|login|oauth|permission")),
)  # fmt: skip
_DATABASE: Final = re.compile(r"(?i)db_?session|sqlalchemy|database")
"""A session of a database, not of a user."""


class Layer(Struct, frozen=True, kw_only=True):
    """One middleware of an application."""

    kind: LayerKind
    """Empty: none of these."""
    name: str
    calls: tuple[Any, ...]
    """The functions that answer a request in it."""
    where: str
    """File and line, where it is the application's own."""


def layers_of(app: Any) -> Iterator[Layer]:
    """Yield the middleware of an application, the outermost first."""
    while app is not None:
        if isinstance(app, CacheMiddleware):
            yield _layer(CacheMiddleware, {})
        elif not hasattr(app, "user_middleware"):
            yield _layer(type(app), {})
        for one in getattr(app, "user_middleware", ()):
            yield _layer(one.cls, one.kwargs)
        app = getattr(app, "app", None) or getattr(getattr(app, "service", None), "app", None)


def mounted_layers(app: Any) -> Iterator[Layer]:
    """Yield the middleware of mounted applications: it stands inside of that of the outer one."""
    inner = router_of(app.service.app if isinstance(app, CacheMiddleware) else app)
    for one in mounted_in(inner):
        if hasattr(one, "user_middleware"):
            yield from layers_of(one)


def _layer(kind: Any, options: dict[str, Any]) -> Layer:
    if kind is CacheMiddleware:
        return Layer(kind="cache", name="CacheMiddleware", calls=(), where="")
    dispatch = options.get("dispatch")
    shown = dispatch if kind is BaseHTTPMiddleware and dispatch is not None else kind
    names = ("dispatch", "__call__") if isinstance(kind, type) else ()
    methods = [getattr(kind, name, None) for name in names]
    calls = tuple(one for one in (dispatch, *methods) if one is not None)
    functions = [function for call in calls if (function := function_of(call)) is not None]
    name = str(getattr(shown, "__qualname__", None) or type(shown).__name__).rpartition(".")[2]
    places = [place(function, function.node, name) for function in functions]
    where = places[0].where if places else ""
    return Layer(kind=_kind(name, functions), name=name, calls=calls, where=where)


def _kind(name: str, functions: list[Function]) -> LayerKind:
    """Return the kind of a layer by its name, or by the status codes that its source answers."""
    for kind, pattern in _KINDS:
        if pattern.search(name) and not (kind == "session" and _DATABASE.search(name)):
            return kind
    statuses = {
        status for function in functions for node in function.walk()
        if (status := _status(node)) is not None
    }  # fmt: skip
    if 429 in statuses:
        return "rate limit"
    return "authentication" if statuses & {401, 403} else ""


def _status(node: ast.AST) -> int | None:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Attribute(attr=name) if found := re.match(r"HTTP_(\d{3})_", name):
            return int(found[1])
        case ast.Attribute(attr="UNAUTHORIZED" | "FORBIDDEN"):
            return 401
        case ast.Attribute(attr="TOO_MANY_REQUESTS"):
            return 429
        case _:
            return None
