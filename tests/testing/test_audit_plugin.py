"""`pytest --maxage-audit` audits the tests of an application, and fails if there are findings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from fastapi import FastAPI, Request
from maxage import CacheMiddleware

app = FastAPI()
app.add_middleware(CacheMiddleware)

@app.get("/greeting")
def greeting(request: Request):
    return {LINE}
"""
TESTS = """
import httpx, pytest
from app_under_test import app

@pytest.mark.anyio
@pytest.mark.parametrize("n", range(2))
async def test_greeting(n):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/greeting")).status_code == 200
"""


def run(folder: Path, line: str, *options: str) -> subprocess.CompletedProcess[str]:
    """One run of pytest on an application whose handler returns this."""
    (folder / "app_under_test.py").write_text(APP.replace("{LINE}", line))
    (folder / "test_app.py").write_text(TESTS)
    plugins = [word for name in ("maxage_pytest", "anyio", "xdist") for word in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider", *options]
    # Those of the environment take seconds.
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_findings_are_listed_and_fail_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The tests pass, and the run does not; the workers of pytest-xdist tell what they found."""
    line = "request.headers.get('accept-language')"
    done = run(tmp_path, line, "--maxage-audit", *options)
    assert done.returncode == 1
    told = [text for text in done.stdout.splitlines() if "GET /greeting reads" in text]
    assert len(told) == 1
    assert "app_under_test.py:10: GET /greeting reads header:accept-language" in told[0]
    assert "1 finding in 2 stored answers of 2 requests" in done.stdout
    assert "2 passed" in done.stdout


def test_a_clean_application_passes(tmp_path: Path) -> None:
    """The number of answers shows that something was audited."""
    done = run(tmp_path, "{}", "--maxage-audit")
    assert done.returncode == 0, done.stdout
    assert "0 findings in 2 stored answers of 2 requests" in done.stdout


def test_without_the_option_nothing_is_audited(tmp_path: Path) -> None:
    """And nothing of maxage is imported by the plugin."""
    done = run(tmp_path, "request.headers.get('accept-language')")
    assert done.returncode == 0, done.stdout
    assert "maxage audit" not in done.stdout
