"""A function that chooses one of several applications: each is cached by its own routes."""

import itertools
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Response, Security
from fastapi.security import APIKeyHeader
from starlette.applications import Starlette
from starlette.routing import Mount

from maxage import CacheMiddleware, invalidates
from tests.routing.test_unreadable_routes import Site, holds
from tests.support.asgi import ASGIApp, Receive, Scope, Send, call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


def by_host(apps: dict[str, Any]) -> ASGIApp:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[dict(scope["headers"])[b"host"].decode()](scope, receive, send)

    return choose


def telling_reads(app: Any) -> ASGIApp:
    """The application behind a layer that copies the scope of writes."""

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope if scope["method"] == "GET" else dict(scope), receive, send)

    return layer


def by_path(apps: dict[str, Any]) -> ASGIApp:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        prefix = "/" + scope["path"].split("/")[1]
        await apps[prefix](scope, receive, send)

    return choose


def beneath(prefix: str) -> Any:
    """An application whose paths begin with a prefix."""
    site = Site()
    site.app = FastAPI(openapi_url=None)
    site.add_to(site.app, prefix)
    return site.app


async def ask(
    app: CacheMiddleware, host: str, path: str, method: str = "GET", **more: str
) -> bytes:
    headers = {"host": host} | {name.replace("_", "-"): value for name, value in more.items()}
    return (await call(app, method, path, headers=headers)).body


async def write() -> None:
    """Change something."""


async def learn(app: CacheMiddleware, host: str, path: str) -> None:
    """The first answers of a router are not stored."""
    for _ in range(3):
        await ask(app, host, path)


async def test_applications_chosen_by_host_are_cached_each_by_its_own_routes() -> None:
    app = cache_of(by_host({"a": Site().app, "b": Site().app, "c": Site().app}))
    for host in "abc":
        await learn(app, host, "/plain")
    for host in "abcab":
        assert len({await ask(app, host, "/plain") for _ in range(2)}) == 1
        for key in "kl":
            assert (await ask(app, host, "/checked", x_key=key)).startswith(b'"' + key.encode())
            assert (await ask(app, host, "/tenant", x_tenant=key)).startswith(b'"' + key.encode())
        assert b"detail" in await ask(app, host, "/checked")
        assert await ask(app, host, "/uncached") != await ask(app, host, "/uncached")


async def test_applications_chosen_by_path_are_cached_each_by_its_own_routes() -> None:
    app = cache_of(by_path({"/a": beneath("/a"), "/b": beneath("/b")}))
    for prefix in ("/a", "/b", "/a", "/b"):
        await learn(app, "x", prefix + "/plain")
        assert len({await ask(app, "x", prefix + "/plain") for _ in range(2)}) == 1
        await holds(app, prefix)


async def test_a_write_to_one_application_purges_its_pages_as_its_decorator_says() -> None:
    app = cache_of(by_host({"a": Site().app, "b": Site().app}))
    for host in "ab":
        await learn(app, host, "/plain")
        before = await ask(app, host, "/plain")
        await ask(app, host, "/write", "PUT")
        assert await ask(app, host, "/plain") != before


@pytest.mark.parametrize("tells", [True, False])
async def test_a_write_purges_as_the_route_says_that_has_answered_it(tells: bool) -> None:
    """Not as a route of another application says, which has the same path and came first.

    Where a copied scope does not tell which one has answered, as all of them say.
    """
    apps = {"a": FastAPI(openapi_url=None), "b": FastAPI(openapi_url=None)}
    runs = itertools.count()

    async def page() -> int:
        return next(runs)

    async def other_write() -> None:
        """Change something else."""

    for name, app in apps.items():
        app.get(f"/{name}")(page)
    apps["a"].post("/items")(write)
    apps["b"].post("/items")(invalidates("/figures/today")(other_write))
    apps["b"].get("/figures/today")(page)
    cached = cache_of(by_host(apps if tells else {n: telling_reads(a) for n, a in apps.items()}))
    for host, path in (("a", "/a"), ("b", "/b"), ("b", "/figures/today")):
        await learn(cached, host, path)
    before = await ask(cached, "b", "/figures/today")
    await ask(cached, "a", "/items", "POST")
    assert (await ask(cached, "b", "/figures/today") == before) is tells
    before = await ask(cached, "b", "/figures/today")
    await ask(cached, "b", "/items", "POST")
    assert await ask(cached, "b", "/figures/today") != before


async def test_no_answer_to_post_stands_for_a_get_that_another_application_may_check() -> None:
    """A hit would skip the check of the GET's route."""
    apps = {"a": FastAPI(openapi_url=None), "b": FastAPI(openapi_url=None)}

    async def page() -> int:
        return 1

    async def post(response: Response) -> int:
        response.headers["cache-control"] = "max-age=60"
        response.headers["content-location"] = "/x"
        return 2

    apps["a"].get("/x")(page)
    apps["b"].get("/x", dependencies=[Security(APIKeyHeader(name="X-Mine"))])(page)
    for app in apps.values():
        app.post("/x")(post)
    cached = cache_of(by_host(apps), cache_store_post=True)
    await learn(cached, "a", "/x")
    for _ in range(2):
        assert await ask(cached, "b", "/x", "POST") == b"2"
        assert b"detail" in await ask(cached, "b", "/x")


async def test_a_first_write_to_an_unknown_application_purges_all() -> None:
    """Another process may have stored responses by its routes."""
    apps = {"a": Site().app, "b": Site().app}
    app = cache_of(by_host(apps))
    await learn(app, "a", "/plain")
    before = await ask(app, "a", "/plain")
    await ask(app, "b", "/write", "PUT")
    assert await ask(app, "a", "/plain") != before


async def test_the_router_around_a_mounted_cache_is_not_the_one_that_answers() -> None:
    site = Site()
    inner = cache_of(site.app)
    outer: Any = Starlette(routes=[Mount("/in", app=inner)])
    for _ in range(3):
        await call(outer, path="/in/plain")
    assert site.runs == 1
    assert all(r.template != "/in" for r in inner.targets.routes.table({"type": "http"}).routes)
    assert len(inner.targets.routes.table({"type": "http"}).routes) == 5


@pytest.mark.parametrize("first", ["open", "checked"])
async def test_one_router_in_two_applications_is_checked_as_each_of_them_says(first: str) -> None:
    """A hit would skip the check that one of the two makes."""
    router, runs = APIRouter(), iter(range(99))

    @router.get("/x")
    async def page() -> int:  # pyright: ignore[reportUnusedFunction]
        return next(runs)

    apps: dict[str, Any] = {}
    for name, checks in (("open", []), ("checked", [Security(APIKeyHeader(name="X-Mine"))])):
        apps[name] = FastAPI(openapi_url=None, dependencies=checks)
        apps[name].include_router(router)
    app = cache_of(by_host(apps))
    for host in (first, "open", "checked"):
        for _ in range(4):
            await ask(app, host, "/x", x_mine="k")
    assert b"detail" in await ask(app, "checked", "/x")
    assert len({await ask(app, "checked", "/x", x_mine="k") for _ in range(2)}) == 2
    assert len({await ask(app, "open", "/x") for _ in range(2)}) == 1
