"""Build the wheel and the sdist, and install them into empty environments: `poe packages`."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.packages.built import build, extras

FOLDER = Path("build/packages")
# The packages of the library that an extra makes usable; `app` is all of them.
USES = {
    "": ["maxage", "maxage.redis", "maxage.testing", "maxage.lint", "maxage.audit"],
    "cli": ["maxage.cli"],
    "fastapi": ["maxage.fastapi"],
    "metrics": ["maxage.metrics"],
    "otel": ["maxage.otel"],
    "page": ["maxage.fastapi"],
    "sqlalchemy": ["maxage.sqlalchemy"],
    "zstd": ["maxage.zstd"],
    "app": ["maxage.cli", "maxage.fastapi", "maxage.metrics", "maxage.uvicorn"],
}


def main() -> None:
    """Build once, then one environment for each extra; end at the first failure."""
    wheel, sdist = build(FOLDER)
    check(sdist, "")
    for extra in ["", *extras()]:
        check(wheel, extra)


def check(package: Path, extra: str) -> None:
    """Install a package with an extra, look at what pip says, and import what it makes usable."""
    wanted = f"{package.resolve()}[{extra}]" if extra else str(package.resolve())
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin/python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", wanted], check=True)
        subprocess.run([*pip, "check"], check=True)
        imports = "import " + ", ".join([*USES[""], *USES[extra]])
        subprocess.run([python, "-W", "error", "-c", imports], cwd=folder, check=True)
        if extra in {"cli", "app"}:
            subprocess.run([str(Path(folder) / "bin/maxage"), "--version"], check=True)
    sys.stdout.write(f"{package.name}[{extra}]: installed, imported\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
