"""`maxage explain`: why a request is a hit, a miss or a bypass, or what it purges."""

from typing import Annotated

import typer

from maxage.cli.load import load
from maxage.cli.output import Application, AsJson, print_json, print_text
from maxage.explain import explain as explained
from maxage.explain.request import header_lines

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
