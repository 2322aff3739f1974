"""What commands print: JSON for scripts, tables and text for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Application = Annotated[
    str, typer.Argument(metavar="MODULE:APP", help="The application, as for uvicorn: main:app.")
]
_WIDE: Final = 4096
"""Characters of a line that no terminal shows; nothing in it is cut."""


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print_text(json.dumps(value, indent=2, ensure_ascii=False))


def print_text(text: str) -> None:
    """Print a text; what stdout cannot encode is escaped, such as bytes that are no UTF-8."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201 - the command's output


def complain(sentence: str) -> None:
    """Print a sentence on stderr."""
    print(f"maxage: {sentence}", file=sys.stderr)  # noqa: T201 - the command's output


def console() -> Console:
    """Return the console of stdout; nothing is cut where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def waiting(said: str) -> AbstractContextManager[object]:
    """Show on a terminal's stderr that the command works."""
    shown = Console(stderr=True)
    return shown.status(said) if shown.is_terminal else nullcontext()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: int = 0
) -> None:
    """Print a table; the last `right` columns hold numbers."""
    shown = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE)
    for number, name in enumerate(columns):
        is_number = number >= len(columns) - right
        shown.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    console().print(shown)
