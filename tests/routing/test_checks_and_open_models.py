"""Checks of the user's own, models that take every field, and a route of its own for HEAD."""

from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
)
from fastapi.security import APIKeyHeader, SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict

from maxage import CacheMiddleware, Rule
from tests.support.asgi import call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


def check(request: Request) -> str:
    if "x-pass" not in request.headers:
        raise HTTPException(403)
    return request.headers["x-pass"]


def scoped(scopes: SecurityScopes, request: Request) -> str:
    return check(request)


def behind(who: Annotated[str, Security(check)]) -> str:
    return who


class Gateway(SecurityBase):
    """A scheme that knows its model only when it is asked."""

    scheme_name = "gateway"

    async def __call__(self, request: Request) -> str:
        return check(request)


async def ask(app: CacheMiddleware, query: str = "", **headers: str) -> tuple[int, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await call(app, path="/me", query=query, headers=names)
    return answer.status, answer.body


@pytest.mark.parametrize(
    "parameter",
    [
        Annotated[str, Security(check)],
        Annotated[str, Security(check, scopes=["items"])],
        Annotated[str, Depends(scoped)],
        Annotated[str, Depends(behind)],
        Annotated[str, Depends(Gateway())],
    ],
)
async def test_a_hit_never_skips_a_check(parameter: Any) -> None:
    app = FastAPI(openapi_url=None)

    @app.get("/me")
    async def me(who: parameter) -> str:
        return str(who)

    middleware = cache_of(app)
    assert await ask(middleware, x_pass="a") == (200, b'"a"')
    assert await ask(middleware, x_pass="b") == (200, b'"b"')
    assert (await ask(middleware))[0] == 403


@pytest.mark.parametrize("place", ["default", "route", "application"])
async def test_a_check_without_a_value_is_seen(place: str) -> None:
    checks = [Security(check)]
    app = FastAPI(openapi_url=None, dependencies=checks if place == "application" else [])

    if place == "default":

        @app.get("/me")
        async def first(who: str = Security(check)) -> str:
            return who

    else:

        @app.get("/me", dependencies=checks if place == "route" else [])
        async def second() -> str:
            return "in"

    middleware = cache_of(app)
    assert (await ask(middleware, x_pass="a"))[0] == 200
    assert (await ask(middleware))[0] == 403


async def test_a_plain_dependency_is_no_check() -> None:
    app = FastAPI(openapi_url=None)
    runs: list[int] = []

    @app.get("/me")
    async def me(who: Annotated[str, Depends(lambda: "x")]) -> int:
        runs.append(1)
        return len(runs)

    middleware = cache_of(app)
    assert [await ask(middleware) for _ in range(3)] == [(200, b"1")] * 3


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Shut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str = ""
    accept: str = ""


class Closed(BaseModel):
    x_a: str = ""


def site(parameter: Any, **headers: str) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/me")
    async def me(values: parameter, response: Response) -> Any:
        response.headers.update(headers)
        return values.model_dump() if values else {}

    return app


@pytest.mark.parametrize("model", [Open, Open | None])
@pytest.mark.parametrize("headers", [{}, {"cache-control": "max-age=60"}])
async def test_every_header_is_input_of_a_header_model_that_allows_extra_ones(
    model: Any, headers: dict[str, str]
) -> None:
    middleware = cache_of(site(Annotated[model, Header()], **headers))
    answers = [(await ask(middleware, x_a=value))[1] for value in ("1", "2", "1")]
    assert answers[0] != answers[1]
    assert answers[0] == answers[2]


async def test_a_header_that_a_model_forbids_is_refused() -> None:
    middleware = cache_of(site(Annotated[Shut, Header()]))
    assert (await ask(middleware))[0] == 200
    assert (await ask(middleware, x_tool="1"))[0] == 422


async def test_vary_by_caches_a_route_with_an_open_header_model() -> None:
    app = site(Annotated[Open, Header()])
    rule = Rule("/me", vary_by=lambda request: request.headers.get("x-a", ""))
    middleware = cache_of(app, rules=[rule], cache_status_header=True)
    for _ in range(2):
        answer = await call(middleware, path="/me", headers={"x-a": "1"})
    assert b"hit" in (answer.header("cache-status") or b"")


async def test_a_closed_header_model_is_cached_by_its_fields() -> None:
    middleware = cache_of(site(Annotated[Closed, Header()]))
    await ask(middleware, x_a="1")
    answer = await call(middleware, path="/me", headers={"x-a": "1", "x-b": "2"})
    assert b"hit" in (answer.header("cache-status") or b"")


@pytest.mark.parametrize("model", [Open, Shut])
async def test_every_cookie_is_input_of_an_open_cookie_model(model: Any) -> None:
    app = site(Annotated[model, Cookie()], **{"cache-control": "public, max-age=60"})
    middleware = cache_of(app)
    answers = [await ask(middleware, cookie=f"a={value}") for value in "12"]
    answers.append(await ask(middleware))
    assert answers[0] != answers[1] or answers[0][0] == 422
    assert answers[2][0] == 200


@pytest.mark.parametrize("model", [Open, Shut])
async def test_every_query_parameter_is_input_of_an_open_query_model(model: Any) -> None:
    middleware = cache_of(site(Annotated[model, Query()]), cache_keyed_query="declared")
    assert await ask(middleware) != await ask(middleware, "a=1")


async def test_a_route_of_its_own_for_head_is_asked() -> None:
    app = FastAPI(openapi_url=None)

    @app.get("/me")
    async def get() -> str:
        return "x"

    @app.head("/me")
    async def head(response: Response) -> None:
        response.headers["x-count"] = "7"

    middleware = cache_of(app)
    for _ in range(3):
        await call(middleware, path="/me")
        answer = await call(middleware, "HEAD", "/me")
        assert answer.header("x-count") == b"7"


async def test_routes_that_are_equal_but_check_more_are_read_again() -> None:
    """Starlette's routes are equal by path, endpoint and methods."""

    async def page() -> int:
        return 1

    app = FastAPI(openapi_url=None)
    checked = APIRouter(dependencies=[Security(APIKeyHeader(name="X-Mine"))])
    app.get("/x")(page)
    checked.get("/x")(page)
    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware, path="/x")).body == b"1"
    app.router.routes = list(checked.routes)
    # A known request looks at the routes within a second, any other one at once.
    answer = await call(middleware, path="/x", headers={"cache-control": "max-age=99"})
    assert answer.status == 401
