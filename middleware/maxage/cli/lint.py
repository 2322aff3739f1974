"""`maxage lint`: what a cache would break in an application."""

from typing import Annotated

import typer

from maxage.cli.load import load
from maxage.cli.output import Application, AsJson, print_json, print_text
from maxage.lint import lint as linted
from maxage.lint import text_of

Ignored = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="CODE", help="A code that is not told. Repeatable."),
]


def lint(app: Application, ignore: Ignored = None, as_json: AsJson = False) -> int:
    """Say what a cache would break in an application. No handler runs; exit 1 on findings.

    A note tells of a route that is never answered from the cache. It is no finding.
    """
    found = linted(load(app), ignore=ignore or ())
    if as_json:
        print_json([one.as_dict() for one in found])
    else:
        print_text(text_of(found))
    return int(any(not one.is_note for one in found))
