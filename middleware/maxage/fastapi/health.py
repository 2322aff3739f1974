"""Health endpoints: the one of the Redis integration guide, and three for probes and people."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel

from maxage.fastapi.cache_health import CacheHealth, cache_health
from maxage.fastapi.readiness import Readiness, failed_checks
from maxage.redis_store.observer import Observer
from maxage.redis_store.servers.blocking_calls import run_blocking
from maxage.redis_url import server_url
from maxage.routing.route_policy import uncached
from maxage.settings import CacheSettings

PING_TIMEOUT: Final = 0.25
"""Seconds within which each server must answer the ping of `redis_available`."""
LONGEST_WAIT: Final = 1.0
"""Seconds after which `redis_available` is False in any case."""

_NO_STORE: Final = {"cache-control": "no-store"}


class Health(BaseModel):
    """Health of the application: exactly the fields of the guide."""

    status: str
    message: str
    timestamp: str
    """UTC with milliseconds and without an offset."""
    redis_available: bool
    cache_enabled: bool


class Liveness(BaseModel):
    """Whether this process answers."""

    status: str = "live"


def health_router(
    settings: CacheSettings,
    *,
    message: str,
    checks: Mapping[str, Callable[[], Awaitable[bool]]] | None = None,
) -> APIRouter:
    """Return a router with `GET /health` and, beneath it, `live`, `ready` and `cache`.

    All answer 200 with Redis and without; only a failed check makes `ready` answer 503.

    Args:
        settings: settings of the cache whose state is reported.
        message: the text of the `message` field.
        checks: the application's own conditions for taking requests, by name. Each is awaited for
            a second at most, and fails where it returns False, raises, or takes longer.
    """
    router = APIRouter(tags=["health"])
    checks = dict(checks or {})

    @router.get("/health")
    @uncached
    async def health(response: Response) -> Health:
        """Report whether the application runs, and whether its Redis answers."""
        response.headers.update(_NO_STORE)
        now = datetime.now(UTC).replace(tzinfo=None)
        return Health(
            status="ok",
            message=message,
            timestamp=now.isoformat(timespec="milliseconds"),
            redis_available=await redis_available(settings),
            cache_enabled=settings.use_redis_cache,
        )

    @router.get("/health/live")
    @uncached
    async def live(response: Response) -> Liveness:
        """Report that this process answers; a process that does not has to be restarted."""
        response.headers.update(_NO_STORE)
        return Liveness()

    @router.get("/health/ready", responses={503: {"model": Readiness}})
    @uncached
    async def ready(response: Response) -> Readiness:
        """Report whether this process may be sent requests; without Redis it may."""
        response.headers.update(_NO_STORE)
        failed = await failed_checks(checks)
        response.status_code = 503 if failed else 200
        return Readiness(status="not ready" if failed else "ready", failed=failed)

    @router.get("/health/cache")
    @uncached
    async def cache(response: Response) -> CacheHealth:
        """Report what this process knows about its cache, without asking Redis."""
        response.headers.update(_NO_STORE)
        return cache_health(settings)

    return router


async def redis_available(settings: CacheSettings) -> bool:
    """Return whether Redis answers a ping on a new connection; the circuit breaker has no say.

    False, without a connection, when caching is disabled or no Redis is configured.
    """
    if not settings.use_redis_cache or server_url(settings.redis_url) is None:
        return False
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            return await run_blocking(_answers, settings)
    except TimeoutError:
        return False


def _answers(settings: CacheSettings) -> bool:
    return Observer(settings, PING_TIMEOUT).answers()
