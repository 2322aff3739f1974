"""The wheel and the sdist, installed into empty environments with and without each extra.

No package index is asked: what an extra requires is linked from the environment of the suite, and
nothing else is there. `poe packages` lets pip fetch it.
"""

import subprocess
import sys
import tarfile
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import maxage
from tests.packages.__main__ import USES
from tests.packages.built import build

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))[0]


def required(extra: str) -> dict[str, Distribution]:
    """What the library requires with an extra, and what that requires in turn."""
    found: dict[str, Distribution] = {}
    asked = [Requirement(f"maxage[{extra}]" if extra else "maxage")]
    seen: set[str] = set()
    while asked:
        one = asked.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        told = distribution(one.name)
        found[canonicalize_name(one.name)] = told
        for text in told.requires or ():
            wanted = Requirement(text)
            chosen = [{"extra": name} for name in ("", *one.extras)]
            if wanted.marker is None or any(map(wanted.marker.evaluate, chosen)):
                asked.append(wanted)
    del found["maxage"]
    return found


def environment(folder: Path, extra: str) -> Path:
    """Make an environment with what the library requires; return its Python."""
    venv.create(folder, symlinks=True)
    packages = folder / "lib" / PYTHON / "site-packages"
    for one in required(extra).values():
        for file in one.files or ():
            source, link = Path(str(one.locate_file(file))), packages / file
            if ".." not in file.parts and file.suffix != ".pyc" and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
    return folder / "bin" / "python"


def install(package: Path, folder: Path, extra: str) -> None:
    """Install a package into an empty environment, and use what its extra makes usable."""
    python = environment(folder, extra)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet"]
    run([*pip, "--disable-pip-version-check", "install", "--no-index", "--no-deps", str(package)])
    run([*pip, "check"])
    run([str(python), "-W", "error", "-c", "import " + ", ".join([*USES[""], *USES[extra]])])
    if extra in {"cli", "app"}:
        run([str(folder / "bin/maxage"), "--version"])


def run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("extra", USES)
def test_the_wheel_works_with_what_its_extra_brings(
    extra: str, wheel: Path, tmp_path: Path
) -> None:
    """And without any other extra."""
    install(wheel, tmp_path / "environment", extra)


def test_the_sdist_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Built from the unpacked sdist alone, it can be installed."""
    _, sdist = build(tmp_path / "built")
    with tarfile.open(sdist) as files:
        # The first releases of Python 3.11 know no filter.
        files.extraction_filter = getattr(tarfile, "data_filter", None)
        files.extractall(tmp_path)
    unpacked = tmp_path / f"maxage-{maxage.__version__}"
    hatchling = str(Path(sys.executable).parent / "hatchling")
    run([hatchling, "build", "-t", "wheel", "-d", str(tmp_path / "again")], unpacked)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()
    install(again, tmp_path / "environment", "")
