"""The command line as a whole: what every command has in common."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import maxage
from maxage.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `maxage` as users do."""
    command = [str(Path(sys.executable).parent / "maxage"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_installed_command_names_its_commands() -> None:
    """Without arguments too."""
    ran = run()
    assert ran.returncode == 0
    assert "routes" in ran.stdout
    assert run("--help").stdout == ran.stdout


def test_the_version_is_printed() -> None:
    """With that of Python, for reports."""
    ran = run("--version")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"maxage {maxage.__version__}, Python 3.")


def test_without_its_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["routes", "app.main:app"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "maxage: the command line needs typer and rich: pip install 'maxage[cli]'.\n"


def test_the_library_imports_neither_typer_nor_rich() -> None:
    """They are for people at a terminal, and take 0.1 s."""
    check = (
        "import sys, maxage, maxage.testing, maxage.fastapi, maxage.cli;"
        "sys.exit(bool({'typer', 'rich'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", check], cwd=ROOT / "middleware", check=False)
    assert ran.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "No such command 'nonsense'; maxage --help shows what it takes."),
        (["routes"], "Missing argument 'MODULE:APP'; maxage routes --help shows what it takes."),
        (["routes", "app.main:app", "--chek"], "No such option: --chek"),
        (["routes", "json:loads"], "'json:loads' has no routes that can be read"),
        (["routes", "a:b", "c"], "Got unexpected extra argument"),
    ],
)
def test_a_slip_of_the_pen_gets_one_sentence_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No usage text and no traceback."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"maxage: {complaint}")
    assert said.err.count("\n") == 1


def test_routes_as_json_is_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts."""
    assert main(["routes", "app.main:app", "--json"]) == 0
    mapped = json.loads(capsys.readouterr().out)
    assert "/api/v1/items/{item_id}" in [read["path"] for read in mapped["reads"]]
    assert {"methods", "path", "groups", "reads", "shared"} == set(mapped["writes"][0])
    assert main(["routes", "app.main:app", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
