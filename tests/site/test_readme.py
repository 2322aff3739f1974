"""The README: short, and its figures are those of the pages that are made from runs."""

import re

import pytest

from tests.support.documents import page

BENCHMARKS = {
    "maxage, near cache and fast lane": "maxage, fast lane",
    "maxage, near cache": "maxage, near cache `prompt`",
    "one `await redis.get()` in a bare ASGI application": "raw ASGI, one `await redis.get()`",
    "FastAPI without a cache": "FastAPI, no cache",
}
"""What the README calls otherwise than the page."""


def table(name: str, *, beginning: str, below: str) -> dict[str, list[str]]:
    """The rows of the first table below a text, by their first cells."""
    text = page(name).partition(below)[2].partition(beginning)[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def hits() -> dict[str, list[str]]:
    """CPU time, ratio and requests of each candidate of the benchmark."""
    return table("docs/benchmarks.md", beginning="| candidate |", below="(`hit-1k`)")


def test_the_readme_is_short() -> None:
    """A stranger reads it in some minutes."""
    assert len(page("README.md").splitlines()) <= 200


@pytest.mark.parametrize("row", table("README.md", beginning="| what answers |", below="**Speed**"))
def test_its_speed_is_that_of_the_benchmarks(row: str) -> None:
    """CPU time and requests a second of each line."""
    told = table("README.md", beginning="| what answers |", below="**Speed**")[row]
    cpu, _, requests = hits()[BENCHMARKS.get(row, row)]
    assert told == [cpu, requests]


def test_the_requests_of_other_caches_are_those_of_the_benchmarks() -> None:
    """Where a figure is given; a package without one was not measured."""
    others = table("README.md", beginning="| | works as |", below="## Beside other caches")
    measured = {name.split()[0]: cells[-1] for name, cells in others.items()}
    found = {name.split(",")[0]: cells[2] for name, cells in hits().items()}
    found["maxage"] = hits()["maxage on Redis"][2]
    assert {n: told for n, told in measured.items() if told} == {
        n: found[n] for n, told in measured.items() if told
    }


def test_its_faults_are_those_that_are_played() -> None:
    """The number of cases of each kind."""
    told = table("README.md", beginning="| what |", below="**Faults**")
    kinds = re.split(r"^## ", page("docs/withstands.md"), flags=re.MULTILINE)[1:]
    played = [len(re.findall(r"^\| [a-z0-9]", kind, re.MULTILINE)) - 1 for kind in kinds]
    assert {int(cells[0]) for cells in told.values()} <= set(played), played


def test_its_scores_are_those_of_the_standards() -> None:
    """The public suite of HTTP cache tests."""
    told = table("README.md", beginning="| settings |", below="**Standards**")
    assert told == table("docs/standards.md", beginning="| settings |", below="## Score")
