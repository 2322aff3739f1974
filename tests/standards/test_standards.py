"""docs/standards.md agrees with its data, the tests, and the code's `# Deviation:` marks."""

import pytest

from tests.standards.page import (
    PAGE,
    ROOT,
    Requirement,
    documents,
    marked,
    marks,
    page,
    path_of,
    requirements,
)

LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "defined"}


def test_the_page_is_what_its_data_says() -> None:
    """`poe standards` writes it anew."""
    text = PAGE.read_text()
    assert text == page(text), "docs/standards.md is not up to date: run `poe standards`"


@pytest.mark.parametrize("one", requirements(), ids=lambda one: f"{one.section} {one.text[:40]}")
def test_each_requirement_names_tests_that_exist(one: Requirement) -> None:
    """And says at what level it is, and what the cache does."""
    assert one.level in LEVELS
    assert one.does
    assert one.tests
    for test in one.tests:
        assert path_of(test), test


def test_every_deviation_in_the_code_is_listed_once_and_no_other() -> None:
    """A departure is marked where it happens, and listed on the page."""
    listed = [mark for one in requirements() if one.deviation for mark in marked(one) or [one]]
    wanted = "one row of requirements.toml for each mark, which names its beginning"
    assert sorted(map(str, listed)) == sorted(map(str, marks())), wanted


def test_every_section_with_tests_of_its_own_is_on_the_page() -> None:
    """The files that follow the sections of the RFCs; the names of two are no sections."""
    named = {test.partition("::")[0] for one in requirements() for test in one.tests}
    files = {path.stem for path in (ROOT / "tests" / "rfc9111").glob("test_*.py")}
    assert files - named <= {"test_keep_for", "test_many_lines", "test_storing_memo"}


def test_sections_come_in_order() -> None:
    """Of each document."""
    for title, rows in documents().items():
        sections = [_numbers(one.section) for one in rows]
        assert sections == sorted(sections), title


def _numbers(section: str) -> list[int]:
    first = section.replace("-", ",").split(",")[0]
    return [int(number) for number in first.split(".")]
