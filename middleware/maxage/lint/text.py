"""Findings as text for people, by code."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from maxage.lint.finding import Finding

_WIDTH: Final = 100


def text_of(found: Sequence[Finding]) -> str:
    """Return the findings in lines of about 100 characters; each mend is told once."""
    return "\n".join(_lines(found))


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    for code, of_code in groupby(found, key=lambda one: one.code):
        yield f"{code} {code.summary} ({code.page})"
        for mend, group in groupby(of_code, key=lambda one: one.mend):
            for one in group:
                where = f"{one.source}: " if one.source else ""
                yield textwrap.fill(
                    f"{where}{one.route}: {one.reason}", _WIDTH,
                    initial_indent="  ", subsequent_indent="      ", break_long_words=False,
                    break_on_hyphens=False,
                )  # fmt: skip
            yield textwrap.fill(mend, _WIDTH, initial_indent="    -> ", subsequent_indent="       ")
        yield ""
    yield f"{len(found)} finding{'' if len(found) == 1 else 's'}"
