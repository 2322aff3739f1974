"""Faults that an attack on the first version found; each stays found."""

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header
from pydantic import AliasChoices, BaseModel, Field, StringConstraints

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule
from tests.support.asgi import call


def cache_of(app: Any, **more: Any) -> CacheMiddleware:
    """Return the middleware on a store of its own."""
    return CacheMiddleware(app, CacheSettings(redis_url=None), store=MemoryStore(), **more)


async def test_an_answer_cut_short_for_a_client_that_hung_up_is_not_stored() -> None:
    """Starlette's documented pattern: stop when `is_disconnected()`, and answer what there is."""
    rows = [20]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if rows.pop(0) == 6:
            await receive()  # http.disconnect
            body = b"6 of 20"
        else:
            body = b"20 of 20"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    rows[:] = [6, 20]
    middleware = cache_of(app)
    await call(middleware, disconnect_after=0)
    assert (await call(middleware)).body == b"20 of 20"


async def test_a_body_that_no_header_announced_is_no_plain_get() -> None:
    """HTTP/2 needs neither Content-Length nor Transfer-Encoding."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"results for " + (await receive()).get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    middleware = cache_of(app)
    sent = [{"type": "http.request", "body": b"EVIL", "more_body": False}]

    async def receive() -> Any:
        return sent.pop() if sent else {"type": "http.request", "body": b"", "more_body": False}

    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    scope = {
        "type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"",
        "headers": [(b"host", b"a")], "scheme": "http", "http_version": "2",
    }  # fmt: skip
    await middleware(scope, receive, send)
    await middleware(dict(scope), receive, send)
    assert b"".join(bodies) == b"results for EVIL" + b"results for "


class Tenant(BaseModel):
    tenant: str = Field(validation_alias=AliasChoices("x-tenant", "tenant"))


async def plain(tenant: Annotated[str, Header(validation_alias="x-tenant")]) -> str:
    return tenant


async def model(tenant: Annotated[Tenant, Header()]) -> str:
    return tenant.tenant


async def optional_model(tenant: Annotated[Tenant | None, Header()] = None) -> str:
    return tenant.tenant if tenant else ""


@pytest.mark.parametrize("endpoint", [plain, model, optional_model])
async def test_a_header_parameter_joins_the_key_whatever_its_alias(endpoint: Any) -> None:
    """One tenant's answer never reaches another."""
    app = FastAPI(openapi_url=None)
    app.get("/a")(endpoint)
    middleware = cache_of(app)
    bodies = [
        (await call(middleware, path="/a", headers={"x-tenant": name})).body
        for name in ("acme", "evil")
    ]
    assert bodies[0] != bodies[1]


async def test_a_path_rewritten_by_an_outer_middleware_is_another_url() -> None:
    """Most of them leave the raw path alone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    middleware = cache_of(app)
    first = await call(middleware, path="/v1/items", raw_path=b"/items")
    second = await call(middleware, path="/v2/items", raw_path=b"/items")
    assert (first.body, second.body) == (b"/v1/items", b"/v2/items")


@pytest.mark.parametrize("catch_all", [False, True])
async def test_a_catch_all_route_does_not_stop_an_action_from_purging(catch_all: bool) -> None:
    """Every application with a single-page front end has one."""
    app, state = FastAPI(openapi_url=None), {"shown": "draft"}

    @app.get("/items/{id}")
    async def read(id: int) -> str:  # noqa: A002
        return state["shown"]

    @app.post("/items/{id}/publish")
    async def publish(id: int) -> None:  # noqa: A002
        state["shown"] = "published"

    if catch_all:

        @app.get("/{full_path:path}")
        async def page(full_path: str) -> str:
            return "page"

    middleware = cache_of(app)
    await call(middleware, path="/items/5")
    await call(middleware, method="POST", path="/items/5/publish")
    assert (await call(middleware, path="/items/5")).body == b'"published"'


async def test_a_parameter_that_its_metadata_normalises_names_one_resource() -> None:
    """`BOB` and `bob` are one user where the route says so."""
    app, state = FastAPI(openapi_url=None), {"shown": "old"}

    @app.get("/users/{name}")
    async def read(name: Annotated[str, StringConstraints(to_lower=True)]) -> str:
        return state["shown"]

    @app.put("/users/{name}")
    async def write(name: Annotated[str, StringConstraints(to_lower=True)]) -> None:
        state["shown"] = "new"

    middleware = cache_of(app)
    await call(middleware, path="/users/BOB")
    await call(middleware, method="PUT", path="/users/bob")
    assert (await call(middleware, path="/users/BOB")).body == b'"new"'


@pytest.mark.parametrize(("depth", "cached"), [(32, True), (33, False)])
async def test_a_very_deep_path_is_not_cached(depth: int, cached: bool) -> None:
    """Each segment may need a token."""
    runs: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = cache_of(app)
    for _ in range(2):
        await call(middleware, path="/a" * depth)
    assert len(runs) == (1 if cached else 2)


async def test_tokens_of_paths_without_values_do_not_starve_the_values() -> None:
    """A scanner that asks for thousands of missing pages must not switch the cache off."""
    store = MemoryStore(100_000)
    for number in range(2000):
        await store.read((), (f"p:/missing/{number}",))
    assert await store.write([(b"key", b"x" * 1000)], keep_for=60, tokens={})
    assert (await store.read((b"key",), ())).values == [b"x" * 1000]


async def test_a_prohibition_holds_beneath_a_root_path() -> None:
    """`uvicorn --root-path /api` sends the path with the root path in front."""
    runs: list[int] = []

    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = cache_of(app, rules=[Rule("/admin/**", cache=False)])
    for _ in range(2):
        await call(middleware, path="/api/admin/x", root_path="/api")
    assert len(runs) == 2
