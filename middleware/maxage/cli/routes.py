"""`maxage routes`: the groups of each read, and the reads that each write purges."""

from dataclasses import asdict
from typing import Annotated

import typer

from maxage.cli.load import load
from maxage.cli.output import Application, AsJson, print_json, print_text
from maxage.cli.usage import UsageError
from maxage.route_map import route_map


def routes(
    app: Application,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only list the orphans, cached reads that no write is known for; exit 1 if any.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Print the groups of each GET route, and what each mutating route purges."""
    mapped = route_map(load(app))
    if not mapped.reads and not mapped.writes:
        raise UsageError(
            f"{app!r} has no routes that can be read, such as FastAPI's or Starlette's."
        )
    if as_json:
        print_json(list(mapped.orphans) if check else asdict(mapped))
    elif text := "\n".join(mapped.orphans) if check else str(mapped):
        print_text(text)
    return int(check and bool(mapped.orphans))
