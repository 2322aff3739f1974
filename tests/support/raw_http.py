"""A blocking HTTP/1.1 client that sends exact bytes and shows exactly what came back."""

import json
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.closing import Closing
from tests.support.waiting import PATIENCE

Text = str | bytes
HeaderInput = Mapping[str, str] | Iterable[tuple[Text, Text]]


class CutResponseError(Exception):
    """The connection ended before the response was whole; `partial` is what had arrived."""

    def __init__(self, why: str, partial: "RawResponse | None") -> None:
        super().__init__(why)
        self.partial = partial


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """One response with its header lines in order, in their own case and number."""

    status: int
    reason: bytes = b""
    version: bytes = b"HTTP/1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    interim: "tuple[RawResponse, ...]" = ()

    def header(self, name: Text) -> bytes | None:
        """The value of the first line of this name, any case, or None."""
        values = self.headers_named(name)
        return values[0] if values else None

    def headers_named(self, name: Text) -> list[bytes]:
        """The values of all lines of this name, any case, in order."""
        wanted = _bytes(name).lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RawConnection(Closing):
    """One TCP connection to an HTTP server, for any number of requests, also pipelined."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = PATIENCE) -> None:
        self.port = port
        self.host = host
        self._socket = socket.create_connection((host, port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._methods: list[str] = []

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self._socket.sendall(data)

    def send_request(
        self,
        method: str,
        target: Text,
        headers: HeaderInput = (),
        body: bytes = b"",
        *,
        host_header: bool = True,
    ) -> None:
        """Send one request without waiting for the answer; call again for pipelining."""
        self._methods.append(method)
        self.send(
            request_bytes(
                method,
                target,
                headers,
                body,
                host=f"{self.host}:{self.port}" if host_header else None,
            )
        )

    def request(
        self,
        method: str,
        target: Text,
        headers: HeaderInput = (),
        body: bytes = b"",
    ) -> RawResponse:
        """Send one request and read its response."""
        self.send_request(method, target, headers, body)
        return self.read_response()

    def get(self, target: Text, headers: HeaderInput = ()) -> RawResponse:
        """Send a GET and read its response."""
        return self.request("GET", target, headers)

    def read_response(self, method: str | None = None) -> RawResponse:
        """Read the next whole response; `method` is that of a request sent as plain bytes."""
        sent = self._methods.pop(0) if self._methods else "GET"
        method = method or sent
        interim: list[RawResponse] = []
        while True:
            head = self.read_head()
            if head.status >= 200 or head.status == 101:
                break
            interim.append(head)
        body, trailers = self._read_body(head, method)
        return _with_body(head, body, trailers, interim)

    def read_head(self) -> RawResponse:
        """Read up to the blank line that ends the header section."""
        head = self.read_until(b"\r\n\r\n")
        start, *lines = head[:-4].split(b"\r\n")
        version, status, reason = (*start.split(b" ", 2), b"")[:3]
        return RawResponse(
            version=version, status=int(status), reason=reason, headers=_header_lines(lines)
        )

    def read_until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        while (at := self._buffer.find(end)) < 0:
            if not self._fill():
                raise CutResponseError(f"the connection ended after {bytes(self._buffer)!r}", None)
        return self._take(at + len(end))

    def read_exactly(self, size: int) -> bytes:
        """Read this many bytes."""
        while len(self._buffer) < size:
            if not self._fill():
                raise CutResponseError(
                    f"the connection ended after {len(self._buffer)} of {size} bytes", None
                )
        return self._take(size)

    def read_some(self) -> bytes:
        """Read what is there, at least one byte; nothing at the end of the connection."""
        if not self._buffer:
            self._fill()
        return self._take(len(self._buffer))

    def read_to_end(self) -> bytes:
        """Read until the server closes."""
        while self._fill():
            pass
        return self._take(len(self._buffer))

    def closed_by_server(self) -> bool:
        """Wait for the server's next move: True when it closes, False when it sends bytes."""
        return not self._buffer and not self._fill()

    def finish_sending(self) -> None:
        """Close the sending half only."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def abort(self) -> None:
        """Hang up with a reset instead of an orderly close."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _read_body(self, head: RawResponse, method: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        if method == "HEAD" or head.status in {101, 204, 304}:
            return b"", []
        codings = [value.lower() for value in head.headers_named("transfer-encoding")]
        if codings and codings[-1].rsplit(b",", 1)[-1].strip() == b"chunked":
            return self._read_chunked(head)
        lengths = head.headers_named("content-length")
        if not lengths:
            return self.read_to_end(), []
        try:
            return self.read_exactly(int(lengths[0])), []
        except CutResponseError as error:
            raise CutResponseError(str(error), self._partial(head)) from error

    def _read_chunked(self, head: RawResponse) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        body = bytearray()
        try:
            while size := int(self.read_until(b"\r\n").split(b";", 1)[0], 16):
                body += self.read_exactly(size)
                self.read_exactly(2)
            trailers: list[bytes] = []
            while line := self.read_until(b"\r\n")[:-2]:
                trailers.append(line)
        except CutResponseError as error:
            raise CutResponseError(str(error), self._partial(head, bytes(body))) from error
        return bytes(body), _header_lines(trailers)

    def _partial(self, head: RawResponse, body: bytes = b"") -> RawResponse:
        return _with_body(head, body + self._take(len(self._buffer)), [], [])

    def _fill(self) -> bool:
        chunk = self._socket.recv(65536)
        self._buffer += chunk
        return bool(chunk)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def request_bytes(
    method: str,
    target: Text,
    headers: HeaderInput = (),
    body: bytes = b"",
    *,
    host: str | None = "127.0.0.1",
) -> bytes:
    """A request as bytes; Host and, with a body, Content-Length are added when not given."""
    lines = [(_bytes(k), _bytes(v)) for k, v in _pairs(headers)]
    names = {name.lower() for name, _ in lines}
    if host is not None and b"host" not in names:
        lines.insert(0, (b"Host", host.encode()))
    if body and not names & {b"content-length", b"transfer-encoding"}:
        lines.append((b"Content-Length", b"%d" % len(body)))
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method.encode(), _bytes(target), head, body)


def request(
    port: int,
    method: str,
    target: Text,
    headers: HeaderInput = (),
    body: bytes = b"",
    *,
    timeout: float = PATIENCE,
) -> RawResponse:
    """One request on a connection of its own."""
    with RawConnection(port, timeout=timeout) as connection:
        return connection.request(method, target, headers, body)


def get(
    port: int, target: Text, headers: HeaderInput = (), *, timeout: float = PATIENCE
) -> RawResponse:
    """One GET on a connection of its own."""
    return request(port, "GET", target, headers, timeout=timeout)


def _pairs(headers: HeaderInput) -> Iterable[tuple[Text, Text]]:
    return cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers


def _bytes(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _header_lines(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    split = (line.split(b":", 1) for line in lines)
    return [(name, value.strip(b" \t")) for name, value in split]


def _with_body(
    head: RawResponse,
    body: bytes,
    trailers: list[tuple[bytes, bytes]],
    interim: list[RawResponse],
) -> RawResponse:
    return RawResponse(
        version=head.version,
        status=head.status,
        reason=head.reason,
        headers=head.headers,
        body=body,
        trailers=trailers,
        interim=tuple(interim),
    )
