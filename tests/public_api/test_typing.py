"""The types of the public names: typical use satisfies both type checkers, strict."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import maxage

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


@pytest.mark.parametrize("name", [name for name in maxage.__all__ if name != "__version__"])
def test_annotations_can_be_resolved(name: str) -> None:
    """FastAPI, containers for dependencies and documentation tools read them at run time."""
    public: Any = getattr(maxage, name)
    methods = vars(public).values() if inspect.isclass(public) else (public,)
    for method in filter(inspect.isfunction, methods):
        get_type_hints(method)
