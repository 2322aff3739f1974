"""The files of `deploy/`, and the programs that can check them."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

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
