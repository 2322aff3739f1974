"""QUERY (RFC 10008): answered like a GET, under a key that holds its content."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import FastAPI, Request

from maxage import CacheMiddleware, CacheSettings, RedisStore, uncached
from tests.support.asgi import ASGIApp, CounterApp, Recorded, call
from tests.support.caching import cache_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
FRESH = {"cache-control": "max-age=60"}


def query_cache(app: ASGIApp, clock: ManualClock | None = None, **settings: Any) -> CacheMiddleware:
    """The middleware with QUERY switched on, unless the settings say otherwise."""
    return cache_of(app, clock, **({"cache_store_query": True} | settings))


async def query(
    middleware: CacheMiddleware,
    content: bytes | Iterable[bytes] = b'{"q":1}',
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Recorded:
    """The answer to a QUERY, by default of JSON."""
    sent = JSON if headers is None else headers
    return await call(middleware, "QUERY", headers=sent, body=content, **more)


async def test_the_same_question_is_answered_from_the_store() -> None:
    """The application gets method and content as they were sent."""
    app = CounterApp(headers=FRESH)
    middleware = query_cache(app)
    assert (await query(middleware)).body == b"run 1"
    hit = await query(middleware)
    assert hit.body == b"run 1"
    assert b"hit" in (hit.header("cache-status") or b"")
    assert app.scopes[0]["method"] == "QUERY"
    assert app.request_bodies == [b'{"q":1}']


async def test_in_whatever_pieces_it_comes() -> None:
    """The content counts, not how it was sent."""
    app = CounterApp(headers=FRESH)
    middleware = query_cache(app)
    await query(middleware, [b'{"q"', b"", b":1}"])
    assert (await query(middleware)).body == b"run 1"
    assert app.request_bodies == [b'{"q":1}']


async def test_by_default_it_is_passed_through() -> None:
    """Reading content that the handler may not want is opt-in."""
    middleware = query_cache(CounterApp(headers=FRESH), cache_store_query=False)
    assert (await query(middleware)).body == b"run 1"
    assert (await query(middleware)).body == b"run 2"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b'{"q":2}', JSON),
        (b'{"q": 1}', JSON),
        (b"", JSON),
        (b'{"q":1}', {"content-type": "text/plain"}),
        (b'{"q":1}', {"content-type": "application/json; charset=utf-8"}),
        (b'{"q":1}', JSON | {"content-encoding": "identity"}),
        (b'{"q":1}', JSON | {"content-language": "de"}),
        (b'{"q":1}', {}),
    ],
)
async def test_another_content_or_another_meaning_is_another_question(
    content: bytes, headers: dict[str, str]
) -> None:
    """Type, coding and language of the content belong to it, and so does their absence."""
    middleware = query_cache(CounterApp(headers=FRESH))
    await query(middleware)
    assert (await query(middleware, content, headers)).body == b"run 2"
    assert (await query(middleware)).body == b"run 1"


async def test_get_and_query_never_answer_for_each_other() -> None:
    """Also a QUERY without content is another request than the GET of its URL."""
    middleware = query_cache(CounterApp(headers=FRESH))
    assert (await call(middleware)).body == b"run 1"
    assert (await query(middleware, b"", {})).body == b"run 2"
    assert (await call(middleware)).body == b"run 1"
    assert (await call(middleware, "HEAD")).headers
    assert (await query(middleware, b"", {})).body == b"run 2"


@pytest.mark.parametrize(("size", "stored"), [(10, True), (11, False)])
async def test_content_over_the_limit_is_passed_on_untouched(size: int, stored: bool) -> None:
    """In its pieces, and nothing is stored."""
    app = CounterApp(headers=FRESH)
    middleware = query_cache(app, cache_max_query_bytes=10)
    pieces = [b"x" * 4, b"x" * 4, b"x" * (size - 8)]
    first, second = await query(middleware, pieces), await query(middleware, pieces)
    assert first.body == b"run 1"
    assert (second.body == b"run 1") is stored
    assert set(app.request_bodies) == {b"x" * size}


async def test_a_client_that_hangs_up_while_it_asks_leaves_nothing() -> None:
    """The application learns of it, and half a question is never answered from the store."""
    app = CounterApp(headers=FRESH)
    middleware = query_cache(app)
    await query(middleware, [b'{"q"', b":1}"], disconnect_after=1, raises=False)
    assert (await query(middleware)).body == b"run %d" % (app.runs)
    assert (await query(middleware, b'{"q"')).body == b"run %d" % app.runs


@pytest.mark.parametrize(
    "header",
    [{"authorization": "Bearer x"}, {"cookie": "a=b"}, {"x-http-method-override": "DELETE"}],
)
async def test_what_keeps_a_get_from_being_stored_keeps_a_query(header: dict[str, str]) -> None:
    """Credentials and overrides."""
    middleware = query_cache(CounterApp(headers=FRESH))
    await query(middleware, headers=JSON | header)
    assert (await query(middleware, headers=JSON | header)).body == b"run 2"


async def test_a_write_purges_the_answers_of_its_path() -> None:
    """As it purges those of GET."""
    middleware = query_cache(CounterApp(headers=FRESH))
    await query(middleware)
    await call(middleware, "PUT")
    assert (await query(middleware)).body == b"run 3"


async def test_a_query_purges_nothing() -> None:
    """It is a safe method, whether it is stored or not."""
    for stored in (True, False):
        middleware = query_cache(CounterApp(headers=FRESH), cache_store_query=stored)
        await call(middleware)
        await query(middleware)
        assert (await call(middleware)).body == b"run 1"


async def test_requests_with_one_question_wait_for_one_answer() -> None:
    """Others ask for themselves."""
    app = CounterApp(headers=FRESH, gate=asyncio.Event())
    middleware = query_cache(app)
    asked = [asyncio.create_task(query(middleware, c)) for c in (b"1", b"1", b"2", b"1")]
    await asyncio.sleep(0.01)
    assert app.gate is not None
    app.gate.set()
    bodies = [answer.body for answer in await asyncio.gather(*asked)]
    assert bodies[0] == bodies[1] == bodies[3] != bodies[2]
    assert app.runs == 2


async def test_a_stale_answer_is_validated_with_the_same_question() -> None:
    """The application gets the content again, with our validator."""
    clock = ManualClock()
    app = CounterApp(headers=FRESH | {"etag": '"v1"'})
    middleware = query_cache(app, clock)
    await query(middleware)
    clock.advance(61)
    assert (await query(middleware)).body == b"run 2"
    assert app.request_bodies == [b'{"q":1}'] * 2
    assert (b"if-none-match", b'"v1"') in app.scopes[1]["headers"]


async def test_a_refresh_in_the_background_asks_the_same_question() -> None:
    """With method and content of the one that began it."""
    clock = ManualClock()
    app = CounterApp(headers={"cache-control": "max-age=60, stale-while-revalidate=60"})
    middleware = query_cache(app, clock)
    await query(middleware)
    clock.advance(61)
    assert (await query(middleware)).body == b"run 1"
    for _ in range(100):
        await asyncio.sleep(0.01)
        if app.runs == 2 and (await query(middleware)).body == b"run 2":
            break
    assert app.runs == 2
    assert app.scopes[1]["method"] == "QUERY"
    assert app.request_bodies == [b'{"q":1}'] * 2


async def test_no_range_of_an_answer_is_served() -> None:
    """Range is defined for GET."""
    middleware = query_cache(CounterApp(headers=FRESH))
    await query(middleware)
    hit = await query(middleware, headers=JSON | {"range": "bytes=0-1"})
    assert (hit.status, hit.body) == (200, b"run 1")


async def test_routes_speak_for_their_queries() -> None:
    """The decorator on the QUERY route counts, and the templates say what purges it."""
    api = FastAPI()
    runs: list[bytes] = []

    @api.api_route("/items/search", methods=["QUERY"])
    async def search(request: Request) -> int:
        runs.append(await request.body())
        return len(runs)

    @api.api_route("/items/secret", methods=["QUERY"])
    @uncached
    async def secret() -> int:
        runs.append(b"")
        return len(runs)

    @api.put("/items/{number}")
    async def put(number: int) -> int:
        return number

    middleware = query_cache(api)
    for _ in range(2):
        assert (await query(middleware, path="/items/search")).body == b"1"
    await call(middleware, "PUT", path="/items/5")
    assert (await query(middleware, path="/items/search")).body == b"2"
    assert runs == [b'{"q":1}'] * 2
    for number in (3, 4):
        assert (await query(middleware, path="/items/secret")).body == b"%d" % number


async def test_another_worker_finds_it_in_redis(redis_url: str) -> None:
    """The key is the same everywhere."""
    settings = CacheSettings(
        redis_url=redis_url, cache_store_query=True, cache_read_budget=5.0, cache_write_budget=5.0
    )
    one = CacheMiddleware(
        CounterApp(headers=FRESH), settings, store=RedisStore(redis_url, settings)
    )
    await query(one)
    await one.aclose()
    app = CounterApp(headers=FRESH)
    other = CacheMiddleware(app, settings, store=RedisStore(redis_url, settings))
    assert (await query(other)).body == b"run 1"
    assert app.runs == 0
    await other.aclose()
