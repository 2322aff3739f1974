"""Set up .venv for ./run and ./test: the pinned requirements, and this project as editable.

Usage: python deploy/bootstrap.py deploy/REQUIREMENTS.txt

Needs only the standard library of Python 3.11. Does nothing when .venv already holds what the
files ask for: a stamp in .venv records a digest of everything the installation depends on.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"

# What pip prints when the index, and not one package, is the trouble.
UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "MaxRetryError",
    "Connection refused",
    "Connection broken",
    "(from versions: none)",
)


def main() -> int:
    """Bring .venv up to date with the requirements file named on the command line."""
    requirements = ROOT / sys.argv[1]
    stamp = VENV / f"{requirements.stem}.stamp"
    with (ROOT / "deploy" / "bootstrap.py").open() as lock:
        # ./run and ./test may be started at once in a fresh checkout.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest(requirements)
        if usable() and stamp.is_file() and stamp.read_text() == wanted:
            return 0
        return set_up(requirements, stamp, wanted)


def set_up(requirements: Path, stamp: Path, wanted: str) -> int:
    """Make .venv where there is none, and install into it."""
    began = time.monotonic()
    print(
        f"Setting up .venv from {requirements.relative_to(ROOT)} ...", file=sys.stderr, flush=True
    )
    try:
        if not usable():
            make_venv()
        stamp.unlink(missing_ok=True)
        pip("--require-hashes", "--no-deps", "--requirement", str(requirements))
        # hatchling, which builds the project, is one of the pinned requirements.
        pip("--no-build-isolation", "--no-deps", "--no-index", "--editable", str(ROOT))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    stamp.write_text(wanted)
    print(f"Set up in {time.monotonic() - began:.0f} seconds.", file=sys.stderr, flush=True)
    return 0


def usable() -> bool:
    """Whether .venv runs a Python that is new enough and has pip."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode == 0


def make_venv() -> None:
    """Make .venv anew, with this Python and its own pip."""
    shutil.rmtree(VENV, ignore_errors=True)
    command = [sys.executable, "-m", "venv", str(VENV)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        said = (made.stdout + made.stderr).strip()
        raise SetupError(
            f"{said}\n{sys.executable} could not make the virtual environment {VENV}: "
            "see above (Debian and Ubuntu: apt install python3-venv)."
        )


def pip(*arguments: str) -> None:
    """Install with the pip of .venv; what it prints goes to a log, its end is shown on failure."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    # A `user = true` or a pinned target in a user's pip configuration would miss .venv.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    with LOG.open("w") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, check=False
        ).returncode
    if code == 0:
        return
    said = LOG.read_text(errors="replace")
    if any(sign in said for sign in UNREACHABLE):
        raise SetupError(
            f"The package index cannot be reached, or lacks a pinned package: check the network, "
            f"the proxy and pip's own settings; pip's words are in {LOG}."
        )
    end = "\n".join(said.splitlines()[-15:])
    raise SetupError(f"{end}\npip could not install what is needed: see above, and {LOG}.")


def digest(requirements: Path) -> str:
    """Name all that an installation depends on: pins, project metadata, place."""
    read = hashlib.sha256(str(ROOT).encode())
    for path in (requirements, ROOT / "pyproject.toml", Path(__file__)):
        read.update(path.read_bytes())
    return read.hexdigest()


class SetupError(Exception):
    """The setup cannot go on; the message is for the user."""


if __name__ == "__main__":
    sys.exit(main())
