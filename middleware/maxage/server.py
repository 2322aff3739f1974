"""What can be told about the server that runs us. It is not in the ASGI scope.

uvicorn gives its lifespan receiver a configuration, which wrappers such as FastAPI's telemetry keep
in their closures. Where it is missing (another server, another version) the answers are the careful
ones: the server adds Date, and how many workers there are is read from the command line.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_DEPTH: Final = 16
"""Wrappers around the server's receiver that are looked through."""
_SERVERS: Final = frozenset({"fastapi", "granian", "gunicorn", "hypercorn", "uvicorn"})


def adds_date(receive: Any, *, unknown: bool = True) -> bool:
    """Return whether the server adds a Date of its own to every response.

    `unknown` is the answer where that cannot be told: yes for a server (all known ones do), no for
    what only sends requests, such as the transports of test clients.
    """
    config = _config(receive)
    if config is None:
        # Without a lifespan there is only the receiver of a request, which knows what it adds.
        added = getattr(getattr(receive, "__self__", None), "default_headers", None)
        return unknown if added is None else any(name.lower() == b"date" for name, _ in added)
    return bool(getattr(config, "date_header", True))


def worker_count(receive: Any, argv: Sequence[str] | None = None) -> int:
    """Return how many workers serve this application, as far as can be told; at least 1."""
    configured = getattr(_config(receive), "workers", None)
    if isinstance(configured, int) and configured > 1:
        return configured
    return max(1, _from_command_line(sys.argv if argv is None else argv), _from_environment())


def _config(receive: Any) -> Any:
    for _ in range(_DEPTH):
        config = getattr(getattr(receive, "__self__", None), "config", None)
        if config is not None or receive is None:
            return config
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


def _program(path: str) -> str:
    """Return the name of the program; `python -m name` runs a file in the folder of that name."""
    program = Path(path)
    return program.parent.name if program.stem == "__main__" else program.stem


def _from_environment() -> int:
    # The variable is only about the server that this process belongs to.
    value = os.environ.get("WEB_CONCURRENCY", "")
    return int(value) if value.isdecimal() else 1


def _from_command_line(argv: Sequence[str]) -> int:
    if not argv or _program(argv[0]) not in _SERVERS:
        return 1
    for flag, value in zip(argv, [*argv[1:], ""], strict=True):
        name, _, inline = flag.partition("=")
        if name in {"-w", "--workers"}:
            number = inline or value
            return int(number) if number.isdecimal() else 1
    return 1
