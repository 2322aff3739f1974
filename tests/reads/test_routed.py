"""A hit shows layers around the cache the route, as the application's router would."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.support.asgi import Exchange, http_scope
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


def included() -> FastAPI:
    app, router = FastAPI(openapi_url=None), APIRouter()

    @router.get("/items/{number}")
    async def read(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return number

    app.include_router(router, prefix="/m")
    return app


def mounted() -> Starlette:
    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    return Starlette(routes=[Mount("/m", routes=[Route("/items/{number:int}", item)])])


@pytest.mark.parametrize("near_bytes", [0, 1 << 20])
@pytest.mark.parametrize("app", [included(), mounted()])
async def test_a_hit_sets_route_endpoint_and_path_params(app: Any, near_bytes: int) -> None:
    middleware = cache_of(app, cache_near_bytes=near_bytes)
    scopes = [http_scope(path="/m/items/5") for _ in range(4)]
    for scope in scopes:
        await Exchange(middleware, scope).start().finish()
    names = ("route", "endpoint", "path_params")
    shown = [tuple(scope[name] for name in names) for scope in scopes]
    assert shown == [shown[0]] * 4
