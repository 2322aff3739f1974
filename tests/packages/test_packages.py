"""The wheel and the sdist: they hold the library, all of it, and nothing else.

test_installed.py installs them into empty environments, with and without each extra.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import maxage
from tests.packages.__main__ import USES
from tests.packages.built import ROOT, build, extras


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def library() -> set[str]:
    """The files of the library, as a wheel names them."""
    folder = ROOT / "middleware"
    found = {path for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)) for path in found if path.suffix != ".pyc"}


def test_the_wheel_holds_the_library_and_nothing_else(built: tuple[Path, Path]) -> None:
    """No test, no application; `py.typed` and the files of the page are in it."""
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == library()


def test_the_sdist_holds_what_the_wheel_is_built_from(built: tuple[Path, Path]) -> None:
    """With the texts that an index shows, and nothing of the project around it."""
    prefix = f"maxage-{maxage.__version__}/"
    with tarfile.open(built[1]) as sdist:
        names = {name.removeprefix(prefix) for name in sdist.getnames()}
    assert {f"middleware/{name}" for name in library()} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names
    assert [name for name in names if name.startswith(("tests/", "app/", "deploy/"))] == []


def test_an_unpacked_wheel_is_imported_and_has_its_entry_points(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """What is imported is the wheel, not the checkout beside it."""
    zipfile.ZipFile(built[0]).extractall(tmp_path)
    code = (
        "import maxage, maxage.fastapi, maxage.cli\n"
        "from importlib.metadata import distribution\n"
        "told = distribution('maxage')\n"
        "print(maxage.__file__, *sorted(point.name + '@' + point.group"
        " for point in told.entry_points if point.load()))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    place, *points = run.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert points == ["maxage@console_scripts", "maxage@pytest11"]


def test_the_wheel_tells_its_extras_and_pythons(built: tuple[Path, Path]) -> None:
    """An index shows the README, and offers each extra."""
    wheel = zipfile.ZipFile(built[0])
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    told = Parser().parsestr(wheel.read(name).decode())
    assert told["Version"] == maxage.__version__
    assert told["Requires-Python"] == ">=3.11"
    assert set(told.get_all("Provides-Extra", [])) == set(extras())
    assert told["Description-Content-Type"] == "text/markdown"


def test_every_extra_is_tried_by_the_task() -> None:
    """A new extra says which packages it makes usable."""
    assert set(USES) == {"", *extras()}


def test_the_extra_for_sqlalchemy_brings_greenlet(built: tuple[Path, Path]) -> None:
    """SQLAlchemy 2.1 brings it no longer by itself, and the hooks look for it."""
    wheel = zipfile.ZipFile(built[0])
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    told = Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", [])
    wanted = [Requirement(text) for text in told]
    chosen = [one for one in wanted if one.marker and one.marker.evaluate({"extra": "sqlalchemy"})]
    assert [(one.name, one.extras) for one in chosen] == [("sqlalchemy", {"asyncio"})]
