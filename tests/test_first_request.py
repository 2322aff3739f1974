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
