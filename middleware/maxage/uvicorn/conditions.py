"""The fast lane: from the server straight to the cache.

Only layers that are known to change neither a plain request nor its answer may lie between them.
With any other layer the lane is not used.
"""

import urllib.parse
from dataclasses import dataclass
from typing import Any, Final, final

import httptools
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from maxage.middleware import CacheMiddleware
from maxage.reads.fast_path import FastPath
from maxage.reads.known_request import KnownRequest

_TRANSPARENT: Final = frozenset({
    "fastapi._body_limit.AppBodyLimitMiddleware",
    "fastapi.telemetry._asgi.ExceptionTelemetryMiddleware",
})  # fmt: skip
"""Layers that FastAPI puts around all others; they read bodies and exceptions only."""
_MOST_TARGETS: Final = 4096
"""Request targets whose parts are remembered."""
_LONGEST_TARGET: Final = 1024
"""Bytes of such a target."""
_MOST_REPEATED: Final = 2048
"""Requests whose bytes are remembered."""
LONGEST_REPEATED: Final = 1024
"""Bytes of such a request."""


@final
class Lane:
    """A cache that the server reaches through nothing but transparent layers."""

    __slots__ = ("_telemetry", "app", "fast_path", "repeated", "root_path", "targets", "trusted")

    def __init__(self, fast_path: FastPath, app: Any, proxy: Any) -> None:
        self.fast_path: Final = fast_path
        self.app: Final = app
        """The application around the cache, which puts itself into the scope; or None."""
        self.root_path: Final[str] = getattr(app, "root_path", "")
        self.trusted: Final[Any] = None if proxy is None else proxy.trusted_hosts
        """The hosts whose X-Forwarded-For names the client; None: there are none."""
        self.targets: Final[dict[bytes, tuple[str, bytes, bytes]]] = {}
        """Path, raw path and query of request targets."""
        self.repeated: Final[dict[bytes, tuple[KnownRequest, dict[str, Any]]]] = {}
        """Known requests with their scope, by all their bytes."""
        self._telemetry: Final = getattr(app, "_native_telemetry", None)

    def parsed(self, url: bytes, prefix: str) -> tuple[str, bytes, bytes] | None:
        """Return path, raw path and query of a request's target, as uvicorn does."""
        parts = self.targets.get(url)
        if parts is None:
            parts = _parsed(url, prefix)
            if parts is not None and len(url) <= _LONGEST_TARGET:
                if len(self.targets) >= _MOST_TARGETS:
                    self.targets.clear()
                self.targets[url] = parts
        return parts

    def remember(self, request: bytes, known: KnownRequest, scope: dict[str, Any]) -> None:
        """Remember the bytes of a whole request, to recognize it before it is parsed."""
        if len(request) <= LONGEST_REPEATED:
            if len(self.repeated) >= _MOST_REPEATED:
                self.repeated.clear()
            self.repeated[request] = (known, scope)

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """Return whether the X-Forwarded-For of a client is believed."""
        return self.trusted is not None and (client[0] if client else None) in self.trusted

    def watched(self) -> bool:
        """Return whether FastAPI's telemetry wants to see every request."""
        return self._telemetry is not None and bool(self._telemetry.enabled())


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLane:
    """The reason why there is no lane."""

    reason: str
    by_settings: bool = False
    """Whether the settings ask for nothing else."""


def lane_to(app: Any) -> Lane | NoLane | None:
    """Return the lane to the cache in an application, or why there is none; None: not yet known."""
    proxy: Any = None
    around: Any = None
    layer: Any = app
    while not isinstance(layer, CacheMiddleware):
        kind = _kind(layer)
        if issubclass(kind, Starlette) and around is None and _is_plain(kind):
            around, layer = layer, layer.middleware_stack
            if layer is None:
                return None
        elif kind is ProxyHeadersMiddleware:
            proxy, layer = layer, layer.app
        elif kind is ServerErrorMiddleware or _name(kind) in _TRANSPARENT:
            layer = layer.app
        else:
            return NoLane(reason=f"{kind.__name__} lies between the server and the cache")
    return _lane_from(layer, around, proxy)


def _lane_from(middleware: CacheMiddleware, around: Any, proxy: Any) -> Lane | NoLane | None:
    cache, fast_path = middleware.cache, middleware.fast_path
    if cache is None or fast_path is None:
        return NoLane(reason="the cache is switched off", by_settings=True)
    if middleware.service.settings.cache_verify:
        return NoLane(reason="CACHE_VERIFY takes samples of all hits", by_settings=True)
    near = cache.store.near
    if near is None:
        if cache.settings.cache_near_bytes:
            return None
        reason = "there is no near cache (CACHE_NEAR_BYTES) and no embedded store"
        return NoLane(reason=reason, by_settings=True)
    if near.exact:
        reason = "CACHE_NEAR=exact asks Redis at every hit, prompt does not"
        return NoLane(reason=reason, by_settings=True)
    return Lane(fast_path, around, proxy)


def _kind(layer: object) -> type[object]:
    return type(layer)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_plain(kind: type) -> bool:
    """Return whether an application is called as its framework calls it."""
    return kind.__call__.__module__.partition(".")[0] in {"fastapi", "starlette"}


def _parsed(url: bytes, prefix: str) -> tuple[str, bytes, bytes] | None:
    try:
        parsed = httptools.parse_url(url)
        path = parsed.path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, AttributeError, UnicodeDecodeError):
        return None
    if "%" in path:
        path = urllib.parse.unquote(path)
    return (prefix + path, prefix.encode("ascii") + parsed.path, parsed.query or b"")
