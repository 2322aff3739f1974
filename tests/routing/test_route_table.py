"""The route table: what the router knows, read before it is asked."""

import re
import uuid
from datetime import datetime
from decimal import Decimal
from enum import Enum
from itertools import product
from typing import Annotated, Any
from urllib.parse import urlsplit

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router

from maxage.invalidation.groups import RouteGroups
from maxage.routing.route_table import _beginning
from maxage.routing.router import read_routes
from tests.support.asgi import call as ask
from tests.support.routes import endpoint, items, table_of, unreadable


class Color(Enum):
    """A parameter with few values."""

    RED = "red"
    BLUE = "blue"


# which route answers


@pytest.mark.parametrize(
    ("pattern", "begins"),
    [
        (r"^/items$", "/items/"),
        (r"^/items/(?P<item_id>[^/]+)$", "/items/"),
        (r"^/items/?$", "/items"),
        (r"^/items{2}$", "/item"),
        (r"^/a|/b$", ""),
        (r"^(?P<path>.*)$", ""),
        (r"^/x\-y$", "/x-y/"),
        (r"^/x\\y/(?P<item_id>[^/]+)$", "/x\\y/"),
        (r"^/x\-?y$", "/x"),
        (r"^/$", "//"),
        (r"/items$", ""),
        (r"(?i)^/items$", ""),
    ],
)
def test_a_pattern_is_asked_of_paths_that_begin_as_it_does(pattern: str, begins: str) -> None:
    """The beginning of a path with a slash behind it holds nothing that may be absent."""
    assert _beginning(re.compile(pattern)) == begins


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("GET", "/items", "/items"),
        ("GET", "/items/", "/items"),
        ("GET", "/items\n", "/items"),
        ("POST", "/items", "/items"),
        ("GET", "/items/search", "/items/search"),
        ("GET", "/items/5", "/items/{item_id}"),
        ("PUT", "/items/5", "/items/{item_id}"),
        ("PUT", "/items/search", "/items/{item_id}"),
        ("POST", "/items/5/publish", "/items/{item_id}/publish"),
        ("GET", "/items/5/reviews/a", "/items/{item_id}/reviews/{review_id}"),
        ("GET", "/item", None),
        ("GET", "/itemsx", None),
        ("GET", "//items", None),
        ("GET", "/items/5/6", None),
        ("PATCH", "/items/5", None),
        ("GET", "/items/5/publish", None),
        ("GET", "", None),
    ],
)
def test_the_route_is_the_one_that_the_router_takes(
    method: str, path: str, template: str | None
) -> None:
    """In order, by path and method; a path that is redirected has the route of the other one."""
    found = table_of(items()).match(method, path)
    assert (found and found.route.template) == template


@pytest.mark.parametrize(
    "path",
    [
        "/a/1",
        "/a/x",
        "/b/x",
        "/a",
        "/c/d/e",
        "/c/d",
        "/h",
        "/h/",
        "/x/y/1",
        "/x/y/1/",
        "/a/x\n",
        "/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_table_agrees_with_starlette_itself(method: str, path: str) -> None:
    """The real application is asked which route it takes."""

    def answering(name: str) -> Any:
        async def answer(request: Any) -> PlainTextResponse:
            return PlainTextResponse(name)

        return answer

    templates = ["/a/{n:int}", "/a/{name}", "/{first}/x", "/c/{rest:path}", "/x/{rest:path}/1"]
    app = Starlette(routes=[Route(t, answering(t), methods=["GET"]) for t in templates])
    app.routes.append(Route("/{any}", answering("/{any}"), methods=["POST"]))
    answer = await ask(app, method, path)
    if answer.status == 307:  # the table takes both spellings for one resource
        answer = await ask(app, method, path.rstrip("/"))
    found = read_routes(app.routes).match(method, path)
    assert (found.route.template if found else None) == (
        answer.body.decode() if answer.status == 200 else None
    )


SLASHED = {
    "both, slash first": ["GET /x/", "GET /x"],
    "both, slash last": ["GET /x", "GET /x/"],
    "one with a slash": ["GET /x/"],
    "one without": ["GET /x"],
    "one method each": ["POST /x/", "GET /x"],
    "a tree behind": ["GET /x", "GET /{rest:path}"],
    "a tree before": ["GET /x{rest:path}", "GET /x"],
    "a parameter beside": ["GET /x/", "GET /{name}"],
    "a word before a parameter": ["GET /{name}/", "GET /x"],
}


@pytest.mark.parametrize("lines", SLASHED.values(), ids=SLASHED)
@pytest.mark.parametrize("prefix", ["", "/mounted", "/included"])
async def test_a_slash_at_the_end_makes_another_path_for_the_table_as_for_the_router(
    prefix: str, lines: list[str]
) -> None:
    """Where the router only redirects, the table gives the route that the client is sent to."""

    def route(line: str) -> Route:
        async def answer(_: Request) -> PlainTextResponse:
            return PlainTextResponse(line)

        method, template = line.split()
        return Route(template, answer, methods=[method])

    routes = [route(line) for line in lines]
    if prefix == "/mounted":
        app = FastAPI(openapi_url=None, routes=[Mount(prefix, routes=routes)])
    else:
        app = FastAPI(openapi_url=None)
        app.include_router(APIRouter(routes=routes), prefix=prefix)
    table = read_routes(app.routes)
    for method, path in product(["GET", "POST"], ["/x", "/x/", "/x//", "/", "/y", "/y/"]):
        answer = await ask(app, method, prefix + path)
        if answer.status == 307:
            sent_to = urlsplit(answer.header("location") or b"").path
            answer = await ask(app, method, sent_to.decode())
        found = table.match(method, prefix + path)
        taken = found and f"{method} {found.route.template.removeprefix(prefix)}"
        assert taken == (answer.body.decode() if answer.status == 200 else None), (method, path)


def test_a_mount_may_have_a_parameter_of_the_same_name_as_what_is_in_it() -> None:
    """Starlette gives the endpoint the inner one; the paths of both are kept apart."""
    inner = [
        Route("/items/{id}", endpoint, methods=["GET", "PUT"]),
        Mount("/teams/{id}", app=unreadable),
    ]
    table = read_routes([Mount("/users/{id}", routes=inner)])
    found = table.match("PUT", "/users/1/items/2")
    assert found is not None
    assert found.params["id"] == "2"
    assert RouteGroups(table).touched_by(found) == ("p:/users/1/items/2", "o")
    opaque = table.match("PUT", "/users/1/teams/2/a")
    assert opaque is not None
    assert opaque.route.opaque


def test_routes_by_host_are_told_apart() -> None:
    """Each host has its own routes; a pattern may name a part of it."""
    app = Starlette(
        routes=[
            Host("api.example.org", app=Router([Route("/a", endpoint)])),
            Host("{tenant}.example.org", app=Router([Route("/b", endpoint)])),
            Route("/c", endpoint),
        ]
    )
    hosts = read_routes(app.routes)
    assert hosts.match("GET", "/a", "api.example.org") is not None
    assert hosts.match("GET", "/a", "www.example.org") is None
    assert hosts.match("GET", "/b", "www.example.org") is not None
    assert hosts.match("GET", "/b", "example.com") is None
    assert hosts.match("GET", "/c", "anything") is not None
    assert hosts.match("GET", "/a") is None


def test_no_routes_make_an_empty_table() -> None:
    """A bare ASGI application."""
    assert read_routes([]).match("GET", "/") is None


def test_starlette_answers_head_where_it_answers_get_and_fastapi_does_not() -> None:
    """As the frameworks do it."""
    assert read_routes([Route("/a", endpoint)]).match("HEAD", "/a") is not None
    app = FastAPI(openapi_url=None)
    app.get("/a")(endpoint)
    assert read_routes(app.routes).match("HEAD", "/a") is None


# canonical parameters


@pytest.mark.parametrize(
    ("annotation", "spellings", "canonical"),
    [
        (int, ["5", "05", "005", "+5"], "5"),
        (str, ["05"], "05"),
        (Color, ["red"], "red"),
        (
            uuid.UUID,
            [
                "12345678-1234-5678-1234-567812345678",
                "12345678123456781234567812345678",
                "{12345678-1234-5678-1234-567812345678}",
                "urn:uuid:12345678-1234-5678-1234-567812345678",
            ],
            "12345678-1234-5678-1234-567812345678",
        ),
        (
            uuid.UUID,
            ["ABCDEF12-1234-5678-1234-567812345678"],
            "abcdef12-1234-5678-1234-567812345678",
        ),
        (Decimal, ["1.5", "1.50", "+1.500", "15e-1"], "1.5"),
        (Decimal, ["100", "1e2", "100.0"], "100"),
        (Decimal, ["0", "-0", "0.00"], "0"),
        (Decimal, ["1e999999", "10e999998"], "1E+999999"),
        (float, ["0", "-0", "0.0"], "0.0"),
        (
            datetime,
            ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"],
            "2026-01-01 00:00:00+00:00",
        ),
        (datetime, ["2026-01-01T00:00:00"], "2026-01-01 00:00:00"),
        (int, ["abc"], "abc"),
        (Color, ["green"], "green"),
    ],
)
def test_a_parameter_has_one_spelling(
    annotation: Any, spellings: list[str], canonical: str
) -> None:
    """All that the route reads as the same value; what it will refuse stays as it is."""

    def by(key: annotation) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/things/{key}/x")(by)
    for spelling in spellings:
        found = read_routes(app.routes).match("GET", f"/things/{spelling}/x")
        assert found is not None
        assert found.path == f"/things/{canonical}/x"
        assert found.params == {"key": canonical}


@pytest.mark.parametrize(
    ("convertor", "value", "canonical"),
    [
        ("int", "007", "7"),
        ("float", "1.50", "1.5"),
        ("uuid", "12345678123456781234567812345678", "12345678-1234-5678-1234-567812345678"),
        ("str", "007", "007"),
        ("path", "a//b/007", "a//b/007"),
    ],
)
def test_path_converters_have_one_spelling(convertor: str, value: str, canonical: str) -> None:
    """Starlette's own."""
    found = read_routes([Route("/x/{v:" + convertor + "}", endpoint)]).match("GET", f"/x/{value}")
    assert found is not None
    assert found.params == {"v": canonical}
    assert found.path == f"/x/{canonical}"


def test_a_parameter_declared_in_a_dependency_has_one_spelling() -> None:
    """FastAPI reads path parameters there too."""

    def find(item_id: int) -> int:
        return item_id

    def by(item: Annotated[int, Depends(find)]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/items/{item_id}")(by)
    found = read_routes(app.routes).match("GET", "/items/05")
    assert found is not None
    assert found.path == "/items/5"


def test_constrained_parameters_have_one_spelling() -> None:
    """`Annotated[int, Path(...)]` and aliases."""
    from fastapi import Path

    def by(number: Annotated[int, Path(alias="n", ge=1)]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/x/{n}")(by)
    found = read_routes(app.routes).match("GET", "/x/05")
    assert found is not None
    assert found.path == "/x/5"
