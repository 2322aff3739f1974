"""No-Vary-Search on its way through: URLs that a response calls equivalent share it, no others."""

import asyncio
import uuid
from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, RedisStore
from tests.support.asgi import Receive, Scope, Send, call, read_body
from tests.support.caching import background_done, cache_of
from tests.support.clock import ManualClock
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


class Search:
    """Answers with its query and the number of the run; `fields` says what is sent for a query."""

    def __init__(self, field: bytes | None = b'params=("utm")') -> None:
        self.field = field
        self.fields: dict[bytes, bytes | None] = {}
        self.status = 200
        self.runs = 0
        self.extra: list[tuple[bytes, bytes]] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await read_body(receive)
        self.runs += 1
        run, query = self.runs, scope["query_string"]
        if self.gate is not None:
            await self.gate.wait()
        headers = [(b"cache-control", b"max-age=60"), *self.extra]
        field = self.fields.get(query, self.field)
        if field is not None:
            headers.append((b"no-vary-search", field))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"%b %d" % (query, run)})


async def ask(middleware: CacheMiddleware, query: str, **more: Any) -> bytes:
    """The body of the answer."""
    return (await call(middleware, query=query, **more)).body


async def test_urls_that_the_response_calls_equivalent_share_it() -> None:
    """The first of them runs the handler."""
    middleware = cache_of(Search())
    assert await ask(middleware, "q=1&utm=a") == b"q=1&utm=a 1"
    assert await ask(middleware, "utm=b&q=1") == b"q=1&utm=a 1"
    assert await ask(middleware, "q=1") == b"q=1&utm=a 1"
    assert await ask(middleware, "q=2&utm=a") == b"q=2&utm=a 2"


async def test_the_field_goes_on_to_the_client() -> None:
    """Its own cache may understand it too."""
    middleware = cache_of(Search())
    await call(middleware, query="q=1")
    hit = await call(middleware, query="q=1&utm=x")
    assert hit.header("no-vary-search") == b'params=("utm")'
    assert b"hit" in (hit.header("cache-status") or b"")


@pytest.mark.parametrize(
    "field", [None, b"", b'params=("utm"', b"params=(utm)", b'params=("utm"), except=("q")']
)
async def test_without_a_field_that_is_understood_every_query_is_its_own(
    field: bytes | None,
) -> None:
    """Malformed is the same as absent."""
    middleware = cache_of(Search(field))
    assert await ask(middleware, "q=1&utm=a") == b"q=1&utm=a 1"
    assert await ask(middleware, "q=1&utm=b") == b"q=1&utm=b 2"
    assert await ask(middleware, "q=1") == b"q=1 3"
    assert await ask(middleware, "q=1&utm=a") == b"q=1&utm=a 1"


async def test_a_response_answers_only_what_it_said_itself() -> None:
    """Another query's response that says nothing, or something else, is not stretched."""
    app = Search()
    app.fields = {b"q=2&utm=a": None}
    app.fields |= dict.fromkeys((b"q=3&utm=a", b"q=3&utm=b", b"q=3"), b"key-order")
    middleware = cache_of(app)
    await ask(middleware, "q=1&utm=a")
    assert await ask(middleware, "q=2&utm=a") == b"q=2&utm=a 2"
    assert await ask(middleware, "q=2&utm=b") == b"q=2&utm=b 3"
    assert await ask(middleware, "q=3&utm=a") == b"q=3&utm=a 4"
    assert await ask(middleware, "q=3&utm=b") == b"q=3&utm=b 5"
    assert await ask(middleware, "q=3") == b"q=3 6"


async def test_two_fields_by_turns_never_mix() -> None:
    """Whatever a response said, no query is answered from one that is not equivalent by it."""
    app = Search()
    app.fields = {b"a=1&b=1": b'params=("a")', b"a=2&b=2": b'params=("b")'}
    middleware = cache_of(app)
    for _ in range(3):
        for query in ("a=1&b=1", "a=2&b=2"):
            assert (await ask(middleware, query)).startswith(query.encode() + b" ")


async def test_paths_hosts_and_selecting_fields_stay_apart() -> None:
    """Only the query is less than it was."""
    app = Search(b"params")
    app.extra = [(b"vary", b"x-kind")]
    middleware = cache_of(app)
    await ask(middleware, "1", headers={"x-kind": "a"})
    assert await ask(middleware, "2", headers={"x-kind": "a"}) == b"1 1"
    assert await ask(middleware, "2", headers={"x-kind": "b"}) == b"2 2"
    assert await ask(middleware, "3", headers={"x-kind": "b"}) == b"2 2"
    assert await ask(middleware, "2", path="/y", headers={"x-kind": "a"}) == b"2 3"
    assert await ask(middleware, "2", headers={"x-kind": "a", "host": "other"}) == b"2 4"


async def test_a_purge_reaches_all_of_them() -> None:
    """They are views of one path."""
    middleware = cache_of(Search())
    await ask(middleware, "q=1&utm=a")
    await call(middleware, "PUT", query="utm=z")
    assert await ask(middleware, "q=1&utm=b") == b"q=1&utm=b 3"


async def test_an_error_does_not_end_what_the_path_said() -> None:
    """Only a 200 speaks for the queries of its path."""
    app = Search()
    middleware = cache_of(app)
    await ask(middleware, "q=1&utm=a")
    app.status, app.field = 404, None
    await ask(middleware, "q=2")
    assert await ask(middleware, "q=1&utm=b") == b"q=1&utm=a 1"


async def test_a_stale_response_is_validated_for_all_of_them() -> None:
    """Under whichever URL it is asked for."""
    clock = ManualClock()
    app = Search()
    middleware = cache_of(app, clock)
    await ask(middleware, "q=1&utm=a")
    clock.advance(61)
    assert await ask(middleware, "q=1&utm=b") == b"q=1&utm=b 2"
    assert await ask(middleware, "q=1&utm=c") == b"q=1&utm=b 2"


async def test_requests_wait_for_a_response_only_where_it_is_theirs() -> None:
    """What the path said before is not what this response says."""
    app = Search()
    app.fields = {b"q=2&utm=a": None, b"q=2&utm=b": None}
    middleware = cache_of(app)
    await ask(middleware, "q=1")
    app.gate = asyncio.Event()
    waiting = [asyncio.create_task(ask(middleware, f"q=2&utm={x}")) for x in "aab"]
    for _ in range(100):
        await asyncio.sleep(0)
    assert app.runs == 2
    app.gate.set()
    bodies = await asyncio.gather(*waiting)
    assert [body.split(b" ")[0] for body in bodies] == [b"q=2&utm=a", b"q=2&utm=a", b"q=2&utm=b"]


async def test_requests_at_once_share_the_first_response_that_says_so() -> None:
    """All wait for one, though its URL is stored under another key than they asked for."""
    app = Search()
    app.gate = asyncio.Event()
    middleware = cache_of(app)
    waiting = [asyncio.create_task(ask(middleware, "q=1&utm=a")) for _ in range(5)]
    await asyncio.sleep(0.01)
    app.gate.set()
    assert set(await asyncio.gather(*waiting)) == {b"q=1&utm=a 1"}
    assert app.runs == 1


NO, ONE, OTHER = None, b'params=("utm")', b'params=("q")'


@pytest.mark.parametrize(
    ("first", "then"), [(NO, ONE), (ONE, NO), (ONE, OTHER), (OTHER, ONE), (OTHER, NO)]
)
async def test_a_path_that_comes_to_say_something_else_is_stored_and_found_by_that(
    first: bytes | None, then: bytes | None
) -> None:
    """Also for URLs that are known well: each is run once more, and mixed with no other."""
    app = Search(first)
    middleware = cache_of(app)
    queries = ("q=1&utm=a", "q=2&utm=b")
    for query in queries * 3:
        await ask(middleware, query)
    app.field = then
    await call(middleware, "PUT", query="")
    runs = app.runs
    for query in queries * 3:
        assert (await ask(middleware, query)).startswith(query.encode() + b" ")
    assert app.runs == runs + 2


async def test_what_says_nothing_is_its_own_though_it_was_asked_for_under_what_the_path_said() -> (
    None
):
    """Two are under way when the first of them takes back what the path said."""
    app = Search()
    middleware = cache_of(app)
    await ask(middleware, "q=0")
    app.fields = {b"q=1&utm=a": None, b"q=2&utm=a": None}
    app.gate = asyncio.Event()
    waiting = [asyncio.create_task(ask(middleware, f"q={x}&utm=a")) for x in "12"]
    for _ in range(100):
        await asyncio.sleep(0)
    assert app.runs == 3
    app.gate.set()
    await asyncio.gather(*waiting)
    await ask(middleware, "q=0&utm=a")
    assert (await ask(middleware, "q=2&utm=b")).startswith(b"q=2&utm=b ")
    assert (await ask(middleware, "q=1&utm=b")).startswith(b"q=1&utm=b ")


async def test_it_works_through_redis_once_a_worker_knows_the_path(redis_url: str) -> None:
    """Each worker learns it from its first response; what lies in Redis is then shared."""
    settings = CacheSettings(redis_url=redis_url, cache_read_budget=5.0, cache_write_budget=5.0)
    one = CacheMiddleware(Search(), settings, store=RedisStore(redis_url, settings))
    assert await ask(one, "q=1&utm=a") == b"q=1&utm=a 1"
    await one.aclose()
    other = CacheMiddleware(Search(), settings, store=RedisStore(redis_url, settings))
    assert await ask(other, "q=9") == b"q=9 1"
    assert await ask(other, "q=1&utm=b") == b"q=1&utm=a 1"
    await other.aclose()


@pytest.mark.parametrize("fields", [(None, b'params=("utm")'), (b'params=("utm")', None)])
async def test_a_near_copy_ends_when_its_url_is_stored_under_what_the_path_now_says(
    redis_url: str, fields: tuple[bytes | None, bytes | None]
) -> None:
    """A client that reloads sees no older answer afterwards."""
    app = Search(fields[0])
    settings = CacheSettings(
        redis_url=redis_url,
        cache_namespace=f"t{uuid.uuid4().hex[:12]}",
        cache_read_budget=5.0,
        cache_near_bytes=10**7,
    )
    middleware = CacheMiddleware(app, settings, store=RedisStore(redis_url, settings))
    await ask(middleware, "q=1")
    await background_done(middleware)
    assert middleware.cache is not None
    near = middleware.cache.store.near
    assert near is not None
    async with asyncio.timeout(PATIENCE):
        while not len(near):
            await ask(middleware, "q=1")
            await asyncio.sleep(0.01)
    await ask(middleware, "q=1")
    app.field = fields[1]
    reloaded = await ask(middleware, "q=1", headers={"cache-control": "no-cache"})
    await background_done(middleware)
    assert await ask(middleware, "q=1") == reloaded
    await middleware.aclose()
