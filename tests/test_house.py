"""The house: which package may import which, what lies where, what must not be in any file."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import maxage

ROOT = Path(__file__).resolve().parent.parent
TOP = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "app",
    "deploy",
    "docker-compose.yml",
    "docs",
    "middleware",
    "pyproject.toml",
    "run",
    "test",
    "tests",
}
# Made by a tool, and in .gitignore.
MADE = {"__pycache__", "build", "dist"}
HOSTS = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("debian", "org"),
    ("docker", "io"),
    ("ghcr", "io"),
]
PLACES = ["work", "root", "opt", "home", "Users"]


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def files() -> list[Path]:
    """All text files of the project, by its own list where there is git."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [path for name in TOP for path in [ROOT / name, *(ROOT / name).rglob("*")]]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def pinned(name: str) -> dict[str, str]:
    """The packages that a requirements file pins, and their versions."""
    text = (ROOT / "deploy" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


def asked_for(*groups: list[str]) -> list[Requirement]:
    wanted = [Requirement(text) for group in groups for text in group]
    return [one for one in wanted if one.name != "maxage"]


def test_the_layers_hold() -> None:
    """No package imports upwards, the library never the application, and the rules stay pure."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_top_level_holds_what_the_design_says() -> None:
    """Beside the files that the design names there are only dot-files."""
    entries = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    entries -= MADE | {path.name for path in ROOT.glob("*.db*")}
    assert entries <= TOP
    assert entries >= TOP - {"docs"}


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    """What is installed from where is the business of each machine."""
    hosts = [rf"{re.escape(name)}\.{tld}\b" for name, tld in HOSTS]
    places = [rf"(?<![\w./~-])/{place}/\w" for place in PLACES]
    forbidden = re.compile("|".join([*hosts, *places, r"--(extra-)?index-url"]))
    found = []
    for path in files():
        if path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in forbidden.finditer(text)]
    assert found == []


@pytest.mark.parametrize("name", ["run", "test", ".ci/run"])
def test_the_commands_can_be_executed(name: str) -> None:
    """A fresh clone needs no chmod."""
    assert (ROOT / name).stat().st_mode & 0o111 == 0o111


def test_there_is_one_version() -> None:
    """The library, the application and the newest entry of the changelog agree."""
    from app.main import create_app

    newest = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == maxage.__version__ == create_app().version


def test_the_pins_answer_what_the_project_asks_for() -> None:
    """Every requirement of the project is pinned, to a version that it accepts."""
    told = project()["project"]
    optional = told["optional-dependencies"]
    groups = project()["dependency-groups"]
    app = asked_for(
        told["dependencies"], optional["cli"], optional["fastapi"], optional["app"], groups["build"]
    )
    dev = app + asked_for(groups["dev"], groups["site"])
    for name, wanted in (("requirements.txt", app), ("requirements-dev.txt", dev)):
        pins = pinned(name)
        for one in wanted:
            key = one.name.lower().replace("_", "-")
            assert key in pins, f"{name} does not pin {one.name}"
            assert one.specifier.contains(pins[key]), f"{name} pins {one.name} {pins[key]}"


def test_the_suite_runs_on_what_the_application_runs_on() -> None:
    """Both requirements files pin the same version of what they share."""
    assert pinned("requirements.txt").items() <= pinned("requirements-dev.txt").items()


def test_every_pin_has_a_hash() -> None:
    """A package that was changed at the index is refused."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / "deploy" / name).read_text().replace("\\\n", "")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert lines
        assert all("==" in line and "--hash=sha256:" in line for line in lines)
