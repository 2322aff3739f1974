"""The types of the public names: typical use satisfies both type checkers, strict."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TYPICAL_USE = "tests/public_api/typical_use.py"


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_typical_use_is_typed(checker: str) -> None:
    """What users get from the public names has the type that the file asserts."""
    command = [str(Path(sys.executable).parent / checker), TYPICAL_USE]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_package_says_that_it_is_typed() -> None:
    """Without `py.typed` a type checker ignores the annotations of an installed package."""
    assert (ROOT / "middleware/maxage/py.typed").is_file()
