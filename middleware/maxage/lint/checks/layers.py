"""The order of layers, and the routes behind layers that cannot be read."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from maxage.lint.application import Application
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.lint.layers import Layer, LayerKind

_UNREAD: Final = "responses get no default lifetime, and writes purge by their paths alone."
_OUTSIDE: Final = "Add it after the cache: Starlette runs the middleware that was added last first."
_INSIDE: Final[Mapping[LayerKind, tuple[Code, str, str]]] = {
    "cors": (
        Code.CORS_INSIDE,
        (
            "it does not run at a hit. With Vary: Origin, as Starlette's sends it, each origin has "
            "stored responses of its own. Without it, hits have the headers of another request."
        ),
        _OUTSIDE,
    ),
    "session": (
        Code.SESSION_INSIDE,
        "it does not run at a hit, and a vary_by= does not see the session.",
        _OUTSIDE,
    ),
    "authentication": (
        Code.AUTHENTICATION_INSIDE,
        "it does not run at a hit, which skips its check.",
        _OUTSIDE,
    ),
    "rate limit": (
        Code.RATE_LIMIT_INSIDE,
        "it does not run at a hit, which is neither counted nor limited.",
        _OUTSIDE,
    ),
    "cache": (
        Code.TWO_CACHES,
        "each response is stored twice, and the outer one answers first.",
        "Add CacheMiddleware once.",
    ),
}


def check_layers(app: Application) -> Iterator[Finding]:
    """Yield the layers that stand on the wrong side of the cache."""
    kinds = [layer.kind for layer in app.layers]
    if "cache" not in kinds:
        return
    cache = kinds.index("cache")
    for position, layer in enumerate(app.layers):
        if position > cache and layer.kind in _INSIDE:
            code, reason, mend = _INSIDE[layer.kind]
            is_note = not layer.where and _answers_right(layer, app)
            yield _of_app(
                code, f"{layer.name} stands inside of the cache: {reason}", mend, layer.where,
                is_note=is_note,
            )  # fmt: skip
        elif layer.kind == "compression":
            yield from _compression(app, layer, is_outside=position < cache)


def _answers_right(layer: Layer, app: Application) -> bool:
    """Return whether a library's layer inside of the cache costs hits alone.

    One of the application's own may lack the Vary, or the cookie, that lets the cache know.
    """
    if layer.kind == "session":
        # A session with content is a credential, which keeps its answers out of the store.
        return not any(read.terms.policy.vary_by for read in app.reads)
    return layer.kind == "cors"


def _compression(app: Application, layer: Layer, *, is_outside: bool) -> Iterator[Finding]:
    """Yield a layer that compresses what the cache has compressed, or the other way round."""
    if is_outside is app.settings.cache_compress:
        return
    if is_outside:
        reason = "stands outside of the cache: it compresses each hit again."
        mend = "Add it before the cache, which then stores what is compressed."
    else:
        reason = "stands inside of the cache, and leaves nothing for CACHE_COMPRESS to compress."
        mend = "Leave it out, or add it after the cache for clients that take gzip alone."
    yield _of_app(Code.COMPRESSION, f"{layer.name} {reason}", mend, layer.where)


def check_readable(app: Application) -> Iterator[Finding]:
    """Yield the mounted applications whose routes are not known, or all where none is."""
    mend = (
        "Mount or wrap an application whose routes can be read (an attribute app or routes), or "
        "state lifetimes for its paths by a Rule, with CACHE_PURGE=unproven if its writes show "
        "elsewhere."
    )
    if not app.routes:
        yield _of_app(Code.UNREADABLE, f"No route can be read: {_UNREAD}", mend, "")
    for unknown in app.unreadable:
        reason = f"A route of the class {type(unknown).__qualname__} cannot be read: {_UNREAD}"
        yield _of_app(Code.UNREADABLE, reason, mend, "")
    for name in dict.fromkeys(type(one).__qualname__ for one in app.choosing):
        reason = (
            f"Routes of the class {name} match by code of their own, which may look at any header: "
            "without vary_by= nothing is cached there."
        )
        named = "Give them a vary_by= that returns what this code looks at, and the user."
        yield _of_app(Code.UNREADABLE, reason, named, "", is_note=True)
    for route in app.routes:
        endpoint: Any = route.endpoint
        is_unread = route.opaque and endpoint is not None  # None: it has been read elsewhere
        if is_unread and not route.serves_files and not app.has_rule(route):
            name = getattr(endpoint, "__qualname__", None) or type(endpoint).__qualname__
            reason = f"The routes of {name} cannot be read: {_UNREAD}"
            title = f"* {route.host}{route.template.replace(':path}', '}')}"
            yield Finding(code=Code.UNREADABLE, route=title, reason=reason, mend=mend, source="")


def _of_app(code: Code, reason: str, mend: str, where: str, *, is_note: bool = False) -> Finding:
    return Finding(code=code, route="*", reason=reason, mend=mend, source=where, is_note=is_note)
