"""The Python peers, each as its own documentation sets it up, on Redis."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response

from tests.benchmarks.content import ITEMS, LARGE

REDIS_URL = os.environ.get("REDIS_URL", "")
SECONDS = 3600


def fastapi_cache2() -> FastAPI:
    """Decorate the endpoints with fastapi-cache2."""
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache
    from redis import asyncio as aioredis

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        FastAPICache.init(RedisBackend(aioredis.from_url(REDIS_URL)), prefix="peer")
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/items")
    @cache(expire=SECONDS)
    async def items() -> Any:
        return ITEMS

    return app


def cashews() -> FastAPI:
    """Decorate the endpoints with cashews."""
    from cashews import cache

    cache.setup(REDIS_URL, client_side=False)
    app = FastAPI()

    @app.get("/items")
    @cache(ttl=SECONDS, key="items")
    async def items() -> Any:
        return ITEMS

    return app


def aiocache() -> FastAPI:
    """Decorate the endpoints with aiocache."""
    from urllib.parse import urlsplit

    from aiocache import Cache, cached
    from aiocache.serializers import JsonSerializer

    where = urlsplit(REDIS_URL)
    app = FastAPI()

    @app.get("/items")
    @cached(
        ttl=SECONDS,
        cache=Cache.REDIS,
        key="items",
        endpoint=where.hostname,
        port=where.port,
        serializer=JsonSerializer(),
    )
    async def items() -> Any:
        return ITEMS

    return app


def starlette_caches() -> FastAPI:
    """Put the middleware of starlette-caches around the application."""
    from urllib.parse import urlsplit

    from aiocache import Cache
    from starlette.middleware import Middleware
    from starlette_caches.middleware import CacheMiddleware  # pyright: ignore

    where = urlsplit(REDIS_URL)
    cache = Cache(Cache.REDIS, endpoint=where.hostname, port=where.port, ttl=SECONDS)
    return _with_middleware(Middleware(CacheMiddleware, cache=cache))


def hishel() -> Any:
    """Put the ASGI middleware of hishel around the application, on its SQLite storage."""
    from hishel.asgi import ASGICacheMiddleware

    return ASGICacheMiddleware(_with_middleware())


def _with_middleware(*middleware: Any) -> FastAPI:
    app = FastAPI(middleware=list(middleware))

    @app.get("/items")
    async def items(response: Response) -> Any:
        response.headers["cache-control"] = "public, max-age=3600"
        return ITEMS

    @app.get("/body/{name}")
    async def large(name: str) -> Response:
        headers = {"cache-control": "public, max-age=3600"}
        return Response(LARGE["/body/" + name], media_type="application/json", headers=headers)

    return app
