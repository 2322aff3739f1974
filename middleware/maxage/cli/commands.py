"""The commands of `maxage`, each in a file of its own."""

import logging
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Final

import typer

from maxage.cli.doctor import doctor
from maxage.cli.explain import explain
from maxage.cli.inspect import inspect
from maxage.cli.lint import lint
from maxage.cli.output import print_text
from maxage.cli.purge import purge
from maxage.cli.routes import routes
from maxage.cli.serve import serve
from maxage.cli.shadow import shadow
from maxage.cli.simulate import simulate
from maxage.cli.stats import stats
from maxage.cli.top import top
from maxage.cli.usage import UsageError
from maxage.cli.warm import warm

_Refused: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""The class of all complaints about arguments; typer has no public name for it."""

_COMMANDS: Final[tuple[Callable[..., int], ...]] = (
    stats, top, inspect, purge, warm, doctor, routes, explain, lint, shadow, simulate,
    serve,
)  # fmt: skip


program: Final = typer.Typer(
    name="maxage",
    help="See what the cache maxage does, and steer it.",
    epilog="Exit codes: 0 done, 1 a check failed or the store refused, 2 it cannot be run.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in _COMMANDS:
    program.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"maxage {version('maxage')}, Python {platform.python_version()}")
        raise typer.Exit


@program.callback()
def _several(
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """See what the cache maxage does, and steer it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Raises:
        MaxageError: it cannot be run; the message says why in one sentence.
    """
    logging.getLogger("maxage").addHandler(logging.NullHandler())
    try:
        code = program(
            args=list(arguments) or ["--help"], prog_name="maxage", standalone_mode=False
        )
    except typer.Abort:
        return 1
    except _Refused as error:
        raise UsageError(_sentence(error)) from None
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    said = str(getattr(error, "format_message", error.__str__)()).strip()
    context = getattr(error, "ctx", None)
    help_of = getattr(context, "command_path", "maxage")
    return f"{said.rstrip('.')}; {help_of} --help shows what it takes."
