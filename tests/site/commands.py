"""Checks the commands of the pages: does the program have what the line asks of it?"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import click
import typer
import typer.main

from tests.support.documents import ROOT, Block

UsageError: Any = typer.BadParameter.__mro__[2]
"""The class of all complaints of typer, which carries a click of its own."""

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block, in words: of a console those behind a prompt."""
    text = re.sub(r"\\\n\s*", "", block.text)
    if block.language == "console":
        text = "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE))
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


def wrong(words: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    program = words[0].removeprefix(".venv/bin/")
    if program.startswith("./"):
        return None if (ROOT / program).is_file() else f"there is no {program}"
    check = CHECKS.get(program)
    if check is None:
        return f"{program}: write `<!-- not run: the reason -->` above the block"
    return check(words[1:])


def wrong_name(program: str, name: str) -> str | None:
    """What is wrong with the name of a task or command, or None."""
    if program == "poe":
        return _poe([name])
    return None if name in maxage_commands() else f"there is no command {name}"


def _pip(words: list[str]) -> str | None:
    named = re.search(r"(?:maxage|\.)\[([a-z,]+)\]", " ".join(words))
    extras = set(named[1].split(",")) if named else set[str]()
    missing = extras - set(PROJECT["project"]["optional-dependencies"])
    return f"there is no extra {missing}" if missing else None


def _poe(words: list[str]) -> str | None:
    return None if words[0] in PROJECT["tool"]["poe"]["tasks"] else f"there is no task {words[0]}"


def _python(words: list[str]) -> str | None:
    if words[0] == "-m":
        return None if find_spec(words[1]) else f"there is no module {words[1]}"
    return None if (ROOT / words[0]).is_file() else f"there is no {words[0]}"


def _maxage(words: list[str]) -> str | None:
    command = maxage_commands().get(words[0])
    return _parsed(command, words) if command else f"there is no command {words[0]}"


def maxage_commands() -> dict[str, click.Command]:
    """The commands of `maxage` by their names."""
    from maxage.cli.commands import program

    group: Any = typer.main.get_command(program)
    return group.commands


def _uvicorn(words: list[str]) -> str | None:
    from uvicorn.main import main

    return _parsed(main, ["uvicorn", *words])


def _granian(words: list[str]) -> str | None:
    from granian.cli import cli

    return _parsed(cli, ["granian", *words])


def _parsed(command: click.Command, words: list[str]) -> str | None:
    try:
        command.make_context(words[0], words[1:])
    except (click.ClickException, UsageError) as error:
        return error.format_message()
    return None


def _compose(words: list[str]) -> str | None:
    files = [file for option, file in pairwise(words) if option == "-f"]
    missing = [file for file in files if not (ROOT / file).is_file()]
    return f"there is no {missing}" if missing else None


def _looks_only(words: list[str]) -> str | None:
    return None


CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "pip": _pip,
    "poe": _poe,
    "python": _python,
    "maxage": _maxage,
    "uvicorn": _uvicorn,
    "granian": _granian,
    "docker": _compose,
    # What these do depends on the reader's own server or files.
    "curl": _looks_only,
    "hypercorn": _looks_only,
    "export": _looks_only,
}
