"""How many workers the server of this process has, without a word from the server itself."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SERVERS: Final = frozenset({"fastapi", "granian", "gunicorn", "hypercorn", "uvicorn"})
_WORKER_VARIABLES: Final = ("WEB_CONCURRENCY", "GRANIAN_WORKERS")


def configured_workers(argv: Sequence[str] | None = None) -> int:
    """Return how many workers serve the application, as far as can be told; at least 1.

    Args:
        argv: the command line; by default that of this process.
    """
    argv = sys.argv if argv is None else argv
    return max(1, _from_command_line(argv), _from_environment(), _from_supervisor())


def is_server(argv: Sequence[str]) -> bool:
    """Return whether a command line is that of a server."""
    return bool(argv) and _program(argv[0]) in _SERVERS


def _program(path: str) -> str:
    """Return the name of the program; `python -m name` runs a file in the folder of that name."""
    program = Path(path)
    return program.parent.name if program.stem == "__main__" else program.stem


def _from_command_line(argv: Sequence[str]) -> int:
    if not is_server(argv):
        return 1
    for flag, value in zip(argv, [*argv[1:], ""], strict=True):
        name, _, inline = flag.partition("=")
        if name in {"-w", "--workers"}:
            number = inline or value
            return int(number) if number.isdecimal() else 1
        if name.startswith("-w") and name[2:].isdecimal():
            return int(name[2:])
    return 1


def _from_environment() -> int:
    # The variables are only about the server that this process belongs to.
    values = (os.environ.get(name, "") for name in _WORKER_VARIABLES)
    return max(int(value) if value.isdecimal() else 1 for value in values)


def _from_supervisor() -> int:
    """Return what the configuration says that uvicorn and hypercorn start each worker with."""
    arguments = getattr(multiprocessing.current_process(), "_kwargs", {})
    workers = getattr(arguments.get("config"), "workers", 1)
    return workers if isinstance(workers, int) else 1
