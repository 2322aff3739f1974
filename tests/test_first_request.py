"""The first request of an application does not load what the application does not use."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from maxage import CacheMiddleware
from tests.support.asgi import call
app = CacheMiddleware(Starlette(routes=[Route("/x", lambda r: PlainTextResponse("x"))]))
before = set(sys.modules)
asyncio.run(call(app, path="/x"))
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded & {"fastapi", "pydantic", "maxage"}))
"""


def test_the_first_request_of_a_starlette_application_does_not_import_fastapi() -> None:
    """The import takes 0.1 s, in which the event loop would stand still."""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{root}/middleware:{root}"},
    )
    assert done.stdout == "[]\n"


READ_ONCE = """
import asyncio, os, sys
from starlette.applications import Starlette
from starlette.middleware import Middleware
from maxage import CacheMiddleware
from tests.support.asgi import call
app = Starlette(middleware=[Middleware(CacheMiddleware)])
os.environ["CACHE_MAX_TAGS"] = "5"
files = []
os.stat, stat = lambda path, **how: (files.append(os.fspath(path)), stat(path, **how))[1], os.stat
sys.addaudithook(lambda name, args: files.append(args[0]) if name == "open" else None)
asyncio.run(call(app, path="/x"))
settings = app.middleware_stack.app._service.settings
print([name for name in files if str(name).endswith(".env")])
print(settings.cache_expiration, settings.cache_max_tags)
"""


def test_the_first_request_reads_no_file_for_its_settings(tmp_path: Path) -> None:
    """Starlette makes its middleware in the event loop; `.env` is read when maxage is imported."""
    root = Path(__file__).parent.parent
    (tmp_path / ".env").write_text("CACHE_EXPIRATION=7\nCACHE_MAX_TAGS=4\n")
    done = subprocess.run(
        [sys.executable, "-c", READ_ONCE],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}/middleware:{root}"},
    )
    assert done.stdout == "[]\n7.0 5\n"
