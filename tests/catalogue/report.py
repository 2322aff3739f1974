"""What came of the cases: a table at the end of the run, and the page "What it withstands"."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue.case import Case

PAGE = "docs/withstands.md"
INTRODUCTION = """\
# What it withstands

Each line is an attack or a fault that is played against real uvicorn workers over a real Redis, by
`tests/catalogue`. This page is made from a run in which all of them came out as expected:
`.venv/bin/poe withstands` plays them and writes it; the test suite fails where it does not name the
same cases. Durations and amounts in the table are those that the cases assert; the figures of an
outage are asserted more strictly by `.venv/bin/poe faults`.

[security.md](security.md) says what is stored and how to run Redis for it,
[limits.md](limits.md) what the cache does not know.
"""


class CatalogueReport:
    """Collects the outcomes; a plugin of pytest, with one process or several."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what came of a case in its setup."""
        known: dict[str, Any] = dict(report.user_properties)
        if "case" in known and (report.when == "call" or report.failed):
            self.outcomes[known["area"], known["case"]][known["setup"]] = report.outcome

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and write the page where that was asked for."""
        if not self.outcomes:
            return
        terminalreporter.section("attacks and faults: cases as expected, of all that were played")
        for line in self.table():
            terminalreporter.write_line(line)
        target = os.environ.get("WITHSTANDS_PAGE")
        if target is not None:
            self._write(Path(target), terminalreporter)

    def table(self) -> list[str]:
        """Return a line for each area and a column for each setup."""
        setups = list(dict.fromkeys(s for by in self.outcomes.values() for s in by))
        areas = list(dict.fromkeys(area for area, _ in self.outcomes))
        width = max(map(len, areas))
        lines = [" " * width + "".join(f"  {setup:>24}" for setup in setups)]
        for area in areas:
            cells = []
            for setup in setups:
                came = [
                    by[setup] for (a, _), by in self.outcomes.items() if a == area and setup in by
                ]
                cells.append(f"  {came.count('passed'):>19} / {len(came)}" if came else " " * 26)
            lines.append(f"{area:<{width}}" + "".join(f"{cell:<26}" for cell in cells))
        return lines

    def _write(self, target: Path, reporter: pytest.TerminalReporter) -> None:
        from tests.catalogue.cases import CASES

        missing = [
            case.id
            for case in CASES
            if set(self.outcomes.get((case.area, case.id), {"": "missing"}).values()) != {"passed"}
        ]
        if missing:
            reporter.write_line(f"{target} is not written: {', '.join(missing[:20])}")
            return
        setups = {case.id: self.outcomes[case.area, case.id] for case in CASES}
        target.write_text(page(CASES, setups))
        reporter.write_line(f"{target} is written.")


def page(cases: Sequence[Case], setups: dict[str, Iterable[str]]) -> str:
    """Return the page, with the setups in which each case was played."""
    parts = [INTRODUCTION, f"\n{len(cases)} cases.\n"]
    for area in dict.fromkeys(case.area for case in cases):
        mine = [case for case in cases if case.area == area]
        parts.append(f"\n## {area}\n\n")
        common = list(dict.fromkeys(setup for case in mine for setup in setups[case.id]))
        parts.append(f"Played with {'; '.join(common)}.\n\n")
        parts.append("| case | what is attacked or broken | what comes of it | source |\n")
        parts.append("| --- | --- | --- | --- |\n")
        parts += [row(case) for case in mine]
    return "".join(parts)


def row(case: Case) -> str:
    """Return the line of a case."""
    cells = (case.id, case.what, case.expected, case.reference)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
