"""The router: reads an application's routes, with what each declares."""

import logging
from typing import Annotated, Any

import fastapi
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Query, Request, Security
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Host, Mount, Route, WebSocketRoute

from maxage import CacheMiddleware
from maxage.routing.route_policy import cached, uncached
from maxage.routing.router import choosing_in, mounted_in, read_routes, unreadable_in
from tests.support.routes import endpoint, items, purges, unreadable


def only(app: Any) -> Any:
    (route,) = read_routes(app.routes).routes
    return route


def test_included_routers_carry_their_prefixes() -> None:
    """Includes within includes, and prefixes given at the include."""
    inner, outer = items(), APIRouter(prefix="/v1")
    outer.include_router(inner, prefix="/shop")
    app = FastAPI(openapi_url=None)
    app.include_router(outer, prefix="/api")
    found = read_routes(app.routes).match("GET", "/api/v1/shop/items/5")
    assert found is not None
    assert found.route.template == "/api/v1/shop/items/{item_id}"
    assert found.params == {"item_id": "5"}


def test_a_mount_of_an_included_router_carries_the_prefix_of_the_include() -> None:
    """FastAPI puts it before the mount's own path."""
    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    router = APIRouter()
    router.mount("/shop", inner)
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/api")
    mounted = read_routes(app.routes)
    assert mounted.match("GET", "/shop/items") is None
    assert purges(mounted, "PUT /api/shop/items/5", "/api/shop/items")


def test_middleware_around_a_mounted_application_is_looked_through() -> None:
    """In a mount and by host."""

    class Around:
        def __init__(self, app: Any) -> None:
            self.app = app

    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    app = Starlette(
        routes=[
            Host("api.example.org", app=Around(inner)),
            Host("raw.example.org", app=unreadable),
            Mount("/inner", app=Around(Around(inner))),
        ]
    )
    wrapped = read_routes(app.routes)
    assert purges(wrapped, "PUT /inner/items/5", "/inner/items")
    assert wrapped.match("GET", "/items/5", "api.example.org") is not None
    found = wrapped.match("GET", "/anything", "raw.example.org")
    assert found is not None
    assert found.route.opaque


def test_an_endpoint_class_answers_the_methods_that_it_has() -> None:
    """Starlette's HTTPEndpoint: one class for all methods of a path."""

    class Item(HTTPEndpoint):
        async def get(self, request: Any) -> None: ...
        async def put(self, request: Any) -> None: ...

    class Items(HTTPEndpoint):
        async def get(self, request: Any) -> None: ...

    of = read_routes([Route("/items", Items), Route("/items/{id:int}", Item)])
    assert [sorted(route.methods or ()) for route in of.routes] == [
        ["GET", "HEAD"],
        ["GET", "HEAD", "PUT"],
    ]
    assert purges(of, "PUT /items/5", "/items")
    assert purges(of, "PUT /items/05", "/items/5")
    assert not purges(of, "PUT /items/5", "/items/6")


def test_dependencies_given_at_the_include_count() -> None:
    """A router that is public under one prefix and guarded under the other."""
    router = items()
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/open")
    app.include_router(router, prefix="/shut", dependencies=[Depends(HTTPBearer())])
    both = read_routes(app.routes)
    opened, shut = both.match("GET", "/open/items"), both.match("GET", "/shut/items")
    assert opened is not None
    assert shut is not None
    assert (opened.route.has_security, shut.route.has_security) == (False, True)


def test_routes_of_mounted_applications_are_read_with_their_prefix() -> None:
    """Starlette in FastAPI, FastAPI in Starlette, two levels deep."""
    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    app = Starlette(routes=[Mount("/outer", routes=[Mount("/inner", app=inner)])])
    mounted = read_routes(app.routes)
    assert purges(mounted, "PUT /outer/inner/items/5", "/outer/inner/items")
    found = mounted.match("GET", "/outer/inner/items/05")
    assert found is not None
    assert found.path == "/outer/inner/items/5"


def mounted_in_itself() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.include_router(items())
    app.mount("/v1", app)
    return app


def mounted_by_what_it_mounts() -> FastAPI:
    app, other = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    app.include_router(items())
    app.mount("/v1", other)
    other.mount("/", app)
    return app


@pytest.mark.parametrize("made", [mounted_in_itself, mounted_by_what_it_mounts])
def test_an_application_mounted_in_itself_has_its_routes_at_two_places(made: Any) -> None:
    """A write in one place purges the reads in the other; behind both nothing is cached."""
    routes = read_routes(made().routes)
    assert purges(routes, "PUT /v1/items/5", "/items/5")
    assert purges(routes, "PUT /items/5", "/v1/items/5")
    further = routes.match("GET", "/v1/v1/items")
    assert further is not None
    assert further.route.reads_all_headers


@pytest.mark.parametrize("made", [mounted_in_itself, mounted_by_what_it_mounts])
def test_each_route_of_an_application_mounted_in_itself_is_looked_at_once(made: Any) -> None:
    app = made()
    assert list(unreadable_in(app)) == list(choosing_in(app)) == []
    assert app in mounted_in(app)


def test_websocket_routes_are_none_of_ours() -> None:
    """They are not answered with responses."""
    assert read_routes([WebSocketRoute("/ws", endpoint)]).routes == ()


# what the routes say of themselves


@pytest.mark.parametrize(
    "scheme",
    [
        HTTPBearer(), OAuth2PasswordBearer("token"), APIKeyHeader(name="X-API-Key"),
        APIKeyQuery(name="apiKey"), APIKeyCookie(name="Session"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["parameter", "nested", "route", "router", "app", "scopes"])
def test_a_security_scheme_is_found_wherever_it_stands(scheme: Any, where: str) -> None:
    """A hit would skip its check."""

    def user(token: Annotated[Any, Depends(scheme)]) -> Any:
        return token

    def direct(token: Annotated[Any, Depends(scheme)]) -> None: ...

    def nested(who: Annotated[Any, Depends(user)]) -> None: ...

    def scopes(who: Annotated[Any, Security(user, scopes=["a"])]) -> None: ...

    guard = [Depends(scheme)]
    app = FastAPI(openapi_url=None, dependencies=guard if where == "app" else None)
    router = APIRouter(dependencies=guard if where == "router" else None)
    call = {"parameter": direct, "nested": nested, "scopes": scopes}.get(where, endpoint)
    router.get("/a", dependencies=guard if where == "route" else None)(call)
    app.include_router(router)
    assert only(app).has_security


def test_a_route_without_security_has_none() -> None:
    """The other side; a dependency that checks nothing is no security."""

    def page(number: int = 1) -> int:
        return number

    def call(of: Annotated[int, Depends(page)]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    assert not only(app).has_security


class HeaderModel(BaseModel):
    """Headers as a model."""

    x_tenant: str = ""
    other: str = Field("", alias="X-Other")


class QueryModel(BaseModel):
    """Query parameters as a model."""

    limit: int = 10
    order_by: str = Field("id", alias="orderBy")


class CookieModel(BaseModel):
    """Cookies as a model."""

    theme: str = ""
    session_id: str = ""


def test_declared_headers_are_found_as_they_are_sent() -> None:
    """Underscores become hyphens, unless told not to; one spelling too many is harmless."""

    def inner(accept_currency: Annotated[str, Header()] = "") -> None: ...

    def call(
        currency: Annotated[None, Depends(inner)],
        x_one: Annotated[str, Header()] = "",
        two: Annotated[str, Header(alias="X-Two")] = "",
        x_three: Annotated[str, Header(convert_underscores=False)] = "",
    ) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    names = only(app).header_names
    assert {b"accept-currency", b"x-one", b"x-two", b"x_three"} <= set(names)
    assert list(names) == sorted(set(names))
    assert b"x-four" not in names


def test_models_of_headers_are_opened() -> None:
    """Each field is a header."""

    def call(headers: Annotated[HeaderModel, Header()]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    assert {b"x-tenant", b"x-other"} <= set(only(app).header_names)


def test_declared_cookies_are_found() -> None:
    """By alias, and in dependencies."""

    def inner(theme: Annotated[str, Cookie()] = "") -> None: ...

    def call(
        style: Annotated[None, Depends(inner)], two: Annotated[str, Cookie(alias="Two")] = ""
    ) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    assert {"Two", "theme"} <= set(only(app).cookie_names)


def test_models_of_cookies_are_opened() -> None:
    """Each field is a cookie."""

    def call(cookies: Annotated[CookieModel, Cookie()]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    assert {"theme", "session_id"} <= set(only(app).cookie_names)


def test_declared_query_parameters_are_found() -> None:
    """By alias, in dependencies and as models."""

    def inner(offset: int = 0) -> None: ...

    def call(
        page: Annotated[None, Depends(inner)],
        q: str = "",
        kind: Annotated[str, Query(alias="type")] = "",
    ) -> None: ...

    def modelled(page: Annotated[QueryModel, Query()]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    app.get("/b")(modelled)
    first, second = read_routes(app.routes).routes
    assert first.query_names is not None
    assert {"offset", "q", "type"} <= first.query_names
    assert "page" not in first.query_names
    assert second.query_names is not None
    assert {"limit", "orderBy"} <= second.query_names


def test_an_endpoint_with_the_request_may_read_any_parameter() -> None:
    """So what it declares is not known, also where a dependency has it; nor with Starlette."""

    def inner(request: Request) -> None: ...

    def direct(request: Request, q: str = "") -> None: ...

    def nested(of: Annotated[None, Depends(inner)], q: str = "") -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(direct)
    app.get("/b")(nested)
    assert [route.query_names for route in read_routes(app.routes).routes] == [None, None]
    assert read_routes([Route("/a", endpoint)]).routes[0].query_names is None


def test_decorators_are_found_below_fastapi_and_starlette() -> None:
    """Whatever wraps the endpoint."""

    @cached(ttl=60, tags=["a"])
    def kept() -> None: ...

    @uncached
    def never(request: Any) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(kept)
    app.routes.append(Route("/b", never))
    first, second = read_routes(app.routes).routes
    assert first.control is not None
    assert first.control.ttl == 60
    assert second.control is not None
    assert second.control.cache is False


def test_cached_on_a_guarded_route_without_vary_by_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has no effect there."""

    @cached(ttl=60)
    def call() -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a", dependencies=[Depends(HTTPBearer())])(call)
    with caplog.at_level(logging.WARNING, logger="maxage"):
        read_routes(app.routes)
    assert "/a has a security dependency" in caplog.text


def test_a_fastapi_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one sentence at the start: its routes cannot be read, and each request would fail."""
    assert CacheMiddleware(FastAPI()).mistake is None
    monkeypatch.delattr(fastapi.routing, "iter_route_contexts")
    monkeypatch.setattr(fastapi, "__version__", "0.137.1")
    mistake = CacheMiddleware(FastAPI()).mistake
    assert str(mistake) == (
        "FastAPI 0.137.1 is too old for the cache, which cannot read its routes: "
        "pip install 'fastapi>=0.160'."
    )
