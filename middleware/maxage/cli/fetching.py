"""Fetching URLs of one server, at a bounded rate, over a bounded number of connections."""

import http.client
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import quote, urljoin, urlsplit

from maxage.cli.usage import UsageError
from maxage.redis_store.servers.node import describe

_KEPT: Final = "/!$&'()*+,;=:@~%?[]"
_TIMEOUT: Final = 30.0
"""Seconds for each step of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of one URL."""

    url: str
    status: int
    """0: there was no answer."""
    said: str
    """Cache-Status, or the error."""
    body: bytes = b""


@final
class Fetcher:
    """Gets URLs of one server; those of other servers are never asked.

    Args:
        base: the server's URL.
        headers: of each request.
        rate: requests a second at most.

    Raises:
        UsageError: the base is no URL.
    """

    def __init__(self, base: str, headers: Sequence[tuple[str, str]], *, rate: float) -> None:
        try:
            parts = urlsplit(base)
        except ValueError:
            # Such as an IPv6 address without its end.
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{base!r} names no server; it takes a URL such as https://shop.test.")
        self._base: Final = base if parts.path else base + "/"
        self._origin: Final = (parts.scheme, parts.netloc)
        self._headers: Final = dict(headers)
        self._pause: Final = 1.0 / rate
        self._lock: Final = threading.Lock()
        self._next = 0.0
        self._own: Final = threading.local()
        self._made: Final[list[http.client.HTTPConnection]] = []

    def absolute(self, url: str) -> str | None:
        """Return a path or URL as one of this server; None: it is none of this server."""
        try:
            whole = urljoin(self._base, url)
            parts = urlsplit(whole)
        except ValueError:
            return None
        return whole if (parts.scheme, parts.netloc) == self._origin else None

    def document(self, url: str) -> bytes:
        """Return the body of a URL.

        Raises:
            UsageError: it belongs to another server, or there is no 200.
        """
        whole = self.absolute(url)
        if whole is None:
            raise UsageError(f"{url!r} belongs to another server than {self._base!r}.")
        got = self.get(whole)
        if got.status != 200:
            why = got.status or got.said
            raise UsageError(f"{whole!r} cannot be fetched: {why}.")
        return got.body

    def all(self, urls: Iterable[str], concurrency: int) -> Iterator[Fetched]:
        """Yield what became of each URL, in the order of the answers."""
        pool = ThreadPoolExecutor(concurrency)
        try:
            for done in as_completed([pool.submit(self.get, url) for url in urls]):
                yield done.result()
        finally:
            # Where the command is interrupted, what has not begun is not begun any more.
            pool.shutdown(cancel_futures=True)

    def get(self, url: str) -> Fetched:
        """Get one URL; an error is a part of the result."""
        self._wait()
        parts = urlsplit(url)
        target = quote(parts.path or "/", safe=_KEPT)
        if parts.query:
            target += "?" + quote(parts.query, safe=_KEPT)
        try:
            return self._asked(url, target)
        except (OSError, http.client.HTTPException) as error:
            return Fetched(url=url, status=0, said=describe(error))

    def _asked(self, url: str, target: str) -> Fetched:
        connection, is_used = self._connection()
        try:
            connection.request("GET", target, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._own.connection = None
            if is_used:
                # The server may have closed it while it was idle.
                return self._asked(url, target)
            raise
        said = answer.headers.get("cache-status", "")
        return Fetched(url=url, status=answer.status, said=said, body=body)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._made:
            connection.close()

    def _wait(self) -> None:
        """Wait until the next request may begin."""
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._next)
            self._next = begins + self._pause
        time.sleep(begins - now)

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return this thread's connection, and whether it was used before."""
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is not None:
            return connection, True
        scheme, host = self._origin
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = self._own.connection = kind(host, timeout=_TIMEOUT)
        self._made.append(connection)
        return connection, False
