"""OpenAPI: what the cache does at each operation, in the schema of a FastAPI application."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, cast

from fastapi import FastAPI

from maxage.cache.targets import Targets
from maxage.errors import SettingsError
from maxage.middleware import CacheMiddleware
from maxage.route_map import map_of, middleware_of, sample_target, scope_of, title_of
from maxage.routing.router import router_of

_FIELD: Final = "x-cache"
_MARK: Final = "__maxage_documents__"
_ETAG: Final[dict[str, Any]] = {
    "description": "Validator; If-None-Match with it is answered 304.",
    "schema": {"type": "string"},
}
_AGE: Final[dict[str, Any]] = {
    "description": "Seconds since the response was made; only where it comes from the cache.",
    "schema": {"type": "integer", "minimum": 0},
}
_CACHE_STATUS: Final[dict[str, Any]] = {
    "description": "What the cache did (RFC 9211).",
    "schema": {"type": "string"},
    "example": "maxage; hit; ttl=42",
}
_NOT_MODIFIED: Final = "The response that If-None-Match or If-Modified-Since names is current."


def document_cache(app: Any) -> None:
    """Let the OpenAPI schema of an application say what its cache does.

    Each GET whose responses are stored gets their lifetime in seconds (`x-cache`), 304, and the
    headers ETag, Age and Cache-Status. Each mutating operation gets the paths of the reads and the
    tags that it purges (`x-cache`). What the schema says already stays, and an `openapi` function
    of the application's own is asked as before. A second call changes nothing.

    Args:
        app: a FastAPI application, or a `CacheMiddleware` around one.

    Raises:
        SettingsError: it is neither.
    """
    inner = router_of(app.service.app) if isinstance(app, CacheMiddleware) else app
    if not isinstance(inner, FastAPI):
        raise SettingsError(
            f"document_cache() got {type(app).__name__}; it takes a FastAPI application, or a "
            "CacheMiddleware around one."
        )
    original: Callable[[], dict[str, Any]] = inner.openapi
    if hasattr(original, _MARK):
        return

    def openapi() -> dict[str, Any]:
        schema = original()
        cache = middleware_of(app)[0]
        if cache.cache is not None:
            _Documents(cache).extend(schema)
        return schema

    setattr(openapi, _MARK, True)
    inner.openapi = openapi  # type: ignore[method-assign] # FastAPI is extended so


class _Documents:
    """What one cache says about the operations of a schema."""

    def __init__(self, cache: CacheMiddleware) -> None:
        settings = cache.service.settings
        self._headers: Final = {"ETag": _ETAG, "Age": _AGE} | (
            {"Cache-Status": _CACHE_STATUS} if settings.cache_status_header else {}
        )
        self._lifetimes: Final = dict(_lifetimes(cache.targets))
        self._writes: Final = {
            (method, write.path): write
            for write in map_of(cache.targets).writes
            for method in write.methods
        }

    def extend(self, schema: dict[str, Any]) -> None:
        """Add it to a schema, once."""
        paths: dict[str, dict[str, Any]] = schema.get("paths") or {}
        for path, item in paths.items():
            for method, operation in item.items():
                if isinstance(operation, dict) and _FIELD not in operation:
                    self._document(method.upper(), path, cast("dict[str, Any]", operation), paths)

    def _document(
        self, method: str, path: str, operation: dict[str, Any], shown: Collection[str]
    ) -> None:
        lifetime = self._lifetimes.get(path) if method == "GET" else None
        write = self._writes.get((method, path))
        if lifetime is not None:
            operation[_FIELD] = {"lifetime": lifetime}
            self._describe(operation.setdefault("responses", {}))
        elif write is not None:
            # A path that the schema does not show stays unknown.
            reads = [read for read in write.reads if read in shown]
            tags = [group[2:] for group in write.groups if group.startswith("g:")]
            operation[_FIELD] = {"purges": reads, "tags": tags}

    def _describe(self, responses: dict[str, Any]) -> None:
        """Add the headers to 200, and the answer 304."""
        plain = responses.get("200")
        if isinstance(plain, dict) and "$ref" not in plain:
            headers = cast("dict[str, Any]", plain).setdefault("headers", {})
            for name, header in self._headers.items():
                if name.lower() not in {one.lower() for one in headers}:
                    headers[name] = header
        responses.setdefault("304", {"description": _NOT_MODIFIED, "headers": self._headers})


def _lifetimes(targets: Targets) -> Iterator[tuple[str, float]]:
    """Yield the paths whose responses are stored though they state no lifetime, with their own."""
    for route in targets.routes.table(scope_of("GET", "/")).routes:
        if route.opaque or not route.accepts("GET") or route.status_code not in (None, 200):
            continue
        target = sample_target(targets, route)
        seconds = target.rules.default_lifetime
        if target.route is route and target.policy.cache and seconds > 0:
            yield title_of(route), int(seconds) if seconds == int(seconds) else seconds
