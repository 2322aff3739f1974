"""Command line: `maxage routes MODULE:APP` prints which reads each write purges."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from maxage.errors import MaxageError
from maxage.route_map import route_map


class UsageError(MaxageError):
    """Raised when a command cannot be run; the message says why in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 where a check fails, 2 where it cannot be run."""
    parser = argparse.ArgumentParser(prog="maxage", description="Tools for the cache maxage.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    routes = commands.add_parser(
        "routes",
        help="print the groups of each GET route, and what each mutating route purges",
        description="Print the groups of each GET route, and what each mutating route purges.",
    )
    routes.add_argument("app", metavar="MODULE:APP", help="as for uvicorn, such as main:app")
    routes.add_argument(
        "--check", action="store_true",
        help="only list the orphans, cached reads that no write is known for; exit 1 if any",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    try:
        mapped = route_map(load(asked.app))
        if text := "\n".join(mapped.orphans) if asked.check else str(mapped):
            print(text)  # noqa: T201 - the command's output
    except MaxageError as error:
        print(f"maxage: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return int(asked.check and bool(mapped.orphans))


def load(name: str) -> Any:
    """Import the application `MODULE:APP`, looking in the current directory first.

    Raises:
        UsageError: there is no such application.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{name!r} names no application; it takes MODULE:APP, such as main:app.")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name!r} cannot be loaded: no module {error.name!r}.") from None
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{name!r} cannot be loaded: its import raised {said}") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(f"{module_name!r} has no application {attribute!r}.")
    return found
