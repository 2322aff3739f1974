"""A decorator is heard on whatever answers a route, or refused where it is written."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from maxage import CacheMiddleware, SettingsError, cached, invalidates, invalidates_only, uncached
from maxage.routing.control import Control
from maxage.routing.controls import control_of, control_of_method
from tests.support.asgi import call
from tests.support.caching import cache_of, status_of

pytestmark = pytest.mark.anyio


class Numbers:
    """Gives each run another number."""

    def __init__(self) -> None:
        self.runs = 0

    def next(self) -> PlainTextResponse:
        self.runs += 1
        return PlainTextResponse(str(self.runs))


NUMBERS = Numbers()


def starlette(endpoint: Any, path: str = "/me") -> CacheMiddleware:
    return cache_of(Starlette(routes=[Route(path, endpoint)]))  # type: ignore[arg-type]


async def is_cached(app: CacheMiddleware, path: str = "/me") -> bool:
    first = await call(app, path=path)
    return (await call(app, path=path)).body == first.body


async def page(request: Request) -> PlainTextResponse:
    return NUMBERS.next()


async def numbered(number: int, request: Request) -> PlainTextResponse:
    return NUMBERS.next()


class Answering:
    """Answers by a decorated `__call__`."""

    @uncached
    async def __call__(self, request: Request) -> PlainTextResponse:
        return NUMBERS.next()


async def test_a_decorated_call_of_an_object_is_heard() -> None:
    """The object is the endpoint, and its class has the decorator."""
    app = FastAPI(openapi_url=None)
    app.get("/me", response_model=None)(Answering())
    assert not await is_cached(cache_of(app))


class WithHead(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    async def head(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(headers={"x-own": "1"})


async def test_a_head_of_its_own_is_asked() -> None:
    """A stored GET does not answer for it; without one it does."""
    app = starlette(WithHead)
    await call(app, path="/me")
    assert (await call(app, path="/me", method="HEAD")).header("x-own") == b"1"
    assert b"hit" in status_of(await call(app, path="/me"))


def without_wraps(inner: Any) -> Any:
    async def outer(request: Request) -> Any:
        return await inner(request)

    return outer


def with_wraps(inner: Any) -> Any:
    @functools.wraps(inner)
    async def outer(request: Request) -> Any:
        return await inner(request)

    return outer


def with_arguments(*_: int) -> Callable[[Any], Any]:
    return without_wraps


class View:
    @uncached
    async def get(self, request: Request) -> PlainTextResponse:
        return NUMBERS.next()

    @uncached
    @staticmethod
    async def above(request: Request) -> PlainTextResponse:
        return NUMBERS.next()

    @staticmethod
    @uncached
    async def beneath(request: Request) -> PlainTextResponse:
        return NUMBERS.next()

    @uncached
    @classmethod
    async def of_class(cls, request: Request) -> PlainTextResponse:
        return NUMBERS.next()


def fresh(kind: Any = page) -> Any:
    """A copy of a function without the marks of other tests."""

    async def copied(*args: Any) -> Any:
        return await kind(*args)

    copied.__annotations__ = {}
    return copied


@pytest.mark.parametrize(
    "endpoint",
    [
        View().get,
        View.above,
        View().above,
        View.beneath,
        View.of_class,
        functools.partial(uncached(fresh(numbered)), 1),
        uncached(functools.partial(fresh(numbered), 1)),
        functools.partial(functools.partial(uncached(fresh(numbered))), 1),
        without_wraps(uncached(fresh())),
        with_wraps(uncached(fresh())),
        with_arguments(1)(uncached(fresh())),
        without_wraps(without_wraps(uncached(fresh()))),
        without_wraps(functools.partial(uncached(fresh(numbered)), 1)),
        without_wraps(View().get),
    ],
)
async def test_uncached_is_heard(endpoint: Any) -> None:
    assert not await is_cached(starlette(endpoint))


@pytest.mark.parametrize("endpoint", [page, without_wraps(page), functools.partial(numbered, 1)])
async def test_without_a_decorator_the_same_endpoints_are_cached(endpoint: Any) -> None:
    assert await is_cached(starlette(endpoint))


async def test_a_decorator_that_is_a_class_hides_nothing() -> None:
    class Logged:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, request: Request) -> Any:
            return await self.inner(request)

    app = FastAPI(openapi_url=None)
    app.get("/me")(Logged(uncached(fresh())))

    @app.get("/other")
    @without_wraps
    @uncached
    async def other(request: Request) -> Any:
        return NUMBERS.next()

    middleware = cache_of(app)
    assert not await is_cached(middleware)
    assert not await is_cached(middleware, "/other")


@pytest.mark.parametrize("endpoint", [View().get, len])
@pytest.mark.parametrize("decorate", [uncached, cached(ttl=1), invalidates("/x")])
def test_what_cannot_be_marked_is_refused_with_a_sentence(endpoint: Any, decorate: Any) -> None:
    with pytest.raises(SettingsError, match="decorate the function itself"):
        decorate(endpoint)


class Items(HTTPEndpoint):
    """Each of its methods says something else."""

    async def get(self, request: Request) -> PlainTextResponse:
        return NUMBERS.next()

    @invalidates("/other")
    async def put(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("changed")

    @invalidates_only()
    async def post(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("nothing changed")

    async def delete(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("gone")


@pytest.mark.parametrize(
    ("method", "same", "other"),
    [("PUT", False, False), ("POST", True, True), ("DELETE", False, True)],
)
async def test_each_method_of_an_http_endpoint_has_a_control_of_its_own(
    method: str, *, same: bool, other: bool
) -> None:
    """Whether the answers of its own path, and of the one that `put` names, stay stored."""
    other_page = cached(isolated=True)(fresh())
    app = cache_of(Starlette(routes=[Route("/items", Items), Route("/other", other_page)]))  # type: ignore[arg-type]
    before = [(await call(app, path=path)).body for path in ("/items", "/other")]
    assert (await call(app, method, "/items")).status == 200
    after = [(await call(app, path=path)).body for path in ("/items", "/other")]
    assert [one == two for one, two in zip(before, after, strict=True)] == [same, other]


async def test_an_http_endpoint_whose_get_is_uncached_is_not_cached() -> None:
    class Page(HTTPEndpoint):
        @uncached
        async def get(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

        async def put(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

    assert not await is_cached(starlette(Page))


async def test_a_prohibition_of_the_class_holds_for_each_method() -> None:
    @uncached
    class Page(HTTPEndpoint):
        @cached(ttl=60)
        async def get(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

    assert not await is_cached(starlette(Page))


async def test_a_hidden_http_endpoint_is_heard_too() -> None:
    class Page(HTTPEndpoint):
        @uncached
        async def get(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

    inner: Any = Starlette(routes=[Route("/me", Page)])

    async def around(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app = cache_of(around)
    assert not await is_cached(app)
    assert not await is_cached(app)


async def test_what_an_endpoint_calls_gives_it_no_lifetime_and_no_vary_by() -> None:
    """It is no decorator around the function that it calls, though both look alike."""

    @cached(ttl=300, vary_by=lambda request: "all")
    async def tenant_info(request: Request) -> PlainTextResponse:
        return NUMBERS.next()

    @invalidates_only("/audit")
    async def audit(request: Request) -> None: ...

    async def me(request: Request) -> PlainTextResponse:
        return await tenant_info(request)

    async def create(request: Request) -> None:
        await audit(request)

    assert control_of(me) == Control()
    assert control_of(create) == Control(invalidates=("/audit",))


def test_a_method_keeps_what_its_class_says() -> None:
    """Else one tenant's answer reached another."""

    def tenant(request: Request) -> str:
        return request.headers["x-tenant"]

    @cached(vary_by=tenant, tags=["a"])
    @invalidates("/b")
    class Endpoint(HTTPEndpoint):
        @cached(ttl=60, tags=["c"])
        @invalidates("/d")
        async def get(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

    control = control_of_method(Endpoint, "GET")
    assert control is not None
    assert (control.ttl, control.vary_by) == (60, tenant)
    assert (control.tags, control.invalidates) == (("c", "a"), ("/d", "/b"))


def test_a_method_keeps_the_limits_that_its_class_sets() -> None:
    """`isolated` and `invalidates_only` hold for each method."""

    @cached(isolated=True)
    @invalidates_only("/b")
    class Endpoint(HTTPEndpoint):
        @invalidates("/d")
        async def post(self, request: Request) -> PlainTextResponse:
            return NUMBERS.next()

    control = control_of_method(Endpoint, "POST")
    assert control == Control(isolated=True, only=True, invalidates=("/d", "/b"))


def test_a_decorator_takes_nothing_from_the_one_beneath() -> None:
    """Else what the lower one names stayed stale, and one tenant's answer reached another."""

    def tenant(request: Request) -> str:
        return request.headers["x-tenant"]

    @invalidates("/a")
    @invalidates("/b")
    def purges() -> None: ...

    @cached(ttl=60, tags=["a"])
    @cached(ttl=5, tags=["b"], vary_by=tenant, isolated=True)
    def stored() -> None: ...

    assert control_of(purges) == Control(invalidates=("/a", "/b"))
    assert control_of(stored) == Control(ttl=60, tags=("a", "b"), vary_by=tenant, isolated=True)


class Unbound:
    """A lazy proxy outside of its context."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("object is not bound")

    def __call__(self) -> None:
        raise RuntimeError("object is not bound")


async def test_an_object_of_a_layer_that_cannot_be_looked_into_harms_no_request() -> None:
    """Such as a proxy in the closure of the application."""
    proxy = Unbound()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert proxy is not None
        await PlainTextResponse("here")(scope, receive, send)

    middleware = cache_of(app)
    assert (await call(middleware, path="/me")).body == b"here"
    assert await is_cached(middleware)


def test_a_function_that_names_itself_as_wrapped_has_no_control() -> None:
    """And reading it comes to an end."""

    def endless() -> None: ...

    endless.__wrapped__ = endless  # type: ignore[attr-defined]
    assert control_of(endless) is None
