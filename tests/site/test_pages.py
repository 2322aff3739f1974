"""The pages say what is: snippets run, commands and links exist, and the site shows all pages."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import maxage
from maxage import CacheSettings
from tests.public_api.test_names import PUBLIC
from tests.site.__main__ import ELSEWHERE, build
from tests.site.commands import commands, maxage_commands, wrong, wrong_name
from tests.site.written import written
from tests.support.documents import ROOT, Block, blocks, page, pages, texts

RUN = {"python", "sh", "console", "env"}
SHOWN = {"http", "ini", "json", "mermaid", "nginx", "promql", "text", "toml", "yaml"}
NOT_OURS = {"DATABASE_URL", "HOST", "PORT", "PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"}
"""Variables that are not the library's."""
OWN_USE = {
    "maxage.__version__",
    "maxage.audit.Auditor",
    "maxage.audit.audit",  # users take it from maxage.testing
    "maxage.audit.audit_process",
    "maxage.audit.begin",
    "maxage.audit.end",
    "maxage.shadow.shadowed",
}
"""What one package of the library hands on to another."""


def all_blocks(*languages: str) -> list[Block]:
    return [block for name in texts() for block in blocks(name, *languages)]


@cache
def failures() -> dict[str, str | None]:
    """What failed on each page, all run by one process."""
    free = {k: v for k, v in os.environ.items() if k.lower() not in CacheSettings.model_fields}
    tokens = {"PURGE_TOKEN": "one-that-is-hard-to-guess", "ADMIN_TOKEN": "another-hard-to-guess"}
    path = os.pathsep.join([str(ROOT / "middleware"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.site.run_python", *pages()],
        cwd=ROOT,
        env=free | tokens | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", pages())
def test_its_python_runs(name: str) -> None:
    """Block after block, as a reader would paste them."""
    failed = failures()[name]
    assert failed is None, failed


@pytest.mark.parametrize("block", all_blocks("sh", "console"), ids=str)
def test_its_commands_exist(block: Block) -> None:
    """Program, command and options are there; a block that cannot be checked says why."""
    found = [] if block.reason else [wrong(words) for words in commands(block)]
    assert [one for one in found if one] == []


@pytest.mark.parametrize("block", all_blocks("console"), ids=str)
def test_what_maxage_prints_is_shown(block: Block, tmp_path: Path) -> None:
    """The output of `maxage routes` and `explain` for the application of the page."""
    command, _, shown = block.text.partition("\n")
    if not command.startswith(("$ maxage routes", "$ maxage explain")):
        return
    above = [one for one in blocks(block.page, "python") if one.line < block.line]
    (tmp_path / "main.py").write_text("\n".join(one.text for one in above))
    words = [sys.executable, "-m", "maxage", *shlex.split(command)[2:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    printed = done.stdout.splitlines()
    assert [line for line in shown.splitlines() if line not in (*printed, "...")] == [], done


@pytest.mark.parametrize("block", all_blocks("env"), ids=str)
def test_its_variables_are_settings(block: Block, tmp_path: Path) -> None:
    """An .env file with these lines is taken, and each of its variables is known."""
    file = tmp_path / ".env"
    lines = [line for line in block.text.splitlines() if "ssl_ca_certs" not in line]
    file.write_text("\n".join(lines))
    CacheSettings(_env_file=file)
    names = set(re.findall(r"^([A-Z_]+)=", block.text, re.MULTILINE))
    assert names <= {name.upper() for name in CacheSettings.model_fields} | NOT_OURS


def all_text() -> str:
    """The pages and the forms of the project, one after the other."""
    forms = (ROOT / ".github").rglob("*.yml")
    return "\n".join([*map(page, texts()), *(form.read_text() for form in forms)])


def test_the_commands_in_the_text_exist() -> None:
    """Each task of poe, and each command of maxage, that a page names between backticks."""
    named = re.findall(r"`((?:poe|maxage) [a-z-]+)[ `]", all_text())
    assert [said for one in sorted(set(named)) if (said := wrong_name(*one.split()))] == []


def test_the_commands_in_the_text_can_be_run() -> None:
    """Each command of maxage with its arguments; one that is only named has none."""
    named = set(re.findall(r"`(maxage [a-z]+ [^`…]+)`", all_text().replace("\n", " ")))
    assert [f"{one}: {said}" for one in sorted(named) if (said := wrong(shlex.split(one)))] == []


def test_operations_has_each_command() -> None:
    """A person at night finds all of them in one table."""
    table = page("docs/operations.md").partition("## The command line")[2]
    listed = re.findall(r"^\| `maxage ([a-z]+)", table, re.MULTILINE)
    assert sorted(listed) == sorted(maxage_commands())


def test_each_block_says_what_it_is() -> None:
    """A language that is run or shown; no block is indented in place of it."""
    assert [
        f"{one}: {one.language}" for one in all_blocks() if one.language not in RUN | SHOWN
    ] == []
    for name in texts():
        prose = re.sub(r"^```.*?^```|^<!--.*?-->", "", page(name), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"\n\n {4}[^ *-].*", prose) == [], (
            f"{name}: fence it, and name its language"
        )


@pytest.mark.parametrize("block", all_blocks("json", "toml"), ids=str)
def test_what_is_shown_can_be_read(block: Block) -> None:
    """JSON and TOML parse."""
    {"json": json.loads, "toml": tomllib.loads}[block.language](block.text)


def test_the_names_of_the_library_are_public() -> None:
    """What the pages import from maxage is in its list of public names."""
    for block in all_blocks("python"):
        for names in re.findall(r"^from maxage import (.*)$", block.text, re.MULTILINE):
            assert set(names.split(", ")) <= set(maxage.__all__), block


def test_the_reference_has_every_module_that_the_pages_import() -> None:
    """Each module of the library that a reader may import is explained there."""
    text = "".join(block.text for block in all_blocks("python"))
    imported = set(re.findall(r"^ *from (maxage[.\w]*) import", text, re.MULTILINE))
    assert (
        imported - set(re.findall(r"^::: (\S+)$", page("docs/reference.md"), re.MULTILINE)) == set()
    )


@pytest.mark.parametrize("name", texts())
def test_its_links_lead_somewhere(name: str) -> None:
    """To a file of the project, and a heading of it."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page(name), flags=re.MULTILINE | re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose):
        target = (ROOT / name).parent / link if link else ROOT / name
        assert target.is_file(), f"{name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name}: {link}#{anchor}"


def anchors(path: Path) -> set[str]:
    """The anchors that the forge and the site give the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}


def in_nav(entries: list[Any]) -> list[str]:
    """The pages of the navigation, in order."""
    found: list[str] = []
    for entry in entries:
        for value in entry.values():
            found += in_nav(value) if isinstance(value, list) else [value]
    return found


def test_the_navigation_has_every_page() -> None:
    """A page that is missing there is not found on the site."""
    settings = tomllib.loads(page("docs/zensical.toml"))
    listed = in_nav(settings["project"]["nav"])
    there = {name.removeprefix("docs/") for name in pages()[1:]} | set(ELSEWHERE)
    missing = sorted(there - set(listed))
    assert missing == [], f"add {missing} to `nav` in docs/zensical.toml"
    assert sorted(listed) == sorted(there), "a page is listed twice, or is not there"


def not_explained(reference: str) -> list[str]:
    """The public names that the page of the reference does not show."""
    shown = set(re.findall(r'id="(maxage[.\w]+)"', reference))
    missing: list[str] = []
    for package, names in PUBLIC.items():
        for name in names.split():
            full, value = f"{package}.{name}", getattr(importlib.import_module(package), name)
            if full not in OWN_USE and not {full, f"{value.__module__}.{name}"} & shown:
                missing.append(full)
    return missing


def test_the_site_can_be_built(tmp_path: Path) -> None:
    """Without a network, and without a warning; it asks no other host for anything."""
    html = build(tmp_path / "site")
    for path in html.rglob("*.html"):
        text = path.read_text()
        loaded = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(//|http)', text
        )
        assert loaded == [], path
        # The page for what is not found knows no place of its own.
        links = (
            () if path.name == "404.html" else re.findall(r'(?:href|src)="([^"#?:]+)["#?]', text)
        )
        missing = [link for link in links if not (path.parent / unquote(link)).exists()]
        assert missing == [], path
        # A list or table needs an empty line above it.
        paragraphs = re.findall(r"<p>(.*?)</p>", text, re.DOTALL)
        assert [one for one in paragraphs if re.search(r"\n *(?:[-|]|\d+\.) ", one)] == [], path
    assert not_explained((html / "reference.html").read_text()) == []


@pytest.mark.parametrize("name", list(written()))
def test_what_is_written_from_the_code_is_up_to_date(name: str) -> None:
    """The settings, the words, the metrics, and the layers of import-linter."""
    same = (ROOT / name).is_file() and written()[name] == page(name)
    assert same, f"{name} is not up to date: run `poe pages`"


def test_every_setting_has_an_effect() -> None:
    """The code reads each of them."""
    code = [p for p in (ROOT / "middleware").rglob("*.py") if p.name != "settings.py"]
    text = "\n".join(path.read_text() for path in code)
    assert [n for n in CacheSettings.model_fields if not re.search(rf"\.{n}\b", text)] == []
