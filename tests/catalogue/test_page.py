"""The page "What it withstands" is about the cases that there are."""

import pytest

from tests.catalogue.cases import CASES
from tests.catalogue.report import PAGE, page, row
from tests.support.documents import page as text_of


def test_every_case_has_a_name_of_its_own() -> None:
    """The table and the page name each by it."""
    assert len({case.id for case in CASES}) == len(CASES)


def test_the_page_lists_every_case_and_no_other() -> None:
    """`poe withstands` writes it anew."""
    rows = [line + "\n" for line in text_of(PAGE).splitlines() if line.startswith("| ")]
    listed = [line for line in rows if not line.startswith(("| case |", "| --- |"))]
    assert listed == [row(case) for case in CASES]


def test_a_case_that_is_missing_would_be_seen() -> None:
    """The comparison above can fail."""
    setups = {case.id: ["one node"] for case in CASES}
    assert row(CASES[0]) in page(CASES, setups)
    assert row(CASES[0]) not in page(CASES[1:], setups)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_says_what_and_why(case: object) -> None:
    """Each has words for the table, and a source."""
    assert all(getattr(case, name) for name in ("id", "area", "what", "expected", "reference"))
