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


def output(code: str, cwd: Path | None = None) -> str:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{root}/middleware:{root}"},
    )
    return done.stdout


def test_the_first_request_of_a_starlette_application_does_not_import_fastapi() -> None:
    """The import takes 0.1 s, in which the event loop would stand still."""
    assert output(SCRIPT) == "[]\n"


READ_ONCE = """
import asyncio, os, sys
from starlette.applications import Starlette
from starlette.middleware import Middleware
from maxage import CacheMiddleware
from tests.support.asgi import call, lifespan
app = Starlette(middleware=[Middleware(CacheMiddleware)])
os.environ["CACHE_MAX_TAGS"] = "5"
files = []
os.stat, stat = lambda path, **how: (files.append(os.fspath(path)), stat(path, **how))[1], os.stat
sys.addaudithook(lambda name, args: files.append(args[0]) if name == "open" else None)
async def main():
    async with lifespan(app, required=True):
        files.clear()
        before = set(sys.modules)
        await call(app, path="/x")
        print(files, sorted(set(sys.modules) - before))
asyncio.run(main())
settings = app.middleware_stack.app.service.settings
print(settings.cache_expiration, settings.cache_max_tags)
"""


def test_the_first_request_after_a_lifespan_reads_no_file_and_imports_nothing(
    tmp_path: Path,
) -> None:
    """Starlette makes its middleware at the lifespan's start; that loads the settings."""
    (tmp_path / ".env").write_text("CACHE_EXPIRATION=7\nCACHE_MAX_TAGS=4\n")
    assert output(READ_ONCE, tmp_path) == "[] []\n7.0 5\n"


WITHOUT_LIFESPAN = """
import asyncio, sys
from starlette.applications import Starlette
from starlette.middleware import Middleware
from maxage import CacheMiddleware, CacheSettings
from tests.support.asgi import call
app = Starlette(middleware=[Middleware(CacheMiddleware)])
files = []
sys.addaudithook(lambda name, args: files.append(args[0]) if name == "open" else None)
before = set(sys.modules)
asyncio.run(call(app, path="/x"))
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print([name for name in files if str(name).endswith(".env")])
print(sorted(loaded & {"pydantic", "pydantic_settings"}))
print(app.middleware_stack.app.service.settings.cache_expiration)
"""


def test_without_a_lifespan_an_import_of_the_settings_spares_the_first_request(
    tmp_path: Path,
) -> None:
    """Starlette makes its middleware in that request, in the event loop."""
    (tmp_path / ".env").write_text("CACHE_EXPIRATION=7\n")
    assert output(WITHOUT_LIFESPAN, tmp_path) == "[]\n[]\n7.0\n"
