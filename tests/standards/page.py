"""Writes docs/standards.md: what the standards ask, what the cache does, the test that shows it.

    python -m tests.standards.page

Only what lies between the two marks on the page is written; the rest of it is written by hand.
"""

import ast
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.wire.scripts import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "standards.md"
BEGIN, END = "<!-- written by `poe standards` -->\n", "<!-- up to here -->\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One row of the page."""

    section: str
    level: str
    text: str
    does: str
    tests: tuple[str, ...]
    deviation: str | None = None
    """The beginning of a `# Deviation:` mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A `# Deviation:` mark in the code: where, and its whole text."""

    path: str
    text: str


def documents() -> dict[str, list[Requirement]]:
    """The requirements by the title of their document, as requirements.toml has them."""
    source = tomllib.loads(Path(__file__).with_name("requirements.toml").read_text())
    return {
        document["title"]: [_requirement(*row) for row in document["rows"]]
        for document in source["document"]
    }


def requirements() -> list[Requirement]:
    """All of them."""
    return [one for document in documents().values() for one in document]


def _requirement(
    section: str, level: str, text: str, does: str, tests: list[str], deviation: str | None = None
) -> Requirement:
    return Requirement(
        section=section,
        level=level,
        text=text,
        does=does,
        tests=tuple(tests),
        deviation=deviation,
    )


@cache
def known_tests() -> dict[str, dict[str, str]]:
    """The path of each test by its name, by the name of its file; files of one name are one."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        here = found.setdefault(path.stem, {})
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                here[node.name] = path.relative_to(ROOT).as_posix()
    return found


@cache
def marks() -> tuple[Mark, ...]:
    """The `# Deviation:` marks of the library, each with the lines of comment that follow it."""
    found: list[Mark] = []
    for path in sorted((ROOT / "middleware").rglob("*.py")):
        for match in re.finditer(r"# Deviation: (.*(?:\n *# .*)*)", path.read_text()):
            text = re.sub(r"\s*\n *# ", " ", match[1])
            found.append(Mark(path=path.relative_to(ROOT).as_posix(), text=text))
    return tuple(found)


def marked(requirement: Requirement) -> list[Mark]:
    """The marks that the requirement names; one, if all is well."""
    beginning = requirement.deviation
    return [] if beginning is None else [m for m in marks() if m.text.startswith(beginning)]


def path_of(test: str) -> str | None:
    """The file of a test (`file::name`, or `file::name[case]`), or None where there is none."""
    file, _, name = test.partition("::")
    function, _, case = name.rstrip("]").partition("[")
    path = known_tests().get(file, {}).get(function)
    if path is None or (case and case not in {script.name for script in SCRIPTS}):
        return None
    return path


def _linked(test: str) -> str:
    name = test.partition("::")[2].removeprefix("test_").replace("_", " ")
    name = name.partition("[")[2].rstrip("]") or name
    return f"[{name}](../{path_of(test)})"


def _row(requirement: Requirement) -> str:
    does = requirement.does + (" **Deviation**, see below." if requirement.deviation else "")
    shown = "; ".join(map(_linked, requirement.tests))
    cells = (requirement.section, requirement.level, requirement.text, does, shown)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _deviations() -> str:
    lines = [
        f"- **{title.split(',')[0]}.** {mark.text[0].upper()}{mark.text[1:]} "
        f"([{mark.path.rsplit('/', 1)[-1]}](../{mark.path}))"
        for title, rows in documents().items()
        for one in rows
        for mark in marked(one)
    ]
    return "\n".join(["## Deviations", "", *lines, ""])


def written() -> str:
    """What stands between the marks."""
    parts: list[str] = []
    for title, rows in documents().items():
        head = [f"## {title}", "", "| section | level | requirement | what it does | shown by |"]
        parts.append("\n".join([*head, "| --- | --- | --- | --- | --- |", *map(_row, rows), ""]))
    return "\n" + "\n".join([*parts, _deviations()]) + "\n"


def page(text: str) -> str:
    """The page, with what is written put in its place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the marks between which it is written")
    return before + BEGIN + written() + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
