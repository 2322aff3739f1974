"""A safe request whose header names another method may change something: it purges like a write."""

from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule
from tests.support.asgi import CounterApp, Recorded, call, http_scope

pytestmark = pytest.mark.anyio

OVERRIDES = ["x-http-method-override", "x-http-method", "x-method-override"]


async def after_a_write(method: str = "GET", path: str = "/items/5", **request: Any) -> Recorded:
    """Return the answer for `/items`, which is stored, after a request beneath it."""
    settings = CacheSettings(
        cache_store_query=True, cache_max_key_bytes=64, cache_max_query_bytes=4
    )
    middleware = CacheMiddleware(
        CounterApp(headers={"cache-control": "public, max-age=60"}),
        settings,
        store=MemoryStore(),
        rules=[Rule("/items/secret", cache=False)],
    )
    assert (await call(middleware, path="/items")).body == b"run 1"
    headers: Any = {"x-http-method-override": "DELETE"}
    written = await call(middleware, method, path, **({"headers": headers} | request))
    assert b"fwd=method" in (written.header("cache-status") or b"")
    return await call(middleware, path="/items")


@pytest.mark.parametrize("method", ["GET", "HEAD", "QUERY", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("name", OVERRIDES)
async def test_an_override_purges_whatever_method_carries_it(method: str, name: str) -> None:
    """GET, HEAD, QUERY, OPTIONS and TRACE are safe only without it."""
    assert (await after_a_write(method, headers={name: "DELETE"})).body == b"run 3"


@pytest.mark.parametrize("value", ["GET", "get", "", "%&/", "PATCH"])
async def test_the_value_of_an_override_is_not_read(value: str) -> None:
    """An application may know more spellings of a method than the cache."""
    assert (await after_a_write(headers={"x-http-method-override": value})).body == b"run 3"


@pytest.mark.parametrize(
    "request_",
    [
        {"path": "/items/secret"},
        {"query": "q=" + "x" * 64},
        {"headers": [("x-http-method", "DELETE"), ("content-length", "3")], "body": b"a=b"},
        {"headers": [("x-http-method", "DELETE"), ("host", "testserver"), ("host", "b")]},
        {"headers": [("x-http-method", "DELETE"), ("x-original-url", "/items/6")]},
        {"headers": [("x-http-method", "DELETE"), ("cache-control", "no-store")]},
        {"headers": [("x-http-method", "DELETE"), ("authorization", "Bearer a")]},
        {"method": "QUERY", "body": [b"longer", b" than the limit"]},
        {"method": "QUERY", "path": "/items/secret"},
    ],
    ids=str,
)
async def test_an_override_is_seen_before_any_other_reason_to_bypass_the_cache(
    request_: dict[str, Any],
) -> None:
    """Uncached route, long URL, body, two hosts, other headers, long content of a QUERY."""
    assert (await after_a_write(**request_)).body == b"run 3"


async def test_an_override_on_a_path_too_deep_to_be_cached_purges() -> None:
    """The collection that the path is in is purged, as by a DELETE."""
    middleware = CacheMiddleware(CounterApp(), CacheSettings(), store=MemoryStore())
    assert middleware.cache is not None
    await call(middleware, path="/a" * 40, headers={"x-method-override": "DELETE"})
    assert middleware.cache.tally.purges


async def test_an_override_in_capitals_is_one() -> None:
    """A middleware around the cache may have written the name."""
    app = CounterApp(headers={"cache-control": "public, max-age=60"})
    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())

    async def around(scope: Any, receive: Any, send: Any) -> None:
        lines = [*scope["headers"], (b"X-HTTP-Method-Override", b"DELETE")]
        await middleware({**scope, "headers": lines}, receive, send)

    for method in ("GET", "OPTIONS"):
        before = await call(middleware)
        await call(around, method)
        assert (await call(middleware)).body != before.body


async def test_a_known_request_is_known_no_more_with_an_override() -> None:
    """The fast path and uvicorn's fast lane never answer it from a copy."""
    app = CounterApp(headers={"cache-control": "public, max-age=60"})
    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())
    assert middleware.fast_path is not None
    await call(middleware)
    await call(middleware)
    assert middleware.fast_path.known(http_scope()) is not None
    for name in OVERRIDES:
        scope = http_scope(headers={name: "GET"})
        assert middleware.fast_path.known(scope) is None
