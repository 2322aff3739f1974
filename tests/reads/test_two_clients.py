"""Two clients with different identities: no page of one reaches the other, however routes are made.

Each application here answers with the name that it found by the header `X-Who`, which the settings
do not know as a credential.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response, Security, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Host, Mount, Route, Router

from maxage import CacheMiddleware
from tests.support.asgi import call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio
Who = Annotated[str, Header(alias="x-who")]


class Checks:
    """A dependency that is an instance, made with what it looks for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, request: Request, x_who: Who = "") -> str:
        return x_who


class Gateway(SecurityBase):
    """A scheme of one's own, which declares no header."""

    def __init__(self) -> None:
        self.scheme_name = "gateway"
        self.model = APIKeyHeader(name="x-who").model

    async def __call__(self, request: Request) -> str:
        return request.headers.get("x-who", "")


class Bearer(HTTPBearer):
    """A subclass that reads another header."""

    async def __call__(self, request: Request) -> Any:
        return request.headers.get("x-who", "")


class Fields(BaseModel):
    x_who: str = ""


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        who = conn.headers.get("x-who")
        return (AuthCredentials(["authenticated"]), SimpleUser(who)) if who else None


def by_name(x_who: Who = "") -> str:
    return x_who


def scoped(request: Request, scopes: SecurityScopes) -> str:
    return request.headers.get("x-who", "")


def plain(request: Request) -> str:
    return request.headers.get("x-who", "")


def text(who: str) -> PlainTextResponse:
    return PlainTextResponse(who)


def shown(who: str, suffix: str) -> PlainTextResponse:
    return PlainTextResponse(who + suffix)


def fastapi(endpoint: Callable[..., Any], **options: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.get("/me", **options)(endpoint)
    return app


def depending(dependency: Any) -> FastAPI:
    def page(who: Annotated[str, dependency]) -> PlainTextResponse:
        return PlainTextResponse(who)

    return fastapi(page)


def fields(who: Annotated[Fields, Header()]) -> PlainTextResponse:
    return PlainTextResponse(who.x_who)


def optional_fields(who: Annotated[Fields | None, Header()] = None) -> PlainTextResponse:
    return PlainTextResponse(who.x_who if who else "")


def partial_endpoint() -> FastAPI:
    def page(suffix: str, x_who: Who = "") -> PlainTextResponse:
        return shown(x_who, suffix)

    return fastapi(functools.partial(page, ""))


def class_based() -> FastAPI:
    class Pages:
        def __init__(self, who: Annotated[str, Depends(by_name)]) -> None:
            self.who = who

    def page(pages: Annotated[Pages, Depends()]) -> PlainTextResponse:
        return text(pages.who)

    return fastapi(page)


def method_of_an_object() -> FastAPI:
    class Pages:
        def page(self, x_who: Who = "") -> PlainTextResponse:
            return text(x_who)

    return fastapi(Pages().page)


def router_with_dependencies() -> FastAPI:
    """The dependency of the router keeps the user for the handler."""

    def keeps(request: Request, x_who: Who = "") -> None:
        request.state.who = x_who

    def page(request: Request) -> PlainTextResponse:
        return text(request.state.who)

    router = APIRouter(dependencies=[Depends(keeps)])
    router.get("/me")(page)
    app = FastAPI(openapi_url=None)
    app.include_router(router)
    return app


def checked_by(place: str) -> FastAPI:
    """A check of the user's own, at the application, the router, the including or the route."""

    def page(request: Request) -> PlainTextResponse:
        return text(plain(request))

    marks = {one: [Security(plain)] if one == place else [] for one in ("app", "router", "in", "r")}
    router = APIRouter(dependencies=marks["router"])
    router.get("/me", dependencies=marks["r"])(page)
    app = FastAPI(openapi_url=None, dependencies=marks["app"])
    app.include_router(router, dependencies=marks["in"])
    return app


def generator() -> FastAPI:
    def session(x_who: Who = "") -> Iterator[str]:
        yield x_who

    return depending(Depends(session))


def streaming() -> FastAPI:
    def page(x_who: Who = "") -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield x_who

        return StreamingResponse(pieces(), media_type="text/plain")

    return fastapi(page, response_class=StreamingResponse)


def beside_a_websocket() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.websocket("/me")
    async def socket(websocket: WebSocket) -> None:  # pyright: ignore[reportUnusedFunction]
        await websocket.close()

    @app.get("/me")
    async def page(x_who: Who = "") -> PlainTextResponse:  # pyright: ignore[reportUnusedFunction]
        return text(x_who)

    return app


def sub_application(inner: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.mount("/", inner)
    return app


def by_host(inner: Any) -> Starlette:
    return Starlette(routes=[Host("testserver", app=inner), Mount("/", app=fastapi(plain))])


def named(request: Request) -> Response:
    return text(getattr(request.user, "display_name", ""))


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return named(request)


def identified(place: str, endpoint: Any = named) -> Any:
    """Starlette's AuthenticationMiddleware at one of the places that Starlette has for it."""
    layers = {
        one: [Middleware(AuthenticationMiddleware, backend=ByHeader())] if one == place else []
        for one in ("app", "mount", "router", "route")
    }
    route = Route("/me", endpoint, middleware=layers["route"])
    router = Router([route], middleware=layers["router"])
    mount = Mount("/", app=router, middleware=layers["mount"])
    return Starlette(routes=[mount], middleware=layers["app"])


APPLICATIONS: dict[str, Callable[[], Any]] = {
    "header": lambda: depending(Depends(by_name)),
    "header model": lambda: fastapi(fields),
    "optional header model": lambda: fastapi(optional_fields),
    "instance": lambda: depending(Depends(Checks("x-who"))),
    "method of an instance": lambda: depending(Depends(Checks("x-who").__call__)),
    "partial": partial_endpoint,
    "class": class_based,
    "method": method_of_an_object,
    "router's dependencies": router_with_dependencies,
    "generator": generator,
    "streaming": streaming,
    "websocket beside it": beside_a_websocket,
    "scheme of one's own": lambda: depending(Depends(Gateway())),
    "subclass of a scheme": lambda: depending(Depends(Bearer(auto_error=False))),
    "Security": lambda: depending(Security(plain)),
    "Security with scopes": lambda: depending(Security(plain, scopes=["read"])),
    "SecurityScopes": lambda: depending(Depends(scoped)),
    **{
        f"check at {one}": functools.partial(checked_by, one)
        for one in ("app", "router", "in", "r")
    },
    "sub-application": lambda: sub_application(depending(Depends(by_name))),
    "checked sub-application": lambda: sub_application(depending(Security(plain))),
    "host": lambda: by_host(depending(Depends(by_name))),
    "checked host": lambda: by_host(depending(Security(plain))),
    **{
        f"user by {one}": functools.partial(identified, one)
        for one in ("app", "mount", "router", "route")
    },
    **{
        f"user by {one}, for a class": functools.partial(identified, one, Endpoint)
        for one in ("app", "mount", "router", "route")
    },
}


async def ask(app: CacheMiddleware, who: str) -> str:
    headers = {"x-who": who} if who else {}
    return (await call(app, path="/me", headers=headers)).body.decode()


@pytest.mark.parametrize("first", ["ann", ""])
@pytest.mark.parametrize("name", APPLICATIONS)
async def test_each_client_gets_its_own_page(name: str, first: str) -> None:
    app = cache_of(APPLICATIONS[name]())
    for _ in range(2):
        for who in (first, "bob", "", "ann"):
            assert await ask(app, who) == who
