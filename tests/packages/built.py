"""What is built from the project: its wheel and its sdist."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def build(folder: Path) -> tuple[Path, Path]:
    """Build both packages into a folder, without a network; return the wheel and the sdist."""
    command = [str(Path(sys.executable).parent / "hatchling"), "build", "-d", str(folder.resolve())]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def extras() -> list[str]:
    """The names of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"])
