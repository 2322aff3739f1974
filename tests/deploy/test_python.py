"""Which Python `./run` and `./test` take."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def chosen(python: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-euc", '. deploy/python.sh; echo "$python"'],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_is_named_is_taken() -> None:
    """By its path."""
    assert chosen(sys.executable).stdout.strip() == sys.executable


def test_no_other_python_stands_in_for_one_that_is_named_and_missing() -> None:
    """A run that was meant for another version would go unnoticed."""
    done = chosen("python3.99")
    assert done.returncode == 1
    assert done.stderr.startswith("PYTHON=python3.99 cannot be run: name a Python 3.11 or later")


def test_without_a_name_one_is_found() -> None:
    """An empty variable is an unset one."""
    assert chosen("").stdout.strip()
