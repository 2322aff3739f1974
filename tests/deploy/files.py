"""The files of `deploy/`, and the programs that can check them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.processes import ended, spawn
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML text."""
    return list(yaml.safe_load_all(text))


def program(name: str) -> str:
    """The path of a program; skips the test where the machine has none."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/bin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running_nginx(
    folder: Path, configuration: Path, port: int, path: str
) -> Iterator[httpx.Client]:
    """A client of an nginx with this configuration, once it answers this path with 200."""
    command = [program("nginx"), "-e", "stderr", "-p", folder, "-c", configuration]
    process = spawn(command, log=folder / "nginx.log", cwd=folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: _answers(client, path), "nginx answers")
            yield client
    finally:
        process.terminate()
        process.wait()
        ended(process)


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.ConnectError:
        return False
