"""docs/architecture.md leads a newcomer to files and names that are there."""

import re
import tomllib

from tests.support.documents import ROOT, page

PAGE = page("docs/architecture.md")
LIBRARY = ROOT / "middleware" / "maxage"
CODE = {f"/{path.relative_to(ROOT)}": path.read_text() for path in LIBRARY.rglob("*.py")}


def named(form: str) -> set[str]:
    """The names of this form that stand between backticks."""
    return {name for name in re.findall(r"`([^`\n]+)`", PAGE) if re.fullmatch(form, name)}


def defined(name: str) -> bool:
    """Whether the library defines a class or function, with the member that follows a dot."""
    name, _, member = name.partition(".")
    texts = [t for t in CODE.values() if re.search(rf"^(class|def) {name}\b", t, re.MULTILINE)]
    return any(re.search(rf"def {member}\b|\b{member}:", text) for text in texts)


def test_its_files_are_there() -> None:
    """By their path in the project or in the library, or by the end of that path."""
    files = named(r"[\w/]+(\.py|/)")
    assert "reads/get.py" in files
    elsewhere = {
        name for name in files if any((ROOT / f / name).exists() for f in (".", "middleware"))
    }
    missing = {name for name in files - elsewhere if not any(f"/{name}" in p for p in CODE)}
    assert missing == set()


def test_its_classes_and_functions_are_there() -> None:
    """With the methods and attributes that it names."""
    names = named(r"[A-Z][a-z]\w+(\.\w+)?") - {"Vary"}
    names |= {call.partition("(")[0] for call in named(r"\w+\([a-z, ]+\)")}
    assert {"Cache.lookup", "decide"} <= names
    assert {name for name in names if not defined(name)} == set()


def test_it_names_the_modules_without_a_layer() -> None:
    """All others have their place among the layers of import-linter."""
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["id"] == "layers"]
    placed = set(re.findall(r"maxage\.(\w+)", " ".join(layers))) - {"observe"}
    modules = {path.stem for path in LIBRARY.glob("*.py") if not path.stem.startswith("__")}
    sentence = PAGE.partition("pictures/layers.svg)")[2].partition("belong to no layer")[0]
    named = set(re.findall(r"`(\w+)`", sentence)) - {"figures"}
    assert named == (modules | {"observe"}) - placed


def test_each_package_has_a_row() -> None:
    """A newcomer finds every package of the library."""
    table = PAGE.partition("### The packages")[2].partition("\n\n!")[0]
    rows = " ".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE))
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}/`" not in rows} == set()
