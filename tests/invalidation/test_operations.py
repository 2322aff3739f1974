"""One URL for all operations, such as GraphQL: its path does not tell what it reads or changes."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule, cached
from maxage.rfc9111.message import Headers
from maxage.route_map import route_map, scope_of
from maxage.testing import assert_does_not_invalidate, assert_invalidates
from tests.support.asgi import CounterApp, call, lifespan
from tests.support.caching import status_of

pytestmark = pytest.mark.anyio
READS = [
    "/",
    "/books",
    "/books/{n}",
    "/api/v1/authors/{author}/works",
    "/{page}/text",
    "/search/{q:path}",
]
SHOWN = [
    "/",
    "/books?page=2",
    "/books/5",
    "/api/v1/authors/lem/works",
    "/about/text",
    "/search/a/b",
]


def library(*paths: str) -> FastAPI:
    """Return an application with reads, a write of its own for the books, and such endpoints."""
    app = FastAPI()
    for path in READS:
        app.get(path)(lambda: 1)
    app.put("/books/{n}")(lambda: 1)
    for path in paths or ("/graphql",):
        app.api_route(path, methods=["GET", "POST"])(lambda: 1)
    return app


@pytest.mark.parametrize("mode", ["matching", "unproven", "everything"])
@pytest.mark.parametrize(
    ("endpoint", "request_path"),
    [
        ("/graphql", "/graphql"),
        ("/graphql/", "/graphql/"),
        ("/api/v1/graphql", "/api/v1/graphql"),
        ("/GraphQL", "/GraphQL"),
        ("/gql", "/gql"),
        ("/jsonrpc", "/jsonrpc"),
        ("/json-rpc", "/json-rpc"),
        ("/api/rpc", "/api/rpc"),
        ("/rpc/{method}", "/rpc/rename"),
        ("/mcp", "/mcp"),
    ],
)
@pytest.mark.parametrize("read", SHOWN)
async def test_an_operation_purges_the_reads_of_all_trees(
    endpoint: str, request_path: str, read: str, mode: Any
) -> None:
    """A mutation of an author shows in the books, and no path tells so."""
    app = library(endpoint)
    app.add_middleware(CacheMiddleware, settings=CacheSettings(cache_purge=mode))
    assert_invalidates(app, f"POST {request_path}", f"GET {read}")


async def test_an_operation_is_the_write_of_no_read() -> None:
    """What only an operation reaches shows data of any tree: it stays an orphan."""
    app = library()
    app.add_middleware(CacheMiddleware)
    for read in ("/", "/about/text", "/api/v1/authors/lem/works"):
        assert_invalidates(app, "PUT /books/5", f"GET {read}")
    assert_does_not_invalidate(app, "PUT /books/5", "GET /books/6")


@pytest.mark.parametrize("path", ["/graphql/history", "/rpcs", "/mcp/servers", "/subgraphql"])
async def test_other_paths_are_resources(path: str) -> None:
    """Only the last word, or the one before a parameter, is the name of such an endpoint."""
    app = library(path)
    app.add_middleware(CacheMiddleware)
    assert_does_not_invalidate(app, f"POST {path}", "GET /books/5")


async def test_an_operation_leaves_isolated_reads_alone() -> None:
    """Their routes say that no write of another tree changes what they show."""
    app = library()
    app.get("/about/us")(cached(isolated=True)(lambda: 1))
    app.add_middleware(CacheMiddleware)
    assert_does_not_invalidate(app, "POST /graphql", "GET /about/us")
    assert_invalidates(app, "POST /graphql", "GET /about/text")


async def test_a_rule_says_what_operations_change() -> None:
    """Such as nothing, where the resolvers of mutations purge by hand."""
    app = library()
    app.add_middleware(CacheMiddleware, rules=[Rule("/graphql", invalidates_only=["/books"])])
    assert_invalidates(app, "POST /graphql", "GET /books/5")
    assert_does_not_invalidate(app, "POST /graphql", "GET /about/text")


async def test_an_operation_keeps_objects_of_the_typed_cache() -> None:
    """All of them are in the group of everything; who writes one deletes it."""
    [write] = [one for one in route_map(library()).writes if one.path == "/graphql"]
    assert "n" not in write.groups


@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "/api/GraphQL", "/jsonrpc"])
async def test_answers_of_operations_get_no_default_lifetime(path: str) -> None:
    """An error has status 200 there, and any write may change them; a lifetime of a rule holds."""
    app = Starlette(routes=[Route(path, lambda request: PlainTextResponse("x"))])
    for rules, stored in (([], False), ([Rule(path, ttl=60)], True)):
        middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore(), rules=rules)
        target = f"{path}?query={{books}}".encode()
        await call(middleware, target=target)
        assert (b"hit" in status_of(await call(middleware, target=target))) is stored


async def test_a_mounted_application_of_operations_purges_all() -> None:
    """As libraries of GraphQL are mounted: their routes cannot be read."""
    routes = [
        Route("/books", lambda request: PlainTextResponse("x")),
        Mount("/graphql", CounterApp()),
    ]
    middleware = CacheMiddleware(Starlette(routes=routes), CacheSettings(), store=MemoryStore())
    for path in ("/graphql", "/graphql/"):
        await call(middleware, path="/books")
        assert b"hit" in status_of(await call(middleware, path="/books"))
        await call(middleware, "POST", path)
        assert b"hit" not in status_of(await call(middleware, path="/books"))


async def test_the_start_names_operations_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Each request to them costs all hits; a rule that says what they change ends that."""
    nothing = [Rule(path, invalidates_only=[]) for path in ("/graphql", "/api/rpc")]
    for rules, told in (([], True), (nothing, False)):
        caplog.clear()
        app = library("/graphql", "/api/rpc")
        middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore(), rules=rules)
        async with lifespan(middleware):
            pass
        said = [r.message for r in caplog.records if "may change anything" in r.message]
        assert len(said) == told
        assert not told or "/graphql, /api/rpc" in said[0]


async def test_the_start_names_a_mount_of_operations_as_a_rule_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A rule with the path of the log line is about all paths beneath the mount."""
    app = Starlette(routes=[Mount("/graphql", CounterApp())])
    rules = [Rule("/graphql/**", invalidates_only=[])]
    for given, told in (((), 1), (rules, 0)):
        caplog.clear()
        async with lifespan(CacheMiddleware(app, store=MemoryStore(), rules=given)):
            pass
        assert sum("reads: /graphql/**." in r.message for r in caplog.records) == told


@pytest.mark.parametrize("read", ["/rpc", "/rpc/names"])
async def test_an_operation_purges_isolated_reads_of_its_own_tree(read: str) -> None:
    """They depend on nothing outside of their tree, and on all within."""
    app = FastAPI()
    app.get(read)(cached(isolated=True)(lambda: 1))
    app.post("/rpc/{method}")(lambda: 1)
    app.add_middleware(CacheMiddleware)
    assert_invalidates(app, "POST /rpc/rename", f"GET {read}")


async def test_a_mounted_application_of_operations_divides_no_tree() -> None:
    """Beside it, `/api` does not become a prefix of trees that know nothing of each other."""
    routes = [
        Route("/api/list", lambda request: PlainTextResponse("x")),
        Route("/api/add", lambda request: PlainTextResponse("x"), methods=["POST"]),
        Mount("/api/graphql", CounterApp()),
    ]
    middleware = CacheMiddleware(Starlette(routes=routes), rules=[Rule("/api/list", ttl=60)])
    assert_invalidates(middleware, "POST /api/add", "GET /api/list")


async def test_a_mounted_application_of_operations_purges_the_paths_above_it() -> None:
    """As each mounted application of unknown routes does."""
    app = Starlette(routes=[Mount("/api/graphql", CounterApp())])
    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())
    purged = middleware.targets.touched(scope_of("POST", "/api/graphql/"), Headers(())).groups
    assert {"c:/", "c:/api"} <= set(purged)
