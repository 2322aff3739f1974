"""`maxage explain`."""

import json

import pytest

from tests.cli.conftest import Command


def test_it_prints_the_explanation(command: Command) -> None:
    """As text, and as JSON with the same outcome."""
    asked = ("explain", "app.main:app", "GET /api/v1/items?limit=5", "-H", "Cookie: a=b")
    ran = command(*asked)
    assert ran.code == 0
    assert ran.out.startswith("GET http://localhost/api/v1/items?limit=5\nMISS (uri-miss): ")
    assert "credentials  cookie" in ran.out
    told = json.loads(command(*asked, "--json").out)
    assert (told["outcome"], told["credentials"]) == ("miss", "cookie")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["app.main:app"], "Missing argument 'REQUEST'; "),
        (["app.main:app", "items"], "explain got 'items'; it takes a form such as "),
        (["app.main:app", "/", "-H", "a"], "the header 'a' has no colon; it takes 'Name: value'."),
        (["app.main:ap", "/"], "'app.main' has no application 'ap'."),
        (["/items", "app.main:app"], "'/items' names no application; it takes MODULE:APP, "),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("explain", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1
