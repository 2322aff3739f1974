"""How many workers the server of this process has, without a word from the server itself."""

import ast
import os
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

_SERVERS: Final = frozenset({"fastapi", "granian", "gunicorn", "hypercorn", "uvicorn"})
WORKER_VARIABLES: Final = ("WEB_CONCURRENCY", "GRANIAN_WORKERS", "UVICORN_WORKERS")
_ASSIGNS: Final = (ast.Assign, ast.AnnAssign)
_SEVERAL: Final = 2
"""What counts where a configuration computes the number of workers."""


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
    if _program(argv[0]) == "gunicorn":
        argv = [*_gunicorn_variable(), *argv[1:]]
        return max(_workers_option(argv), _from_gunicorn_file(argv))
    return _workers_option(argv)


def _workers_option(argv: Sequence[str]) -> int:
    number = _option(argv, "-w", "--workers") or ""
    return int(number) if number.isdecimal() else 1


def _option(argv: Sequence[str], short: str, long: str) -> str | None:
    """Return the value of an option, as `-w 2`, `-w2`, `--workers 2` or `--workers=2`."""
    found = None
    for flag, value in pairwise([*argv, ""]):
        name, _, inline = flag.partition("=")
        if name in {short, long}:
            found = inline or value
        elif flag.startswith(short):
            found = flag.removeprefix(short)
    return found


def _gunicorn_variable() -> list[str]:
    try:
        return shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        # Gunicorn does not start with it.
        return []


def _from_gunicorn_file(argv: Sequence[str]) -> int:
    """Return what gunicorn's configuration file assigns to `workers`; it is read, not run."""
    path = Path((_option(argv, "-c", "--config") or "gunicorn.conf.py").removeprefix("file:"))
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 1
    assigned = [line for line in ast.walk(tree) if isinstance(line, _ASSIGNS)]
    values = [line.value for line in assigned if "workers" in _targets(line)]
    return max(map(_number, values), default=1)


def _targets(line: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = line.targets if isinstance(line, ast.Assign) else [line.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _number(value: ast.expr | None) -> int:
    """Return the number that an expression is; one that is computed counts as several."""
    if not isinstance(value, ast.Constant):
        return _SEVERAL
    return int(text) if (text := str(value.value)).isdecimal() else 1


def _from_environment() -> int:
    # The variables are only about the server that this process belongs to.
    values = (os.environ.get(name, "") for name in WORKER_VARIABLES)
    return max(int(value) if value.isdecimal() else 1 for value in values)


def _from_supervisor() -> int:
    """Return what the configuration says that uvicorn and hypercorn start each worker with."""
    # A process that multiprocessing has started has imported it.
    processes = sys.modules.get("multiprocessing.process")
    arguments = getattr(processes.current_process(), "_kwargs", {}) if processes else {}
    workers = getattr(arguments.get("config"), "workers", 1)
    return workers if isinstance(workers, int) else 1
