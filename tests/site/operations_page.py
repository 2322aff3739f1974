"""The tables of docs/operations.md whose rows are in the code: words, and metrics."""

import re
from typing import Final

from maxage.observe.figures import FIGURES, LATENCY, LATENCY_TEXT, Figure
from maxage.observe.words import Bypass, Outcome, PurgeCause, Reason, TypedRead
from tests.support.documents import page

NAME: Final = "docs/operations.md"
_WORDS: Final = (Outcome, Bypass, Reason, PurgeCause, TypedRead)
_TABLE: Final = re.compile(
    r"(^<!-- rows written by `poe pages`: (\w+) -->\n\n\|.*\n\| ---.*\n)(?:\|.*\n)*", re.MULTILINE
)
"""A table below the name of its rows, as far as its rows."""


def text() -> str:
    """The whole page, with the rows that the code has now."""
    rows = {words.__name__: "".join(map(_of_word, words)) for words in _WORDS}
    rows["FIGURES"] = "".join(map(_of_figure, FIGURES))
    rows["FIGURES"] += f"| `{LATENCY}` | histogram | `kind` | {LATENCY_TEXT} |\n"
    whole = page(NAME)
    assert {found[2] for found in _TABLE.finditer(whole)} == rows.keys()
    return _TABLE.sub(lambda found: found[1] + rows[found[2]], whole)


def _of_word(word: Outcome | Bypass | Reason | PurgeCause | TypedRead) -> str:
    return f"| `{word}` | {word.text} |\n"


def _of_figure(figure: Figure) -> str:
    name = f"{figure.name}_total" if figure.kind == "counter" else figure.name
    labels = ", ".join(f"`{label}`" for label in figure.labels)
    return f"| `{name}` | {figure.kind} | {labels} | {figure.text} |\n"
