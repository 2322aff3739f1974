"""The fast lane: a protocol for uvicorn that answers plain hits as soon as the headers are parsed.

    uvicorn app.main:app --http maxage.uvicorn:FastLaneProtocol

It makes no scope, no task and no response cycle. A request that repeats an answered one byte for
byte is not even parsed. `FastPath` answers, as in the middleware, and the bytes are those that
uvicorn's own protocol would have sent. The lane is for hits of the embedded store and of the near
cache in `prompt` mode; `exact` has to ask Redis first. uvicorn's own protocol takes all else: other
requests, requests behind one that is not answered yet, a client that does not read, a server at its
limit of connections. Where there is no lane (`maxage.uvicorn.conditions`), one log line says why.
"""

# pyright: reportPrivateUsage=false
# uvicorn has no public names for the parts used here; `_missing` checks them before their use.

import asyncio
import logging
import weakref
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from maxage.asgi.server_info import without_date
from maxage.reads.known_request import KnownRequest
from maxage.store.prepared import PreparedResponse
from maxage.uvicorn.conditions import LONGEST_REPEATED, Lane, NoLane, lane_to

logger = logging.getLogger("maxage")

_METHODS: Final = frozenset({b"GET", b"HEAD"})
_JOINED: Final = 16_384
"""Up to how many bytes a body is sent together with its head."""


def _missing() -> str | None:
    """Return a name that this protocol needs and this version of uvicorn lacks, if any."""
    names = set(HttpToolsProtocol.__init__.__code__.co_names)
    for method in (
        "on_message_begin", "on_headers_complete", "on_body", "on_message_complete",
        "connection_made", "connection_lost", "data_received", "_unset_keepalive_if_required",
    ):  # fmt: skip
        code = getattr(getattr(HttpToolsProtocol, method, None), "__code__", None)
        if code is None:
            return method
        names.update(code.co_names)
    needed = {
        "access_log", "access_logger", "connections", "cycle", "expect_100_continue", "flow",
        "headers", "limit_concurrency", "parser", "pipeline", "response_complete", "root_path",
        "scheme", "scope", "server_state", "tasks", "timeout_keep_alive",
        "timeout_keep_alive_task", "transport", "url",
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
        found = NoLane(reason=f"this version of uvicorn has no {_LACK}")
    if found is None:
        return None
    if isinstance(found, NoLane):
        level = logging.INFO if found.by_settings else logging.WARNING
        logger.log(level, "The fast lane is off: %s.", found.reason)
    _lanes[config] = lane = found if isinstance(found, Lane) else None
    return lane


_LACK: Final = _missing()


class FastLaneProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol on httptools, with the fast lane for plain hits."""

    _lane: Lane | None = None
    _answered = False
    """Whether the request that is being parsed was answered here, or gets no answer."""
    _parsing = False
    """Whether the parser is within a request."""
    _begun = 0
    """Requests that have begun on the connection."""
    _repeatable: tuple[KnownRequest, dict[str, Any]] | None = None
    """The last request with its scope, if it may be answered again unparsed."""
    _idle_since: float | None = None
    """When the connection began to wait for a request after an answer of ours (loop time)."""
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

    def data_received(self, data: bytes) -> None:
        """Answer a request of the very same bytes as an earlier one, or parse it."""
        lane = self._lane
        if lane is None:
            super().data_received(data)
            return
        within = self._parsing
        if not within and len(data) <= LONGEST_REPEATED:
            repeated = lane.repeated.get(data)
            if repeated is not None and self._answer_again(lane, *repeated):
                return
        before, self._repeatable = self._begun, None
        super().data_received(data)
        # It was a whole request and no more.
        whole = not within and not self._parsing and self._begun == before + 1
        repeatable: tuple[KnownRequest, dict[str, Any]] | None = self._repeatable
        if whole and repeatable is not None:
            lane.remember(data, *repeatable)

    def on_message_begin(self) -> None:
        """Begin a request; its scope is made when it is needed."""
        if self._lane is None:
            super().on_message_begin()
            return
        self._answered = False
        self._idle_since = None
        self._parsing = True
        self._begun += 1
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Answer at once, or let uvicorn answer."""
        lane = self._lane
        if lane is None:
            super().on_headers_complete()
            return
        # Requests pipelined behind the last one of a connection are not processed (RFC 9112
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
        self._parsing = False
        if not self._answered:
            super().on_message_complete()

    def _answer_again(self, lane: Lane, known: KnownRequest, scope: dict[str, Any]) -> bool:
        """Answer a request that is known by all its bytes; return whether that could be done."""
        if self.transport.is_closing() or not self._is_free():
            return False
        prepared = lane.fast_path.again(known, scope)
        head = None if prepared is None else self._head(lane, prepared, scope["method"])
        if prepared is None or head is None:
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._send(known, scope, prepared, head, version="1.1", keeps=True)
        return True

    def _answer(self, lane: Lane) -> bool:
        """Answer the request that was parsed; return whether that could be done."""
        parser: Any = self.parser
        method = parser.get_method()
        if method not in _METHODS or not self._is_free():
            return False
        parts = lane.parsed(self.url, self.root_path)
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
        known = lane.fast_path.known(scope)
        prepared = None if known is None else lane.fast_path.near(known, self.headers)
        head = None if prepared is None else self._head(lane, prepared, scope["method"])
        if known is None or prepared is None or head is None:
            return False
        names_client = self.access_log and lane.trusted is not None and self._names_client()
        if names_client and lane.trusts(self.client):
            # It is that client that is to be logged.
            return False
        version = parser.get_http_version()
        keeps = version != "1.0" and parser.should_keep_alive()
        if keeps and version == "1.1" and not names_client:
            self._repeatable = (known, scope)
        self._send(known, scope, prepared, head, version=version, keeps=keeps)
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

    def _names_client(self) -> bool:
        return any(name == b"x-forwarded-for" for name, _ in self.headers)

    def _head(self, lane: Lane, prepared: PreparedResponse, method: str) -> bytes | None:
        """Return status line and headers, but for the last empty line; None: not for this lane."""
        defaults = self.server_state.default_headers
        made = prepared.head
        if made is None or made[0] is not defaults:
            framed = (
                prepared.confirm is None and not lane.watched() and _is_framed(prepared, method)
            )
            head = _head_of(prepared, defaults) if framed else None
            made = prepared.head = (defaults, head)
        return made[1]

    def _send(
        self,
        known: KnownRequest,
        scope: dict[str, Any],
        prepared: PreparedResponse,
        head: bytes,
        *,
        version: str,
        keeps: bool,
    ) -> None:
        known.route.counts.hits += 1
        if self.access_log:
            self._log(scope, version, prepared.status)
        end = b"\r\n" if keeps else b"connection: close\r\n\r\n"
        body = prepared.body
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


def _head_of(prepared: PreparedResponse, defaults: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return status line and headers as uvicorn sends them; None: it would refuse one."""
    lines = [httptools_impl.STATUS_LINE[prepared.status]]
    if any(name.lower() == b"date" for name, _ in prepared.headers):
        defaults = without_date(defaults)
    for name, value in (*defaults, *prepared.headers):
        if httptools_impl.HEADER_RE.search(name) or httptools_impl.HEADER_VALUE_RE.search(value):
            return None
        lines.append(b"%b: %b\r\n" % (name.lower(), value))
    return b"".join(lines)


def _is_framed(prepared: PreparedResponse, method: str) -> bool:
    """Return whether uvicorn would send the response as it is, without framing of its own."""
    lines = [(name.lower(), value) for name, value in prepared.headers]
    names = [name for name, _ in lines]
    if b"transfer-encoding" in names or b"connection" in names or prepared.status not in _STATUSES:
        return False
    lengths = [value for name, value in lines if name == b"content-length"]
    if prepared.status in {204, 304}:
        return not lengths
    return method == "HEAD" or lengths == [b"%d" % len(prepared.body)]


_STATUSES: Final = frozenset(range(200, 600))
