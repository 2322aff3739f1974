"""What the router leaves in the scope counts above the routes that could be read."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.security import APIKeyHeader
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from maxage import CacheMiddleware, Rule, invalidates, uncached
from tests.support.asgi import ASGIApp, Receive, Scope, Send, call, lifespan
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio
KEY = APIKeyHeader(name="X-Key")


def function_around(app: ASGIApp) -> ASGIApp:
    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return layer


def copying(app: ASGIApp) -> ASGIApp:
    """Gives the application a scope of its own, so that its router leaves no word."""

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(dict(scope), receive, send)

    return layer


class Inner:
    """Keeps the application under another name than `app`, as some libraries do."""

    def __init__(self, app: ASGIApp) -> None:
        self.inner_app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.inner_app(scope, receive, send)


def mounted(app: ASGIApp) -> ASGIApp:
    """A mount whose application hides its routes."""
    return Starlette(routes=[Mount("/", function_around(app))])  # type: ignore[return-value]


def unreachable(app: ASGIApp) -> ASGIApp:
    """Finds the application in a place where nothing looks for it."""
    held = {"app": app}

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await held["app"](scope, receive, send)

    return layer


def twice(app: ASGIApp) -> ASGIApp:
    return copying(Inner(copying(app)))


WRAPS = pytest.mark.parametrize(
    "wrap", [function_around, Inner, mounted, copying, twice, unreachable]
)
Wrap = Callable[[Any], ASGIApp]


async def ask(
    app: CacheMiddleware, path: str = "/me", method: str = "GET", **headers: str
) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await call(app, method, path, headers=names)).body


class Site:
    """An application with a route of each kind; each answer is another number."""

    def __init__(self) -> None:
        self.runs = 0
        self.app = FastAPI(openapi_url=None)
        self.router = APIRouter()
        self.app.include_router(self.router)
        self.add_to(self.app)

    def next(self) -> int:
        self.runs += 1
        return self.runs

    def add_to(self, router: Any, prefix: str = "") -> None:
        @router.get(prefix + "/plain")
        async def plain() -> int:
            return self.next()

        @router.get(prefix + "/uncached")
        @uncached
        async def never() -> int:
            return self.next()

        @router.get(prefix + "/tenant")
        async def tenant(x_tenant: Annotated[str, Header()]) -> str:
            return f"{x_tenant} {self.next()}"

        @router.get(prefix + "/checked")
        async def checked(key: Annotated[str, Depends(KEY)]) -> str:
            return f"{key} {self.next()}"

        @router.put(prefix + "/write")
        @invalidates("/plain")
        async def write() -> None: ...


async def holds(app: CacheMiddleware, prefix: str = "") -> None:
    """Each route is cached as its declaration says."""
    for _ in range(2):
        assert (await ask(app, prefix + "/checked", x_key="a")).startswith(b'"a')
        assert (await ask(app, prefix + "/checked", x_key="b")).startswith(b'"b')
        assert b"detail" in await ask(app, prefix + "/checked")
        assert (await ask(app, prefix + "/tenant", x_tenant="a")).startswith(b'"a')
        assert (await ask(app, prefix + "/tenant", x_tenant="b")).startswith(b'"b')
    assert await ask(app, prefix + "/uncached") != await ask(app, prefix + "/uncached")


@WRAPS
async def test_checks_declared_headers_and_uncached_hold(wrap: Wrap) -> None:
    await holds(cache_of(wrap(Site().app)))


@pytest.mark.parametrize("wrap", [function_around, Inner, mounted, unreachable])
async def test_plain_routes_are_cached(wrap: Wrap) -> None:
    app = cache_of(wrap(Site().app))
    await ask(app, "/plain")
    second = await ask(app, "/plain")
    assert [await ask(app, "/plain") for _ in range(2)] == [second] * 2


@pytest.mark.parametrize("wrap", [function_around, Inner, copying, unreachable])
async def test_the_lifespan_makes_the_routes_known_before_the_first_request(wrap: Wrap) -> None:
    # Behind a copy of the scope only a stated lifetime counts.
    app = cache_of(wrap(Site().app), rules=[Rule("/plain", ttl=60)])
    async with lifespan(app):
        assert await ask(app, "/plain") == await ask(app, "/plain")
        assert (
            next(r.template for r in app.targets.routes.table({"type": "http"}).routes) == "/plain"
        )


@pytest.mark.parametrize("wrap", [function_around, Inner, copying, unreachable])
async def test_a_first_write_purges_what_its_decorator_names(wrap: Wrap) -> None:
    site = Site()
    reader = cache_of(site.app)
    assert reader.cache is not None
    writer = cache_of(wrap(site.app), store=reader.cache.store)  # type: ignore[arg-type]
    writer.targets._named = reader.targets._named  # pyright: ignore[reportPrivateUsage]
    first = await ask(reader, "/plain")
    assert await ask(reader, "/plain") == first
    await ask(writer, "/write", "PUT")
    assert await ask(reader, "/plain") != first


async def test_routes_added_to_an_included_router_later_hold() -> None:
    site = Site()
    app = cache_of(site.app)
    assert b"Not Found" in await ask(app, "/later/plain")
    site.add_to(site.router, "/later")
    await holds(app, "/later")


async def test_a_layer_that_sends_requests_elsewhere_is_believed() -> None:
    """The path names the plain route; the layer inside lets the uncached one answer."""
    site = Site()

    class Rewriting:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["path"] = "/uncached"
            await self.app(scope, receive, send)

    app = cache_of(Rewriting(site.app))
    assert len({await ask(app, "/plain") for _ in range(4)}) == 4


async def test_an_application_that_chooses_between_two_is_cached_by_the_one_that_answers() -> None:
    async def open_page(request: Any) -> PlainTextResponse:
        return PlainTextResponse(f"open {request.headers.get('x-tenant')}")

    first, second = Site(), Starlette(routes=[Route("/open", open_page)])

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        app: Any = second if scope.get("path") == "/open" else first.app
        await app(scope, receive, send)

    app = cache_of(choose)
    await holds(app)
    await ask(app, "/open")
    assert await ask(app, "/open") == b"open None"


async def test_a_head_beside_a_hidden_application_is_answered_from_its_stored_get() -> None:
    """No route that could be read answers either of the two methods."""
    side = Starlette(routes=[Route("/open", lambda _: PlainTextResponse("x"))])

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        app: Any = side if scope.get("path") == "/open" else first.app
        await app(scope, receive, send)

    first = Site()
    app = cache_of(choose)
    await ask(app, "/plain")
    for _ in range(3):
        await ask(app, "/open")
    answer = await call(app, "HEAD", "/open")
    assert (answer.header("cache-status") or b"").startswith(b"maxage; hit")


class Raising:
    """A mounted application that raises when it is looked into, as a lazy proxy may."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("lazy")(scope, receive, send)


class WithoutPath(Route):
    """A route that does not tell its path, and yet matches it."""

    @property
    def path(self) -> Any:
        raise RuntimeError("no path")

    @path.setter
    def path(self, path: str) -> None:
        self.known_path = path


async def number(request: Any) -> PlainTextResponse:
    request.app.state.calls += 1
    return PlainTextResponse(str(request.app.state.calls))


async def test_routes_that_raise_when_they_are_read_stop_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A write there purges by its path, and the routes beside them are cached."""
    routes = [
        Mount("/lazy", Raising()),
        WithoutPath("/odd", number, methods=["GET", "POST"]),
        Route("/beside", number),
    ]
    app = Starlette(routes=routes)
    app.state.calls = 0
    cached = cache_of(app)
    async with lifespan(cached):
        assert await ask(cached, "/lazy/a") == b"lazy"
        assert [await ask(cached, "/beside") for _ in range(2)] == [b"1", b"1"]
        assert [await ask(cached, "/odd") for _ in range(2)] == [b"2", b"2"]
        assert await ask(cached, "/odd", "POST") == b"3"
        assert await ask(cached, "/odd") == b"4"
    (line,) = [one.message for one in caplog.records if "WithoutPath" in one.message]
    assert line == (
        "/*: a route of the class WithoutPath cannot be read (RuntimeError('no path')), so that "
        "a write there purges by its path alone."
    )


class Copying:
    """An application whose property makes a list of its routes for each look."""

    def __init__(self, app: Starlette) -> None:
        self.inner_app = app

    @property
    def routes(self) -> list[Any]:
        return list(self.inner_app.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.inner_app(scope, receive, send)


async def test_routes_in_a_new_list_are_read_again_only_if_they_are_others() -> None:
    app = Starlette(routes=[Route("/a", number)])
    app.state.calls = 0
    cached = cache_of(Copying(app))
    assert [await ask(cached, "/a") for _ in range(2)] == [b"1", b"1"]
    generation = cached.targets.routes.generation
    assert await ask(cached, "/a") == b"1"
    assert cached.targets.routes.generation == generation
    app.router.routes[0] = Route("/a", number, methods=["GET", "POST"])
    await ask(cached, "/b")
    assert cached.targets.routes.generation > generation
