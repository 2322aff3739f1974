"""`python -m app`, which `./run` starts."""

import asyncio
import os
import secrets
import sys
from copy import deepcopy
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from app.database import Database, DatabaseUnavailableError
from app.settings import AppSettings
from maxage import CacheSettings, SettingsError, __version__

GRACE = 10
"""Seconds that requests under way get when the server is to end."""
WORKER_START = 60
"""Seconds until uvicorn takes a worker that does not answer it for dead, also one that starts."""


def main() -> int:
    """Check settings and database, print a greeting, and serve."""
    try:
        settings, cache = AppSettings(), CacheSettings()
        # No worker is there yet: the items of a first start can only purge a store in common.
        asyncio.run(open_once(Database(settings.database, purges=is_shared(cache))))
    except (SettingsError, DatabaseUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    token = "as in ADMIN_TOKEN"  # noqa: S105 - a word for people
    if settings.admin_token is None:
        # For the workers, which read the environment.
        token = os.environ["ADMIN_TOKEN"] = secrets.token_urlsafe(24)
    if "cache_insight" not in cache.model_fields_set:
        os.environ["CACHE_INSIGHT"] = "true"
    sys.stdout.write(greeting(settings, cache, token))
    sys.stdout.flush()
    # The cache sends Date, since a stored response keeps the time at which it was made. The setting
    # says so, because FastAPI's telemetry hides the server from middleware.
    cache_dates = caches(settings, cache) and cache.cache_send_date is not False
    if cache_dates:
        os.environ["CACHE_SEND_DATE"] = "true"
    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="maxage.uvicorn:FastLaneProtocol",
        workers=settings.web_concurrency,
        date_header=not cache_dates,
        log_config=log_config(),
        # Else a client that never finishes keeps the worker until it is killed, unsigned.
        timeout_graceful_shutdown=GRACE,
        # With uvicorn's own 5 seconds a busy machine would begin to start its workers for ever.
        timeout_worker_healthcheck=WORKER_START,
    )
    return 0


def log_config() -> dict[str, Any]:
    """Return uvicorn's logging, with time and process in each line, and for all loggers."""
    config: dict[str, Any] = deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"] = {
        "format": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    }
    # Without one Python prints the cache's warnings alone, and no time.
    config["root"] = {"handlers": ["default"], "level": "INFO"}
    return config


async def open_once(database: Database) -> None:
    """Make sure, before anything else is started, that the database can be opened."""
    try:
        await database.prepare()
    finally:
        await database.close()


def greeting(settings: AppSettings, cache: CacheSettings, token: str) -> str:
    """Return a few lines: the address, the stores, the page and requests to try."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    json = "-H 'Content-Type: application/json' -d"
    return f"""\
MonitorPy API {__version__} on {address}, documentation at {address}/api/v1/docs
  cache     {where_responses_are(settings, cache)}
  database  {settings.database.render_as_string(hide_password=True)}
  page      {address}/cache/, token {token}
Try the first line twice, then the second, then the first again, and watch Cache-Status:
  curl -i '{address}/api/v1/items?limit=5'
  curl -i -X PATCH '{address}/api/v1/items/1' {json} '{{"name": "Renamed"}}'
"""


def caches(settings: AppSettings, cache: CacheSettings) -> bool:
    """Return whether the cache is on: several processes need a store in common."""
    return cache.use_redis_cache and (is_shared(cache) or settings.web_concurrency == 1)


def is_shared(cache: CacheSettings) -> bool:
    """Return whether the store is one that all processes see."""
    return (cache.redis_url or "memory:").partition(":")[0] != "memory"


def where_responses_are(settings: AppSettings, cache: CacheSettings) -> str:
    """Return where responses are stored, in words."""
    if not cache.use_redis_cache:
        return "off (USE_REDIS_CACHE=false)"
    if not caches(settings, cache):
        return f"off ({settings.web_concurrency} processes need a REDIS_URL in common)"
    kept = cache.safe_redis_url or "in this process (REDIS_URL is not set)"
    return f"{kept}, {cache.cache_expiration:g} seconds"


if __name__ == "__main__":
    sys.exit(main())
