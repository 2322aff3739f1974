"""The README says what is: its table of settings, its Python, its links, its commands."""

import re
from pathlib import Path
from typing import Any

import pytest

import maxage
from maxage import CacheSettings
from tests.support.documents import ROOT, blocks, page

WITHOUT_EFFECT: set[str] = set()


def rows() -> dict[str, list[str]]:
    """The rows of the table of settings: the cells by the name of the variable."""
    found = re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", page("README.md"), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in found}


def shown(value: Any) -> str:
    """A default as the table writes it."""
    if value is None:
        return "unset"
    if value in ("", ()):
        return "empty"
    if isinstance(value, tuple):
        return f"{len(value)} names"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_the_table_names_every_setting() -> None:
    """In the order of the fields, and nothing else."""
    assert list(rows()) == [name.upper() for name in CacheSettings.model_fields]


@pytest.mark.parametrize("name", CacheSettings.model_fields)
def test_the_table_tells_the_default(name: str) -> None:
    """With a unit and a meaning."""
    default, unit, meaning = rows()[name.upper()]
    assert default == shown(CacheSettings.model_fields[name].default)
    assert unit
    assert meaning


def test_settings_without_effect_say_so() -> None:
    """Exactly those which no code reads."""
    code = [p for p in (ROOT / "middleware").rglob("*.py") if p.name != "settings.py"]
    text = "\n".join(path.read_text() for path in code)
    unread = {n for n in CacheSettings.model_fields if not re.search(rf"\.{n}\b", text)}
    said = {name.lower() for name, cells in rows().items() if "no effect yet" in cells[2]}
    assert said == unread == WITHOUT_EFFECT


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Block after block, as a reader would paste them."""
    for name in CacheSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PURGE_TOKEN", "one-that-is-hard-to-guess")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    found = blocks("README.md", "python")
    assert len(found) >= 6
    for number, block in enumerate(found):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)


def test_the_names_of_the_library_are_public() -> None:
    """What the pages import from maxage is in its list of public names."""
    for name in ("README.md", "docs/guide.md"):
        for names in re.findall(r"^from maxage import (.*)$", page(name), re.MULTILINE):
            assert set(names.split(", ")) <= set(maxage.__all__)


def test_links_lead_somewhere() -> None:
    """The files that the pages point to are there."""
    names = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    for name in names:
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page(name), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"
