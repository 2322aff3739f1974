"""The fast lane: a protocol for uvicorn that answers plain hits as soon as the headers are parsed.

    uvicorn app.main:app --http maxage.uvicorn:FastLaneProtocol

No scope, no task and no response cycle exist then. What answers is `Shortcut`, as in the
middleware, and the bytes are those that the ordinary way would have sent. It is for hits of the
embedded store and of the near cache in `prompt` mode; `exact` has to ask Redis first. Everything
else takes the ordinary way: other requests, requests behind one that is not answered yet, a client
that does not read, a server at its limit of connections.

Between the server and the cache only layers may lie of which it is known that they change neither a
plain request nor its answer. With any other the lane is not used, and one line in the log says so.
"""

# pyright: reportPrivateUsage=false
# uvicorn and FastAPI have no public way to what is needed here; it is checked before it is used.

import asyncio
import logging
import urllib.parse
import weakref
from dataclasses import dataclass
from typing import Any, Final, final

import httptools
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from maxage.asgi import CacheMiddleware
from maxage.shortcut import Ready, Shortcut

logger = logging.getLogger("maxage")

_TRANSPARENT: Final = frozenset({
    "fastapi._body_limit.AppBodyLimitMiddleware",
    "fastapi.telemetry._asgi.ExceptionTelemetryMiddleware",
})  # fmt: skip
"""Layers that FastAPI puts around all others; they look at bodies and at exceptions."""
_METHODS: Final = frozenset({b"GET", b"HEAD"})
_MOST_TARGETS: Final = 4096
"""Request targets that are remembered in their parts."""
_JOINED: Final = 16_384
"""Up to how many bytes a body is sent together with its head."""


@final
class Lane:
    """A cache that the server reaches through nothing but transparent layers."""

    __slots__ = ("_telemetry", "app", "root_path", "shortcut", "targets", "trusted")

    def __init__(self, shortcut: Shortcut, app: Any, proxy: Any) -> None:
        self.shortcut: Final = shortcut
        self.app: Final = app
        """The application around the cache, which puts itself into the scope; or None."""
        self.root_path: Final[str] = getattr(app, "root_path", "")
        self.trusted: Final = None if proxy is None else proxy.trusted_hosts
        """The hosts whose X-Forwarded-For names the client; None: nobody's does."""
        self.targets: Final[dict[bytes, tuple[str, bytes, bytes]]] = {}
        self._telemetry: Final = getattr(app, "_native_telemetry", None)

    def watched(self) -> bool:
        """Return whether FastAPI's telemetry wants to see every request."""
        return self._telemetry is not None and bool(self._telemetry.enabled())


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Why there is no lane."""

    reason: str
    by_settings: bool = False
    """Whether the settings ask for nothing else."""


def lane_to(app: Any) -> Lane | Aside | None:
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
            return Aside(reason=f"{kind.__name__} lies between the server and the cache")
    return _lane_from(layer, around, proxy)


def _lane_from(middleware: CacheMiddleware, around: Any, proxy: Any) -> Lane | Aside | None:
    cache, shortcut = middleware.cache, middleware.shortcut
    if cache is None or shortcut is None:
        return Aside(reason="the cache is switched off", by_settings=True)
    near = cache.store.near
    if near is None:
        if cache.settings.near_cache_bytes:
            return None
        reason = "there is no near cache (NEAR_CACHE_BYTES) and no embedded store"
        return Aside(reason=reason, by_settings=True)
    if near.exact:
        reason = "NEAR_CACHE=exact asks Redis at every hit, prompt does not"
        return Aside(reason=reason, by_settings=True)
    return Lane(shortcut, around, proxy)


def _kind(layer: object) -> type[object]:
    return type(layer)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_plain(kind: type) -> bool:
    """Return whether an application is called as its framework calls it."""
    return kind.__call__.__module__.partition(".")[0] in {"fastapi", "starlette"}


def _missing() -> str | None:
    """Return what this version of uvicorn lacks of what is needed here."""
    names = set(HttpToolsProtocol.__init__.__code__.co_names)
    for method in (
        "on_message_begin", "on_headers_complete", "on_body", "on_message_complete",
        "connection_made", "connection_lost",
    ):  # fmt: skip
        code = getattr(getattr(HttpToolsProtocol, method, None), "__code__", None)
        if code is None:
            return method
        names.update(code.co_names)
    needed = {
        "access_log", "access_logger", "connections", "cycle", "expect_100_continue", "flow",
        "headers", "limit_concurrency", "parser", "pipeline", "response_complete", "root_path",
        "scheme", "scope", "server_state", "tasks", "timeout_keep_alive", "transport", "url",
    }  # fmt: skip
    absent = sorted(needed - names)
    absent += [
        name
        for name in ("STATUS_LINE", "HEADER_RE", "HEADER_VALUE_RE")
        if not hasattr(httptools_impl, name)
    ]
    return absent[0] if absent else None


_lanes: weakref.WeakKeyDictionary[Any, Lane | None] = weakref.WeakKeyDictionary()


def _lane(config: Any) -> Lane | None:
    """Return the lane of a server, once its application is built."""
    if config in _lanes:
        return _lanes[config]
    found = lane_to(config.loaded_app)
    if _LACK is not None:
        found = Aside(reason=f"this version of uvicorn has no {_LACK}")
    if found is None:
        return None
    if isinstance(found, Aside):
        level = logging.INFO if found.by_settings else logging.WARNING
        logger.log(level, "The fast lane steps aside: %s.", found.reason)
    _lanes[config] = lane = found if isinstance(found, Lane) else None
    return lane


_LACK: Final = _missing()


class FastLaneProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol on httptools, with the fast lane for plain hits."""

    _lane: Lane | None = None
    _answered = False
    """Whether the request that is being parsed was answered here, or gets no answer any more."""
    _idle_since: float | None = None
    """Since when the connection waits for a request after an answer of ours."""
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._lane = _lane(self.config)

    def connection_lost(self, exc: Exception | None) -> None:
        """End it."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request; its scope is made when it is needed."""
        if self._lane is None:
            super().on_message_begin()
            return
        self._answered = False
        self._idle_since = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Answer at once, or go the ordinary way."""
        lane = self._lane
        if lane is None:
            super().on_headers_complete()
            return
        # What is pipelined behind the last request of a connection is not processed (RFC 9112
        # section 9.6).
        if self.transport.is_closing() or self._answer(lane):
            self._answered = True
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        # The scope holds this very list.
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body."""
        if not self._answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._answered:
            super().on_message_complete()

    def _answer(self, lane: Lane) -> bool:
        parser: Any = self.parser
        method = parser.get_method()
        if method not in _METHODS or not self._is_free():
            return False
        parts = lane.targets.get(self.url) or self._parsed(lane)
        if parts is None:
            return False
        scope: dict[str, Any] = {
            "method": method.decode("ascii"),
            "path": parts[0],
            "raw_path": parts[1],
            "query_string": parts[2],
            "scheme": self.scheme,
            "root_path": lane.root_path or self.root_path,
            "headers": self.headers,
            "app": lane.app,
        }
        ready = lane.shortcut.find(scope)
        if not isinstance(ready, Ready) or (
            lane.trusted is not None and self.access_log and self._is_proxied(lane)
        ):
            return False
        defaults = self.server_state.default_headers
        wire: Any = ready.wire
        if wire is None or wire[0] is not defaults:
            wire = ready.wire = (defaults, self._head(lane, ready, scope["method"]))
        if wire[1] is None:
            return False
        lane.shortcut.counters.hits += 1
        self._send(scope, ready, wire[1])
        return True

    def _is_free(self) -> bool:
        """Return whether it is this request's turn, and the server has room for it."""
        limit = self.limit_concurrency
        cycle: Any = self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and (limit is None or (len(self.connections) < limit and len(self.tasks) < limit))
        )

    def _is_proxied(self, lane: Lane) -> bool:
        """Return whether the request names the client that is to be logged."""
        trusted: Any = lane.trusted
        named = any(name == b"x-forwarded-for" for name, _ in self.headers)
        return named and (self.client[0] if self.client else None) in trusted

    def _parsed(self, lane: Lane) -> tuple[str, bytes, bytes] | None:
        """Return path, raw path and query of the request's target, as uvicorn does."""
        try:
            url = httptools.parse_url(self.url)
            path = url.path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, AttributeError, UnicodeDecodeError):
            return None
        if "%" in path:
            path = urllib.parse.unquote(path)
        prefix = self.root_path
        parts = (prefix + path, prefix.encode("ascii") + url.path, url.query or b"")
        if len(lane.targets) >= _MOST_TARGETS:
            lane.targets.clear()
        lane.targets[self.url] = parts
        return parts

    def _head(self, lane: Lane, ready: Ready, method: str) -> bytes | None:
        """Return status line and headers, but for the last empty line; None: not for this lane."""
        if ready.confirmed is not None or lane.watched() or not _is_framed(ready, method):
            return None
        lines = [httptools_impl.STATUS_LINE[ready.status]]
        for name, value in (*self.server_state.default_headers, *ready.headers):
            if httptools_impl.HEADER_RE.search(name) or httptools_impl.HEADER_VALUE_RE.search(
                value
            ):
                return None
            lines.append(b"%b: %b\r\n" % (name.lower(), value))
        return b"".join(lines)

    def _send(self, scope: dict[str, Any], ready: Ready, head: bytes) -> None:
        parser: Any = self.parser
        version = parser.get_http_version()
        if self.access_log:
            self._log(scope, version, ready.status)
        keeps = version != "1.0" and parser.should_keep_alive()
        end = b"\r\n" if keeps else b"connection: close\r\n\r\n"
        body = ready.body
        if len(body) <= _JOINED:
            self.transport.write(b"".join((head, end, body)))
        else:
            self.transport.write(head + end)
            self.transport.write(body)
        self.server_state.total_requests += 1
        if keeps:
            self._wait_for_more()
        else:
            self.transport.close()

    def _log(self, scope: dict[str, Any], version: str, status: int) -> None:
        seen: Any = {**scope, "client": self.client}
        self.access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(seen),
            scope["method"],
            get_path_with_query_string(seen),
            version,
            status,
        )

    # One timer for many answers: to begin and to cancel one costs more than to look at the clock.

    def _wait_for_more(self) -> None:
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_if_idle)

    def _look_if_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(left, self._look_if_idle)


def _is_framed(ready: Ready, method: str) -> bool:
    """Return whether uvicorn would send the response as it is, without framing of its own."""
    lines = [(name.lower(), value) for name, value in ready.headers]
    names = [name for name, _ in lines]
    if b"transfer-encoding" in names or b"connection" in names or ready.status not in _STATUSES:
        return False
    lengths = [value for name, value in lines if name == b"content-length"]
    if ready.status in {204, 304}:
        return not lengths
    return method == "HEAD" or lengths == [b"%d" % len(ready.body)]


_STATUSES: Final = frozenset(range(200, 600))
