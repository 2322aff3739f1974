"""The pages of the project, and their blocks: fenced ones, and those that a comment hides.

A comment above a fenced block says how it is tested:

    <!-- not run: the reason -->      the block below is not run
    <!-- python                       hidden Python: it prepares a block, or checks it
    assert client.get("/").json() == 1
    -->
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Block:
    """What is fenced on a page, or hidden in a comment."""

    page: str
    line: int
    """The number of its first line of text."""
    language: str
    text: str
    reason: str | None = None
    """Why it is not run."""
    hidden: bool = False
    """Whether readers do not see it."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page(name: str) -> str:
    """The text of a page of the project."""
    return (ROOT / name).read_text()


def pages() -> list[str]:
    """The README and all pages of docs/, by their paths in the project."""
    found = (ROOT / "docs").rglob("*.md")
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in found)]


def texts() -> list[str]:
    """All pages, and the texts for those who change the project or report something."""
    found = (ROOT / ".github").rglob("*.md")
    return [*pages(), "CHANGELOG.md", *sorted(str(path.relative_to(ROOT)) for path in found)]


def blocks(name: str, *languages: str) -> list[Block]:
    """The blocks of a page, of these languages or of all, in order."""
    return [one for one in _blocks(name) if not languages or one.language in languages]


@cache
def _blocks(name: str) -> tuple[Block, ...]:
    return tuple(_read(name, page(name).splitlines()))


def _read(name: str, lines: list[str]) -> Iterator[Block]:
    number, reason = 0, None
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.startswith("<!-- not run: "):
            reason = line.removeprefix("<!-- not run: ").removesuffix("-->").strip()
        elif line.startswith("```") or line == "<!-- python":
            end = "-->" if line.startswith("<") else "```"
            first = number
            while lines[number] != end:
                number += 1
            language = line.removeprefix("```").removeprefix("<!-- ")
            text = "\n".join(lines[first:number]) + "\n"
            yield Block(name, first + 1, language, text, reason, hidden=end == "-->")
            number += 1
            reason = None
