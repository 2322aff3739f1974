"""URLs whose responses say that they must not be stored are not looked up again and again."""

import asyncio
import uuid
from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore
from maxage.cache.target import UNCACHEABLE_SECONDS
from maxage.store.base import StoreReply
from tests.support.asgi import CounterApp, Exchange, call, http_scope, routed
from tests.support.caching import background_done, cache_of, status_of
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.waiting import NEVER, PATIENCE, eventually

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Counts what it is asked."""

    reads = 0

    async def read(self, keys: Any, groups: Any) -> StoreReply:
        self.reads += 1
        return await super().read(keys, groups)


def around(app: CounterApp, clock: ManualClock) -> tuple[CacheMiddleware, CountingStore]:
    store = CountingStore()
    return cache_of(app, clock, store=store), store


@pytest.mark.parametrize("control", ["no-store", "private", "private, max-age=60"])
async def test_a_response_that_forbids_storing_is_looked_up_once(control: str) -> None:
    """Afterwards the application is asked at once, and the word stays the same."""
    clock = ManualClock()
    middleware, store = around(CounterApp(headers={"cache-control": control}), clock)
    answers = [await call(middleware) for _ in range(5)]
    said = b"maxage; fwd=uri-miss; detail=" + control.encode().split(b",")[0]
    assert {status_of(answer) for answer in answers} == {said}
    assert len({answer.body for answer in answers}) == 5
    assert store.reads == 1


@pytest.mark.parametrize(("later", "reads"), [(-0.01, 1), (0.01, 2)])
async def test_it_is_looked_up_again_after_a_while(later: float, reads: int) -> None:
    """Another worker may have stored something meanwhile."""
    clock = ManualClock()
    middleware, store = around(CounterApp(headers={"cache-control": "no-store"}), clock)
    await call(middleware)
    clock.advance(UNCACHEABLE_SECONDS + later)
    await call(middleware)
    assert store.reads == reads


async def test_it_is_stored_as_soon_as_the_response_says_something_else() -> None:
    """The first other answer ends it, the second is stored."""
    app, clock = CounterApp(headers={"cache-control": "no-store"}), ManualClock()
    middleware, _ = around(app, clock)
    await call(middleware)
    app.headers = {"cache-control": "max-age=60"}
    await call(middleware)
    assert status_of(await call(middleware)) == b"maxage; fwd=uri-miss; stored"
    await background_done(middleware)
    assert b"; hit" in status_of(await call(middleware))


async def test_only_if_cached_is_still_answered_with_504() -> None:
    """RFC 9111 section 5.2.1.7: 504, and the application is not asked."""
    app, clock = CounterApp(headers={"cache-control": "no-store"}), ManualClock()
    middleware, _ = around(app, clock)
    await call(middleware)
    answer = await call(middleware, headers={"cache-control": "only-if-cached"})
    assert answer.status == 504
    assert app.runs == 1


async def test_a_url_of_which_something_is_stored_is_looked_up_all_the_same() -> None:
    """A stored variant outlives a no-store that answers a request for another one."""
    varying = {"cache-control": "max-age=60", "vary": "accept"}
    app, clock = CounterApp(headers=varying), ManualClock()
    middleware, _ = around(app, clock)
    await call(middleware)
    await background_done(middleware)
    app.headers = {"cache-control": "no-store"}
    await call(middleware, headers={"accept": "text/html"})
    assert b"; hit" in status_of(await call(middleware))


async def test_what_the_body_made_unstorable_is_looked_up() -> None:
    """Only what the response says itself is known beforehand."""
    clock = ManualClock()
    middleware, store = around(CounterApp(headers={"set-cookie": "a=1"}), clock)
    await call(middleware)
    await call(middleware)
    assert store.reads == 2


@pytest.mark.parametrize(("depth", "cached"), [(32, True), (33, False)])
async def test_a_very_deep_path_is_not_cached(depth: int, cached: bool) -> None:
    """Each segment may need a token."""
    runs: list[int] = []

    @routed
    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = cache_of(app)
    for _ in range(2):
        await call(middleware, path="/a" * depth)
    assert len(runs) == (1 if cached else 2)


@pytest.mark.parametrize(
    ("headers", "expiration"),
    [({}, 0), ({"etag": '"x"'}, 0), ({"cache-control": "no-cache", "etag": '"x"'}, 300)],
)
async def test_requests_do_not_wait_for_a_response_that_will_answer_none_of_them(
    headers: dict[str, str], expiration: int
) -> None:
    """Such as where no default lifetime is set: waiting would only make them slower."""
    app = CounterApp(headers=headers)
    middleware = cache_of(app, cache_expiration=expiration, cache_collapse_wait=NEVER)
    await call(middleware)
    await background_done(middleware)
    app.gate, before = asyncio.Event(), app.runs
    exchanges = [Exchange(middleware, http_scope()).start() for _ in range(3)]
    await eventually(lambda: app.runs == before + 3)
    app.gate.set()
    for exchange in exchanges:
        await exchange.finish()


async def test_without_a_default_lifetime_requests_wait_once_a_response_gave_its_own() -> None:
    app = CounterApp(headers={"cache-control": "max-age=1"})
    clock = ManualClock()
    middleware = cache_of(app, clock, cache_expiration=0)
    await call(middleware)
    clock.advance(100)
    app.gate = asyncio.Event()
    exchanges = [Exchange(middleware, http_scope()).start() for _ in range(3)]
    await eventually(lambda: app.runs == 2)
    app.gate.set()
    assert {(await exchange.finish()).body for exchange in exchanges} == {b"run 2"}


async def test_a_near_copy_ends_with_an_answer_that_must_not_be_stored(
    redis_url: str, redis_server: RedisServer
) -> None:
    """It may outlive its entry in the store, and would go on answering."""
    namespace = f"t{uuid.uuid4().hex[:12]}"
    settings = CacheSettings(
        redis_url=redis_url,
        cache_namespace=namespace,
        cache_read_budget=5.0,
        cache_near_bytes=10**7,
    )
    app = CounterApp(headers={"cache-control": "max-age=300"})
    middleware = CacheMiddleware(app, settings, store=RedisStore(redis_url, settings))
    await call(middleware)
    await background_done(middleware)
    assert middleware.cache is not None
    near = middleware.cache.store.near
    assert near is not None
    async with asyncio.timeout(PATIENCE):
        while not len(near):
            await call(middleware)
            await asyncio.sleep(0.01)
    for key in redis_server.call("KEYS", f"{namespace}:e:*"):
        redis_server.call("DEL", key)
    app.headers = {"cache-control": "no-store"}
    reloaded = await call(middleware, headers={"cache-control": "no-cache"})
    assert b"no-store" in status_of(reloaded)
    assert (await call(middleware)).body == b"run %d" % app.runs != reloaded.body
    await middleware.aclose()
