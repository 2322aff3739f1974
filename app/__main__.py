"""`python -m app`, which is what `./run` starts."""

import asyncio
import os
import sys

import uvicorn

from app.database import Database, DatabaseUnavailableError
from app.settings import AppSettings
from maxage import CacheSettings, SettingsError, __version__


def main() -> int:
    """Check what can be checked, say what we run on, and serve."""
    try:
        settings, cache = AppSettings(), CacheSettings()
        asyncio.run(open_once(Database(settings.database)))
    except (SettingsError, DatabaseUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(greeting(settings, cache))
    sys.stdout.flush()
    # A stored response keeps the date it was made, so the cache sends Date where there is one.
    # It is told so here: FastAPI's telemetry hides from middleware what its server does.
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
    )
    return 0


async def open_once(database: Database) -> None:
    """Make sure, before anything else is started, that the database can be opened."""
    try:
        await database.prepare()
    finally:
        await database.close()


def greeting(settings: AppSettings, cache: CacheSettings) -> str:
    """Say in a few lines what we run on, and what to try."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    json = "-H 'Content-Type: application/json' -d"
    return f"""\
MonitorPy API {__version__} on {address}, documentation at {address}/api/v1/docs
  cache     {where_responses_are(settings, cache)}
  database  {settings.database.render_as_string(hide_password=True)}
Try the first line twice, then the second, then the first again, and watch Cache-Status:
  curl -i '{address}/api/v1/items?limit=5'
  curl -i -X PATCH '{address}/api/v1/items/1' {json} '{{"name": "Renamed"}}'
"""


def caches(settings: AppSettings, cache: CacheSettings) -> bool:
    """Say whether there is a cache: several processes cannot do with a store each."""
    shared = (cache.redis_url or "memory:").partition(":")[0] != "memory"
    return cache.use_redis_cache and (shared or settings.web_concurrency == 1)


def where_responses_are(settings: AppSettings, cache: CacheSettings) -> str:
    """Say where stored responses are kept."""
    if not cache.use_redis_cache:
        return "off (USE_REDIS_CACHE=false)"
    if not caches(settings, cache):
        return f"off ({settings.web_concurrency} processes need a REDIS_URL in common)"
    kept = cache.safe_redis_url or "in this process (REDIS_URL is not set)"
    return f"{kept}, {cache.cache_expiration:g} seconds"


if __name__ == "__main__":
    sys.exit(main())
