"""`maxage serve`: an application behind the cache, its code unchanged, on uvicorn."""

import importlib.util
import os
from typing import Annotated, Final

import typer

from maxage.cli.load import load
from maxage.cli.output import Application
from maxage.cli.usage import UsageError
from maxage.settings import CacheSettings

_FAST_LANE: Final = {"CACHE_NEAR_BYTES": str(64 * 1024 * 1024), "CACHE_NEAR": "prompt"}
"""Settings by which the fast lane answers with Redis too, unless others are set."""


def serve(
    app: Application,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="More than one needs REDIS_URL.")] = 1,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
) -> int:
    """Serve an application with the cache in front of it and the fast lane on; settings by CACHE_.

    With Redis, hits come from copies in the process, which may lag behind a purge by at most
    100 ms; CACHE_NEAR=exact keeps the whole contract, without the fast lane.
    """
    missing = [name for name in ("uvicorn", "httptools") if not importlib.util.find_spec(name)]
    if missing:
        raise UsageError(f"serving needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    load(app)
    settings = CacheSettings()
    if settings.redis_url is None and workers > 1:
        raise UsageError("several workers need a store that they share; set REDIS_URL.")
    for name, value in _FAST_LANE.items():
        if name.lower() not in settings.model_fields_set:
            os.environ[name] = value
    os.environ["CACHE_SERVED_APPLICATION"] = app
    import uvicorn  # noqa: PLC0415 - no dependency of the library

    try:
        uvicorn.run(
            "maxage.cli.served:application",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http="maxage.uvicorn:FastLaneProtocol",
            access_log=access_log,
        )
    except SystemExit as ended:
        # uvicorn has told what kept it from starting.
        return 2 if ended.code else 0
    return 0
