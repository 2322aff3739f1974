"""`maxage lint`."""

import json

import pytest

from tests.cli.conftest import Command


def test_findings_are_told_by_code_with_exit_code_1(command: Command) -> None:
    ran = command("lint", "tests.lint.planted:app", "--ignore", "MX101")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("MX103 reads what is not in the key (docs/lint.md")
    assert "Note: MX102 reads session, user or cookies, without vary_by (docs/lint.md" in ran.out
    assert ran.out.endswith(" findings, 4 notes\n")


def test_json_has_all_of_a_finding(command: Command) -> None:
    ran = command("lint", "tests.lint.planted:app", "--json")
    told = json.loads(ran.out)
    assert ran.code == 1
    assert told[0].keys() == {
        "code",
        "summary",
        "route",
        "reason",
        "mend",
        "source",
        "page",
        "is_note",
    }
    assert {one["code"] for one in told} >= {"MX101", "MX203", "MX601"}


def test_a_clean_application_ends_with_exit_code_0(command: Command) -> None:
    """As text, and as an empty list."""
    assert command("lint", "tests.lint.clean:app").out == "0 findings\n"
    ran = command("lint", "tests.lint.clean:app", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'MODULE:APP'; "),
        (["tests.lint.clean"], "'tests.lint.clean' names no application; it takes MODULE:APP, "),
        (["tests.lint.clean:ap"], "'tests.lint.clean' has no application 'ap'."),
        (["tests.lint.clean:app", "--ignore", "X"], "lint got the code 'X' to ignore; it takes MX"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("lint", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1
