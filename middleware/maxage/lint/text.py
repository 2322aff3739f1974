"""Findings as text for people, by code."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from maxage.insight.units import counted
from maxage.lint.finding import Finding

_FILL: Final[dict[str, Any]] = {
    "width": 100, "break_long_words": False, "break_on_hyphens": False,
}  # fmt: skip


def text_of(found: Sequence[Finding]) -> str:
    """Return the findings in lines of about 100 characters, notes last.

    Each reason and mend comes once.
    """
    notes = [one for one in found if one.is_note]
    faults = [one for one in found if not one.is_note]
    counts = counted(len(faults), "finding") + (f", {counted(len(notes), 'note')}" if notes else "")
    return "\n".join([*_lines(faults, ""), *_lines(notes, "Note: "), counts])


def _lines(found: Sequence[Finding], begin: str) -> Iterator[str]:
    for code, of_code in groupby(found, key=lambda one: one.code):
        yield f"{begin}{code} {code.summary} ({code.page})"
        by_mend: dict[str, dict[str, list[Finding]]] = {}
        for one in of_code:
            by_mend.setdefault(one.mend, {}).setdefault(one.reason, []).append(one)
        for mend, by_reason in by_mend.items():
            for reason, routes in by_reason.items():
                yield from (f"  {one.route}" + _where(one) for one in routes)
                yield textwrap.fill(
                    reason, initial_indent="    ", subsequent_indent="    ", **_FILL
                )
            yield textwrap.fill(
                mend, initial_indent="    -> ", subsequent_indent="       ", **_FILL
            )
        yield ""


def _where(one: Finding) -> str:
    return f"  ({one.source})" if one.source else ""
