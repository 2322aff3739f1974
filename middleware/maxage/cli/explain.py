"""`maxage explain`: why a request is a hit, a miss or a bypass, or what it purges."""

from typing import Annotated

import typer

from maxage.cli.load import load
from maxage.cli.output import Application, AsJson, print_json, print_text
from maxage.cli.usage import UsageError
from maxage.explain import explain as explained

HeaderLines = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="LINE", help="A header: 'Cookie: a=b'. Repeatable."),
]


def explain(
    app: Application,
    request: Annotated[
        str, typer.Argument(metavar="REQUEST", help="Such as 'GET /items?limit=5', or a URL.")
    ],
    header: HeaderLines = None,
    as_json: AsJson = False,
) -> int:
    """Say why a request is a hit, a miss or a bypass, or what it purges. No handler runs."""
    told = explained(load(app), request, header_lines(header or ()))
    if as_json:
        print_json(told.as_dict())
    else:
        print_text(str(told))
    return 0


def header_lines(lines: "list[str] | tuple[()]") -> list[tuple[str, str]]:
    """Return names and values of headers.

    Raises:
        UsageError: a line has no colon.
    """
    for line in lines:
        if ":" not in line:
            raise UsageError(f"the header {line!r} has no colon; it takes 'Name: value'.")
    return [(name, value) for name, _, value in (line.partition(":") for line in lines)]
