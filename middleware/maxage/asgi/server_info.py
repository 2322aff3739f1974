"""Facts about the server around us that are not in the ASGI scope.

uvicorn and hypercorn give their lifespan receiver a configuration, which wrappers such as FastAPI's
telemetry keep in their closures. Where it is missing (another server, another version) the answers
are the careful ones: the server adds Date, and how many workers there are is read from the command
line and the environment.
"""

import logging
import sys
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Final

from maxage.worker_count import configured_workers, is_server

_DEPTH: Final = 16
"""Wrappers around the server's receiver that are looked through."""
_DATE_SWITCHES: Final = ("date_header", "include_date_header")
"""The names of uvicorn and of hypercorn for "add a Date to every response"."""

_taken_over: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""Changed configurations: the middleware of a mounted application does not see them."""

logger = logging.getLogger("maxage")


def take_over_date(receive: Any) -> None:
    """Make the server of a lifespan add no Date of its own, if its configuration can be changed.

    A hit keeps the Date at which its response was made. With a Date of "now" in its place, clients
    that work out the age of a response from Date alone keep it for up to twice its lifetime.
    """
    config = getattr(_owner(receive), "config", None)
    for name in _DATE_SWITCHES:
        if hasattr(config, name):
            setattr(config, name, False)
            _taken_over.add(config)


def drop_date(receive: Any) -> bool:
    """Make the server add no Date to the response of one request; return whether it adds none.

    This is for applications without a lifespan, such as mounted ones: other responses of the server
    keep its Date. Only the receiver of uvicorn has the headers that are added.
    """
    owner = _owner(receive)
    added = getattr(owner, "default_headers", None)
    if added is None:
        return False
    owner.default_headers = without_date(added)
    return True


def without_date(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers but for Date."""
    return [line for line in headers if line[0].lower() != b"date"]


def warn_of_two_dates() -> None:
    """Say that hits carry the server's Date, where a server is known to add one."""
    if is_server(sys.argv):
        logger.warning(
            'The server adds Date to every response, and a hit is dated "now" in place of the time '
            "at which its response was made: clients that ignore Age keep it for up to twice its "
            "lifetime. Start uvicorn with --no-date-header, Hypercorn with include_date_header = "
            "false in its configuration."
        )


def adds_date(receive: Any, *, unknown: bool = True) -> bool:
    """Return whether the server adds a Date of its own to every response.

    `unknown` is the answer where no sign tells: yes for a server (nearly all do), no for a client
    that calls the application itself, such as the transports of test clients.
    """
    owner = _owner(receive)
    if type(owner).__module__.partition(".")[0] == "granian":
        # It adds one where there is none, and leaves ours alone.
        return False
    config = getattr(owner, "config", None)
    if config is not None:
        return all(getattr(config, name, True) for name in _DATE_SWITCHES)
    # Without a lifespan there is only the receiver of a request. uvicorn's has the added headers.
    added = getattr(owner, "default_headers", None)
    if added is not None:
        return any(name.lower() == b"date" for name, _ in added)
    return not _taken_over if is_server(sys.argv) else unknown


def worker_count(receive: Any, argv: Sequence[str] | None = None) -> int:
    """Return how many workers serve this application, as far as can be told; at least 1."""
    configured = getattr(getattr(_owner(receive), "config", None), "workers", None)
    if isinstance(configured, int) and configured > 1:
        return configured
    return configured_workers(argv)


def _owner(receive: Any) -> Any:
    """Return the object of the server's whose method the receiver is; None: not known."""
    for _ in range(_DEPTH):
        owner = getattr(receive, "__self__", None)
        if owner is not None or receive is None:
            return owner
        receive = _wrapped(receive)
    return None


def _wrapped(receive: Any) -> Any:
    """Return the receiver that a wrapper, a function inside a function, passes on to."""
    code, cells = getattr(receive, "__code__", None), getattr(receive, "__closure__", None)
    if code is None or not cells:
        return None
    for name, cell in zip(code.co_freevars, cells, strict=True):
        if name == "receive":
            return cell.cell_contents
    return None
