"""Health endpoint of the Redis integration guide."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel

from maxage.redis_store.servers.blocking_calls import run_blocking
from maxage.redis_store.servers.ping import ping_server
from maxage.redis_url import server_url
from maxage.routing.route_policy import uncached
from maxage.settings import CacheSettings

PING_TIMEOUT: Final = 0.25
"""Seconds within which each server must answer the ping of `redis_available`."""
LONGEST_WAIT: Final = 1.0
"""Seconds after which `redis_available` is False in any case."""


class Health(BaseModel):
    """Health of the application: exactly the fields of the guide."""

    status: str
    message: str
    timestamp: str
    """UTC with milliseconds and without an offset."""
    redis_available: bool
    cache_enabled: bool


def health_router(settings: CacheSettings, *, message: str) -> APIRouter:
    """Return a router with `GET /health`, which answers 200 with Redis and without.

    Args:
        settings: settings of the cache whose state is reported.
        message: the text of the `message` field.
    """
    router = APIRouter(tags=["health"])

    @router.get("/health")
    @uncached
    async def health(response: Response) -> Health:
        """Report whether the application runs, and whether its Redis answers."""
        response.headers["cache-control"] = "no-store"
        now = datetime.now(UTC).replace(tzinfo=None)
        return Health(
            status="ok",
            message=message,
            timestamp=now.isoformat(timespec="milliseconds"),
            redis_available=await redis_available(settings),
            cache_enabled=settings.use_redis_cache,
        )

    return router


async def redis_available(settings: CacheSettings) -> bool:
    """Return whether Redis answers a ping on a new connection; the circuit breaker has no say.

    False, without a connection, when caching is disabled or no Redis is configured.
    """
    url = server_url(settings.redis_url)
    if not settings.use_redis_cache or url is None:
        return False
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            return await run_blocking(ping_server, url, PING_TIMEOUT)
    except TimeoutError:
        return False
