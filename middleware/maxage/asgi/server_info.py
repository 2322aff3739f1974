"""Facts about the server around us that are not in the ASGI scope.

uvicorn and hypercorn give their lifespan receiver a configuration, which wrappers such as FastAPI's
telemetry keep in their closures. Where it is missing (another server, another version) the answers
are the careful ones: the server adds Date, and how many workers there are is read from the command
line and the environment.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

from maxage.worker_count import configured_workers, is_server

_DEPTH: Final = 16
"""Wrappers around the server's receiver that are looked through."""


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
        # The names of uvicorn and of hypercorn.
        names = ("date_header", "include_date_header")
        return all(getattr(config, name, True) for name in names)
    # Without a lifespan there is only the receiver of a request. uvicorn's has the added headers.
    added = getattr(owner, "default_headers", None)
    if added is not None:
        return any(name.lower() == b"date" for name, _ in added)
    return unknown or is_server(sys.argv)


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
