"""`pytest --maxage-lint MODULE:APP` lints an application, and fails if there are findings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from fastapi import FastAPI

app = FastAPI()
app.add_api_route("{PATH}", lambda: "")
"""


def run(folder: Path, path: str, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """One run of pytest with one test that passes, on an application with one route."""
    (folder / "linted_app.py").write_text(APP.replace("{PATH}", path))
    (folder / "test_app.py").write_text("def test_passes(): pass\n")
    plugins = [word for one in ("maxage_pytest", "xdist") for word in ("-p", one)]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider", *options]
    # Those of the environment take seconds.
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command += ["--maxage-lint", name]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_findings_are_listed_once_and_fail_the_run(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The test passes, and the run does not."""
    done = run(tmp_path, "/now", "linted_app:app", *options)
    assert done.returncode == 1
    assert done.stdout.count("GET /now  (linted_app.py:5)") == 1
    assert "1 finding\n" in done.stdout
    assert "1 passed" in done.stdout


def test_a_clean_application_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "/items", "linted_app:app")
    assert done.returncode == 0
    assert "0 findings\n" in done.stdout


def test_an_unknown_application_is_a_mistake_of_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "/items", "linted_app:ap")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--maxage-lint: 'linted_app' has no application 'ap'." in done.stderr
