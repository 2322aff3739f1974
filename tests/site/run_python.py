"""Runs the Python of pages, each page in a process of its own, and prints what failed as JSON.

    python -m tests.site.run_python PAGE...

The blocks of a page run one after the other in one namespace, as a reader would paste them. Each
page runs in a fork of this process, which has imported the libraries: that takes seconds.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from typing import Any

from tests.support.documents import blocks

IMPORTED = "fastapi", "fastapi.testclient", "maxage.fastapi", "maxage.redis", "maxage.testing"
SECONDS = 60
"""A page that takes longer is ended."""


def run(name: str) -> None:
    """Run all Python of a page that is to be run."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(name, "python"):
        if block.reason is None:
            # Empty lines in front, so that a traceback names the line of the page.
            text = "\n" * (block.line - 1) + block.text
            exec(compile(text, name, "exec"), namespace)


def in_a_fork(name: str) -> str | None:
    """Run a page in a fork; return None, or the traceback."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        signal.alarm(SECONDS)
        said = ""
        try:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                run(name)
        except BaseException:  # noqa: BLE001 - whatever a page does is told
            said = traceback.format_exc()
        os.write(writing, said[-8_000:].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or (f"ended with {status} (14: after {SECONDS} s)" if status else None)


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    print(json.dumps({name: in_a_fork(name) for name in sys.argv[1:]}))
