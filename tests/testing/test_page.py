"""The page on testing: its examples run as a user would paste them, on either kind of store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT, blocks


def written(folder: Path, *, on_a_server: bool) -> None:
    """Write each block of the page to the file that its first line names."""
    for block in blocks("docs/testing.md", "python"):
        name, _, condition = block.text.partition("\n")[0].removeprefix("# ").partition(" ")
        if on_a_server or not condition:
            path = folder / name
            path.write_text((path.read_text() if path.exists() else "") + block.text)
    with (folder / "conftest.py").open("a") as conftest:
        conftest.write("\n\n@pytest.fixture\ndef anyio_backend() -> str:\n    return 'asyncio'\n")


@pytest.mark.parametrize("on_a_server", [False, True], ids=["in-memory", "on-redis"])
def test_its_examples_pass(*, on_a_server: bool, redis_url: str, tmp_path: Path) -> None:
    """The plugin is named, since the suite may run without an installed package."""
    written(tmp_path, on_a_server=on_a_server)
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(ROOT / "middleware"),
        "TEST_REDIS_URL": redis_url,
        # Not asked: nothing listens there.
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    plugins = ["-p", "maxage_pytest", "-p", "anyio", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), *plugins]
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::UserWarning"]
    ran = subprocess.run(
        [*command, *warnings], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "6 passed" in ran.stdout
