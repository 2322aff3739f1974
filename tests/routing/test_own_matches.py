"""Classes of routes that choose by code of their own: what they look at is in no key."""

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router

from maxage import cached
from maxage.routing.router import read_routes
from tests.support.asgi import call
from tests.support.caching import cache_of, status_of

pytestmark = pytest.mark.anyio


def is_beta(scope: Any) -> bool:
    return (b"x-beta", b"1") in scope["headers"]


class BetaRoute(Route):
    def matches(self, scope: Any) -> Any:
        return super().matches(scope) if is_beta(scope) else (Match.NONE, {})


class BetaMount(Mount):
    def matches(self, scope: Any) -> Any:
        return super().matches(scope) if is_beta(scope) else (Match.NONE, {})


class BetaHost(Host):
    def matches(self, scope: Any) -> Any:
        host = (b"host", b"beta.example" if is_beta(scope) else b"example")
        return super().matches({**scope, "headers": [host]})


class Feature(BaseRoute):
    """A route that is none of Starlette's."""

    def __init__(self, inner: Route) -> None:
        self.inner = inner

    def matches(self, scope: Any) -> Any:
        return self.inner.matches(scope) if is_beta(scope) else (Match.NONE, {})

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await self.inner.handle(scope, receive, send)


async def beta(request: Request) -> PlainTextResponse:
    return PlainTextResponse("beta")


async def public(request: Request) -> PlainTextResponse:
    return PlainTextResponse("public")


INNER = Router(routes=[Route("/x", beta)])


@pytest.mark.parametrize(
    "route",
    [
        BetaRoute("/x", beta),
        BetaMount("/", app=INNER),
        BetaHost("beta.example", app=INNER),
        Feature(Route("/x", beta)),
    ],
    ids=lambda route: type(route).__name__,
)
async def test_what_such_a_route_and_those_behind_it_answer_is_not_cached(
    route: BaseRoute, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request gets the answer of its own route, and a warning names the class."""
    middleware = cache_of(Starlette(routes=[route, Route("/x", public)]))
    with caplog.at_level(logging.WARNING, logger="maxage"):
        for headers, body in (({"x-beta": "1"}, b"beta"), ({}, b"public")) * 3:
            assert (await call(middleware, path="/x", headers=headers)).body == body
    assert f"matches() of its own class {type(route).__name__}" in caplog.text


def test_a_warning_names_a_class_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its first paths: a library may use it for all routes."""
    app = Starlette(routes=[BetaRoute(f"/{n}", beta) for n in range(5)])
    read_routes(app.routes)
    [record] = caplog.records
    assert record.message.startswith("/0, /1, /2 and 2 more: the matches() of its own class Beta")


async def test_versions_by_a_header_each_get_their_own_answer() -> None:
    """With vary_by= they are cached."""

    class Versioned(APIRoute):
        def matches(self, scope: Any) -> Any:
            version = dict(scope["headers"]).get(b"x-version", b"1")
            return super().matches(scope) if version == self.name[1:].encode() else (Match.NONE, {})

    def version(request: Request) -> str:
        return request.headers.get("x-version", "1")

    app = FastAPI(openapi_url=None)
    app.router.route_class = Versioned
    for number in (1, 2):
        app.get("/x", name=f"v{number}")(lambda number=number: number)
        app.get("/y", name=f"v{number}")(cached(vary_by=version)(lambda number=number: number))
    middleware = cache_of(app)
    for path in ("/x", "/y"):
        for number in (1, 2) * 3:
            headers = {"x-version": str(number)}
            answer = await call(middleware, path=path, headers=headers)
            assert answer.body == b"%d" % number


async def test_other_routes_go_on_being_cached() -> None:
    """Only a class without a path of its own makes those behind it uncertain."""
    routes = [BetaRoute("/x", beta), Route("/y", public)]
    middleware = cache_of(Starlette(routes=routes))
    await call(middleware, path="/y")
    assert b"hit" in status_of(await call(middleware, path="/y"))
