"""Requests: the last ones of a worker in their order, for a simulation (`maxage simulate`)."""

import sys
import zlib
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, Final, final

import msgspec
from msgspec import Struct

from maxage.insight.label import target_of
from maxage.rfc9111.message import HeaderList, Headers
from maxage.routing.default_lifetime import SecretNames
from maxage.store.fork_safe import fork_safe_lock

PENDING_BYTES: Final = 8_000_000
"""Bytes of memory that requests take at most until they are published."""
_HIT_BYTES: Final = 128
"""Bytes of a request that the cache answered: all requests for a URL share its text."""
_CALL_BYTES: Final = 400
"""Bytes of any other request, besides its target."""
_TOLD: Final = (b"cache-control", b"set-cookie")
"""Header fields of an answer that decide whether it is stored."""
_LONGEST_VALUE: Final = 200
_LONGEST_TARGET: Final = 1000
_LEVEL: Final = 1
"""Of the compression: the fastest one."""
_SALT: Final = token_bytes(16)


class RecordedRequest(Struct, frozen=True, array_like=True, gc=False):
    """One request: neither its body, nor its headers, nor the values of secrets."""

    time: float
    """POSIX seconds: when a read began, or when the call for a write returned."""
    method: str
    host: str
    target: str
    """Path and query; digests stand for secrets."""
    status: int = 0
    """Of the application's answer; 0: the cache answered."""
    size: int = 0
    """Bytes of the answer's body."""
    seconds: float = 0.0
    """How long the application took, without the time in which the client took the answer."""
    has_user: bool = False
    """Whether the request carried credentials, so that its answer is one client's own."""
    said: HeaderList = ()
    """Cache-Control of the answer, and the name of Set-Cookie where there was one."""


class Chunk(Struct, frozen=True, array_like=True):
    """Requests of a worker that were published together."""

    first: int
    """The number of the first one among all requests of the worker."""
    ahead: float
    """Seconds by which the server's clock is ahead of the worker's."""
    requests: list[RecordedRequest]


def pack(chunk: Chunk) -> bytes:
    """Return a chunk as it is published."""
    return zlib.compress(msgspec.msgpack.encode(chunk), _LEVEL)


def unpack(value: bytes) -> Chunk | None:
    """Return a chunk that was published; None: it is one of another version."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(value), type=Chunk)
    except (zlib.error, msgspec.MsgspecError):
        return None


def recorded_target(scope: Mapping[str, Any], secrets: SecretNames) -> str:
    """Return path and query of a request, with digests in place of secrets.

    Another process has other digests, so that no secret can be guessed by them.
    """
    target = target_of(scope, secrets, _digest, sys.maxsize)
    if len(target) > _LONGEST_TARGET:
        target = target[:_LONGEST_TARGET] + _digest(target)
    return target.decode("latin-1")


def _digest(value: bytes) -> bytes:
    return b"~" + blake2b(value, key=_SALT, digest_size=6).hexdigest().encode()


def said_by(headers: Headers) -> HeaderList:
    """Return those header lines of an answer that decide whether it is stored; no cookie."""
    return tuple(
        (name, b"" if name == b"set-cookie" else value[:_LONGEST_VALUE])
        for name in _TOLD
        for value in headers.get_all(name)
    )


@final
class PendingRequests:
    """The requests of a worker that are not published yet; the oldest ones make room."""

    def __init__(self, most_bytes: int = PENDING_BYTES) -> None:
        self._most_bytes: Final = most_bytes
        self._lock: Final = fork_safe_lock()
        self._requests: Final[deque[RecordedRequest]] = deque()
        self._bytes = 0
        self._first = 0

    def note(self, request: RecordedRequest) -> None:
        """Add a request."""
        with self._lock:
            self._requests.append(request)
            self._bytes += _weight(request)
            while self._bytes > self._most_bytes:
                self._drop()

    def chunk(self, ahead: float) -> Chunk:
        """Return the requests, as they are to be published."""
        with self._lock:
            return Chunk(self._first, ahead, list(self._requests))

    def published(self, chunk: Chunk) -> None:
        """Forget the requests of a chunk."""
        with self._lock:
            while self._requests and self._first < chunk.first + len(chunk.requests):
                self._drop()

    def _drop(self) -> None:
        self._first += 1
        self._bytes -= _weight(self._requests.popleft())


def _weight(request: RecordedRequest) -> int:
    return _CALL_BYTES + len(request.target) if request.status else _HIT_BYTES
