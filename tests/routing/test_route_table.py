"""The route table: what the router knows, read before it is asked."""

import logging
import uuid
from enum import Enum
from typing import Annotated, Any

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
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from maxage.invalidation.groups import RouteGroups, fallback_groups, fallback_touched
from maxage.routing.route_policy import cached, uncached
from maxage.routing.route_table import RouteTable, SecuritySource
from maxage.routing.router import read_routes
from tests.support.asgi import call as ask


class Color(Enum):
    """A parameter with few values."""

    RED = "red"
    BLUE = "blue"


def endpoint() -> None: ...


def items(prefix: str = "/items", **options: Any) -> APIRouter:
    """A collection as most APIs have it."""
    router = APIRouter(prefix=prefix, **options)
    router.get("")(endpoint)
    router.post("")(endpoint)
    router.get("/search")(endpoint)
    router.get("/{item_id}")(_by_int)
    router.put("/{item_id}")(_by_int)
    router.delete("/{item_id}")(_by_int)
    router.post("/{item_id}/publish")(_by_int)
    router.get("/{item_id}/reviews")(_by_int)
    router.post("/{item_id}/reviews")(_by_int)
    router.get("/{item_id}/reviews/{review_id}")(_by_two)
    router.delete("/{item_id}/reviews/{review_id}")(_by_two)
    return router


def _by_int(item_id: int) -> None: ...


def _by_two(item_id: int, review_id: str) -> None: ...


def table(*routers: APIRouter) -> RouteTable:
    app = FastAPI(openapi_url=None)
    for router in routers:
        app.include_router(router)
    return read_routes(app.routes)


def groups(of: RouteTable, path: str) -> set[str]:
    found = of.match("GET", path)
    assert found is not None, path
    return set(RouteGroups(of).groups_of(found))


def touched(of: RouteTable, method: str, path: str) -> set[str]:
    found = of.match(method, path)
    assert found is not None, path
    return set(RouteGroups(of).touched_by(found))


def purges(of: RouteTable, request: str, path: str) -> bool:
    """Whether such a request makes the stored response of the path a miss."""
    method, target = request.split()
    return bool(touched(of, method, target) & groups(of, path))


def only(app: Any) -> Any:
    (route,) = read_routes(app.routes).routes
    return route


# which route answers


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("GET", "/items", "/items"),
        ("GET", "/items/", "/items"),
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
    """In order, by path and method; a slash at the end is the same resource."""
    found = table(items()).match(method, path)
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


def test_the_same_router_under_two_prefixes_is_one_thing_in_two_places() -> None:
    """The same handlers answer in both, so that a write in one place is seen in the other."""
    router = items()
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    both = read_routes(app.routes)
    for place in ("/v1", "/v2"):
        for path in ("/items", "/items/5", "/items/5/reviews", "/items/search"):
            assert purges(both, "PUT /v1/items/5", place + path), place + path
            assert purges(both, "POST /v2/items/5/publish", place + path), place + path
        assert not purges(both, "PUT /v1/items/5", place + "/items/6")


def test_two_routers_with_the_same_templates_are_two_collections() -> None:
    """Only what is the same route is the same thing."""
    app = FastAPI(openapi_url=None)
    app.include_router(items(), prefix="/v1")
    app.include_router(items(), prefix="/v2")
    both = read_routes(app.routes)
    assert purges(both, "PUT /v1/items/5", "/v1/items")
    assert not purges(both, "PUT /v1/items/5", "/v2/items")
    assert not purges(both, "PUT /v1/items/5", "/v2/items/5")


def test_an_application_mounted_twice_is_one_thing_in_two_places() -> None:
    """As a router included twice; a place whose path cannot be told is left alone."""
    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    app = Starlette(routes=[Mount(at, app=inner) for at in ("/a", "/b", "/{tenant}")])
    mounted = read_routes(app.routes)
    assert purges(mounted, "DELETE /a/items/5", "/b/items")
    assert purges(mounted, "DELETE /x/items/5", "/b/items/5")
    assert not purges(mounted, "DELETE /a/items/5", "/x/items/5")


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
            Host("raw.example.org", app=_opaque),
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


def test_a_collection_whose_members_know_only_actions_is_one_all_the_same() -> None:
    """`POST /items/5/publish` changes the lists also where no PUT does."""
    app = FastAPI(openapi_url=None)
    app.get("/items")(endpoint)
    app.get("/items/search")(endpoint)
    app.post("/items/{item_id}/publish")(_by_int)
    app.get("/items/{item_id}/history")(_by_int)
    of = read_routes(app.routes)
    for path in ("/items", "/items/search", "/items/5/history"):
        assert purges(of, "POST /items/5/publish", path), path
    assert not purges(of, "POST /items/5/publish", "/items/6/history")


def test_nested_resources_touch_their_own_collection() -> None:
    """Orders of one user: not those of another, and not the user."""
    app = FastAPI(openapi_url=None)
    for path in ("/users", "/users/{u}", "/users/{u}/orders", "/users/{u}/orders/{o}"):
        app.get(path)(endpoint)
    app.put("/users/{u}/orders/{o}")(endpoint)
    app.put("/users/{user}")(endpoint)
    of = read_routes(app.routes)
    for path in ("/users/1/orders", "/users/1/orders/2"):
        assert purges(of, "PUT /users/1/orders/2", path), path
        assert purges(of, "PUT /users/1", path), path
    for path in ("/users/2/orders", "/users/1/orders/3", "/users/1", "/users"):
        assert not purges(of, "PUT /users/1/orders/2", path), path
    assert purges(of, "PUT /users/1", "/users")


def test_a_parameter_that_takes_slashes_is_a_tree() -> None:
    """A file in a folder: the folder's listing shows it, its neighbours do not."""
    app = FastAPI(openapi_url=None)
    app.get("/files")(endpoint)
    app.get("/files/{path:path}")(endpoint)
    app.put("/files/{path:path}")(endpoint)
    of = read_routes(app.routes)
    for path in ("/files", "/files/a", "/files/a/b", "/files/a/b/c"):
        assert purges(of, "PUT /files/a/b", path), path
    assert not purges(of, "PUT /files/a/b", "/files/a/c")
    assert not purges(of, "PUT /files/a/b", "/files/d")


@pytest.mark.parametrize("path", ["/files/a//b", "/files//b", "/files///a/b", "/files/a//b//"])
def test_a_write_purges_its_own_path_however_many_slashes_it_has(path: str) -> None:
    """A parameter that takes slashes takes several in a row."""
    app = FastAPI(openapi_url=None)
    app.get("/files/{path:path}")(endpoint)
    app.put("/files/{path:path}")(endpoint)
    of = read_routes(app.routes)
    assert purges(of, f"PUT {path}", path)
    assert purges(of, f"PUT {path}", path + "/c")


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


def test_a_mount_with_a_parameter_keeps_its_members_apart() -> None:
    """One collection for each tenant."""
    app = FastAPI(openapi_url=None)
    tenant = FastAPI(openapi_url=None)
    tenant.include_router(items())
    app.mount("/{tenant}", tenant)
    mounted = read_routes(app.routes)
    assert purges(mounted, "PUT /a/items/5", "/a/items")
    assert not purges(mounted, "PUT /a/items/5", "/b/items")


async def _opaque(scope: Any, receive: Any, send: Any) -> None: ...


def test_a_mount_may_have_a_parameter_of_the_same_name_as_what_is_in_it() -> None:
    """Starlette gives the endpoint the inner one; the paths of both are kept apart."""
    inner = [
        Route("/items/{id}", endpoint, methods=["GET", "PUT"]),
        Mount("/teams/{id}", app=_opaque),
    ]
    table = read_routes([Mount("/users/{id}", routes=inner)])
    found = table.match("PUT", "/users/1/items/2")
    assert found is not None
    assert found.params["id"] == "2"
    assert RouteGroups(table).touched_by(found) == ("p:/users/1/items/2", "c:/users/1/items")
    opaque = table.match("PUT", "/users/1/teams/2/a")
    assert opaque is not None
    assert opaque.route.opaque


def test_a_mounted_application_that_cannot_be_read_is_taken_by_its_segments() -> None:
    """Any method, any path beneath; a write touches the path above too."""
    app = Starlette(routes=[Route("/a", endpoint), Mount("/files", app=_opaque)])
    mounted = read_routes(app.routes)
    found = mounted.match("PATCH", "/files/a/b")
    assert found is not None
    assert found.route.opaque
    assert purges(mounted, "PUT /files/a/b", "/files/a/b")
    assert purges(mounted, "PUT /files/a/b", "/files/a")
    assert purges(mounted, "DELETE /files/a", "/files/a/b")
    assert not purges(mounted, "PUT /files/a/b", "/files/a/c")
    found = mounted.match("GET", "/a")
    assert found is not None
    assert not found.route.opaque


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


def test_websocket_routes_are_none_of_ours() -> None:
    """They are not answered with responses."""
    assert read_routes([WebSocketRoute("/ws", endpoint)]).routes == ()


def test_no_routes_make_an_empty_table() -> None:
    """A bare ASGI application."""
    assert read_routes([]).match("GET", "/") is None


def test_starlette_answers_head_where_it_answers_get_and_fastapi_does_not() -> None:
    """As the frameworks do it."""
    assert read_routes([Route("/a", endpoint)]).match("HEAD", "/a") is not None
    app = FastAPI(openapi_url=None)
    app.get("/a")(endpoint)
    assert read_routes(app.routes).match("HEAD", "/a") is None


# what is purged


@pytest.mark.parametrize(
    ("request_line", "fresh", "stale"),
    [
        (
            "PUT /items/5",
            ["/items/5", "/items", "/items/search", "/items/5/reviews", "/items/5/reviews/a"],
            ["/items/6", "/items/6/reviews"],
        ),
        ("DELETE /items/5", ["/items/5", "/items", "/items/5/reviews/a"], ["/items/6"]),
        ("POST /items", ["/items", "/items/search"], []),
        ("POST /items/5/publish", ["/items/5", "/items", "/items/search"], ["/items/6"]),
        (
            "POST /items/5/reviews",
            ["/items/5/reviews", "/items/5/reviews/a"],
            ["/items/6", "/items/6/reviews"],
        ),
        (
            "DELETE /items/5/reviews/a",
            ["/items/5/reviews/a", "/items/5/reviews"],
            ["/items/5/reviews/b", "/items/6/reviews", "/items/6"],
        ),
    ],
)
def test_a_write_touches_what_it_changed_and_nothing_else(
    request_line: str, fresh: list[str], stale: list[str]
) -> None:
    """The target, what lies beneath it, and the views of its collection."""
    of = table(items())
    assert {path: purges(of, request_line, path) for path in (*fresh, *stale)} == (
        dict.fromkeys(fresh, True) | dict.fromkeys(stale, False)
    )


def test_collections_beside_each_other_are_left_alone() -> None:
    """Items and orders."""
    of = table(items("/items"), items("/orders"))
    assert not purges(of, "PUT /items/5", "/orders")
    assert not purges(of, "PUT /items/5", "/orders/5")


def test_a_write_to_a_trailing_slash_reaches_both_spellings() -> None:
    """And the other way round."""
    of = table(items())
    assert purges(of, "PUT /items/5/", "/items/5")
    assert purges(of, "PUT /items/5", "/items/")


@pytest.mark.parametrize("path", ["/import", "/bulk/import", "/5/very/deep/import"])
def test_an_action_on_a_collection_touches_all_of_it(path: str) -> None:
    """Also where `GET /items/{item_id}` would match the action's path or a part of it."""
    router = items()
    router.post(path)(endpoint)
    of = table(router)
    for touched_path in ("/items", "/items/search", "/items/5", "/items/6/reviews"):
        assert purges(of, f"POST /items{path}", touched_path)


def test_a_view_that_also_takes_post_is_no_action() -> None:
    """`POST /items/search`, with a GET of its own, touches the views and no member."""
    router = items()
    router.post("/search")(endpoint)
    of = table(router)
    assert purges(of, "POST /items/search", "/items/search")
    assert purges(of, "POST /items/search", "/items")
    assert not purges(of, "POST /items/search", "/items/5")


def test_an_unknown_path_is_taken_by_its_segments() -> None:
    """Itself, what lies beneath, its parent as a list; not its siblings."""
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a/b"))
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a/b/c"))
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a"))
    assert not set(fallback_touched("/a/b")) & set(fallback_groups("/a/c"))
    assert not set(fallback_touched("/a/b")) & set(fallback_groups("/"))


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 1000])
def test_a_deep_unknown_path_has_a_bounded_number_of_groups(depth: int) -> None:
    """A hostile path costs no more than 33 tokens."""
    path = "/a" * depth
    assert len(fallback_groups(path)) <= 33
    assert set(fallback_touched(path)) & set(fallback_groups(path))


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


def test_a_write_by_another_spelling_purges() -> None:
    """`PUT /items/05` changes `/items/5`."""
    assert purges(table(items()), "PUT /items/05", "/items/5")
    assert purges(table(items()), "PUT /items/5", "/items/0005/reviews")


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


# what the routes say of themselves


@pytest.mark.parametrize(
    ("scheme", "source"),
    [
        (HTTPBearer(), SecuritySource(place="header", name="authorization")),
        (OAuth2PasswordBearer("token"), SecuritySource(place="header", name="authorization")),
        (APIKeyHeader(name="X-API-Key"), SecuritySource(place="header", name="x-api-key")),
        (APIKeyQuery(name="apiKey"), SecuritySource(place="query", name="apiKey")),
        (APIKeyCookie(name="Session"), SecuritySource(place="cookie", name="Session")),
    ],
)
@pytest.mark.parametrize("where", ["parameter", "nested", "route", "router", "app", "scopes"])
def test_a_security_scheme_is_found_wherever_it_stands(
    scheme: Any, source: SecuritySource, where: str
) -> None:
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
    info = only(app)
    assert info.has_security
    assert info.security == (source,)


def test_a_route_without_security_has_none() -> None:
    """The other side; a dependency that checks nothing is no security."""

    def page(number: int = 1) -> int:
        return number

    def call(of: Annotated[int, Depends(page)]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a")(call)
    assert not only(app).has_security
    assert only(app).security == ()


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


def test_whoever_has_the_request_may_read_any_parameter() -> None:
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
    """It has no effect there, and somebody should know."""

    @cached(ttl=60)
    def call() -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/a", dependencies=[Depends(HTTPBearer())])(call)
    with caplog.at_level(logging.WARNING, logger="maxage"):
        read_routes(app.routes)
    assert "/a has a security dependency" in caplog.text
