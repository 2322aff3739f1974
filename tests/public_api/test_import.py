"""`import maxage`: it brings nothing of an extra, and costs a part of Starlette and redis-py."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = "import redis, redis.asyncio, starlette.applications"
# As the child sees it, in seconds of its CPU: other processes hardly change their quotient.
TIMED = f"""
import time
began = time.process_time()
{BASE}
between = time.process_time()
import maxage
print(between - began, time.process_time() - between)
"""
SWITCHED_ON = ("maxage.audit", "maxage.insight", "maxage.shadow")
"""What settings switch on (CACHE_AUDIT, CACHE_INSIGHT, CACHE_SHADOW and CACHE_VERIFY)."""
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import maxage, maxage.redis, maxage.testing
from maxage.lint import lint
"""


def child(code: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def modules_of_extras() -> set[str]:
    """The modules that an extra brings, and no requirement of the library itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {Requirement(text).name for text in project["dependencies"]} | {"maxage"}
    lines = [text for extra in project["optional-dependencies"].values() for text in extra]
    extras = {Requirement(text).name.lower() for text in lines} - core - {"typing-extensions"}
    return {
        module
        for module, brought_by in packages_distributions().items()
        if extras & {name.lower().replace("_", "-") for name in brought_by}
    }


def test_nothing_of_an_extra_is_needed() -> None:
    """The library imports where no extra is installed."""
    names = modules_of_extras()
    assert {"fastapi", "jinja2", "prometheus_client", "sqlalchemy", "typer", "uvicorn"} <= names
    child(BLOCKED.format(names=names))


def test_nothing_of_an_extra_is_imported() -> None:
    """An extra that is installed costs nothing until its package is imported.

    redis-py imports OpenTelemetry by itself where it is installed.
    """
    code = f"{BASE}\nimport sys\nbefore = set(sys.modules)\nimport maxage\n"
    loaded = child(code + "print(*(set(sys.modules) - before))").split()
    assert "maxage.middleware" in loaded
    assert {name.partition(".")[0] for name in loaded} & modules_of_extras() == set()
    assert [name for name in loaded if name.startswith(SWITCHED_ON)] == []


def test_settings_are_loaded_when_they_are_asked_for() -> None:
    """With pydantic-settings, which takes longer to import than the library."""
    loaded = "print(*{'pydantic', 'pydantic_settings', 'maxage.settings'} & set(sys.modules))"
    assert child(f"import sys\n{BASE}\nimport maxage\n{loaded}").split() == []
    for asked in ("maxage.CacheSettings", "maxage.settings.CacheSettings"):
        assert child(f"import maxage\nprint({asked}())").startswith("use_redis_cache=")
    for imported in ("maxage import CacheSettings", "maxage.settings import CacheSettings"):
        child(f"import pickle\nfrom {imported}\npickle.loads(pickle.dumps(CacheSettings()))")
    assert "CacheSettings" in child("import maxage\nprint(dir(maxage))")
    wrong = "import maxage\ntry: maxage.Cache\nexcept AttributeError as error: print(error)"
    assert child(wrong) == "module 'maxage' has no attribute 'Cache'\n"


def test_the_import_is_quick(tmp_path: Path) -> None:
    """A third of the CPU time that importing Starlette and redis-py takes, which is 0.2 s.

    With pydantic-settings it would be 0.7 and more. The bytecode is stored first, as an
    installation has it.
    """
    stored = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    child(TIMED, **stored)
    runs = [[float(word) for word in child(TIMED, **stored).split()] for _ in range(9)]
    base, added = (min(seconds) for seconds in zip(*runs, strict=True))
    print(f"import maxage: {added * 1000:.0f} ms of CPU, after {base * 1000:.0f} ms for {BASE}")
    assert added < 0.5 * base
