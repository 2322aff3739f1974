"""The page of the findings."""

import re
from pathlib import Path

from maxage.lint import Code

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lint.md"


def test_each_code_has_a_section_of_the_page() -> None:
    """In the order of the codes, under the anchor that a finding names."""
    assert re.findall(r"(?m)^## (MX\d+)$", PAGE.read_text()) == sorted(Code)
    assert Code.INPUT.page == "docs/lint.md#mx103"
