"""The pytest plugin costs nothing where it is not used."""

import subprocess
import sys
import tomllib
from importlib import import_module

from tests.support.documents import ROOT


def test_the_package_names_the_plugin() -> None:
    """pytest finds it by its entry point."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (name,) = project["entry-points"]["pytest11"].values()
    assert callable(import_module(name).fresh_cache)


def test_it_imports_nothing_of_the_library() -> None:
    """Which would take 0.3 s in every run of every suite."""
    check = "import sys, maxage_pytest; sys.exit('maxage' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", check], cwd=ROOT / "middleware", check=False)
    assert ran.returncode == 0
