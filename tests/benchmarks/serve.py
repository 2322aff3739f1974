"""Serve one candidate: `python -m tests.benchmarks.serve FACTORY PORT [PROTOCOL] [WORKERS]`."""

import importlib
import os
import sys
from typing import Any


def app() -> Any:
    """Return the application that the environment names."""
    name = os.environ["BENCH_APP"]
    module = "peers" if os.environ.get("BENCH_PEER") else "apps"
    return getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)()


def main(factory: str, port: str, http: str = "httptools", workers: str = "1") -> None:
    """Run uvicorn as the application of the project does."""
    import uvicorn

    os.environ["BENCH_APP"] = factory
    uvicorn.run(
        "tests.benchmarks.serve:app",
        factory=True,
        port=int(port),
        loop="uvloop",
        http=http,
        workers=int(workers),
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
