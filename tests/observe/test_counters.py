"""What is counted is what happened, on every way that a request can take."""

import gc
import threading
import time
from dataclasses import asdict
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response

from maxage import CacheMiddleware, CacheSettings, Counters, cached, counters, uncached
from maxage.observe.counters import BYPASSES, begin_counting, counters_of
from tests.support.asgi import CounterApp, call
from tests.support.caching import asked_together, background_done, cache_of
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.threads import switching_often
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio


def counted(middleware: CacheMiddleware) -> dict[str, Any]:
    """What is not zero."""
    assert middleware.cache is not None
    found = asdict(counters_of(middleware.cache.tally))
    found["bypasses"] = {name: count for name, count in found["bypasses"].items() if count}
    return {name: count for name, count in found.items() if count}


async def test_hits_misses_and_what_was_stored() -> None:
    """HEAD too; a write is none of them, and purges twice."""
    middleware = cache_of(CounterApp())
    for _ in range(3):
        await call(middleware)
    await call(middleware, "HEAD")
    assert counted(middleware) == {"misses": 1, "stored": 1, "hits": 3}
    await call(middleware, "PUT")
    assert counted(middleware) == {"misses": 1, "stored": 1, "hits": 3, "purges": 2}
    await call(middleware)
    assert counted(middleware) == {"misses": 2, "stored": 2, "hits": 3, "purges": 2}
    await call(middleware, "OPTIONS")
    assert counted(middleware) == {"misses": 2, "stored": 2, "hits": 3, "purges": 2}


async def vary_by(_: object) -> str:
    """Refuse every request."""
    raise RuntimeError("refused")


def passing() -> FastAPI:
    """Two pages that are not cached, each in its own way, and one that is."""
    app = FastAPI()

    @app.get("/uncached")
    @uncached
    def never() -> int:
        return 1

    @app.get("/refused")
    @cached(vary_by=vary_by)
    def refused() -> int:
        return 1

    @app.get("/x")
    def page() -> int:
        return 1

    return app


@pytest.mark.parametrize(
    ("reason", "request_"),
    [
        ("uncached", {"path": "/uncached"}),
        ("override", {"headers": {"x-original-url": "/y"}}),
        ("body", {"headers": {"content-length": "1"}, "body": b"x"}),
        ("host", {"headers": [("host", "a"), ("host", "b")]}),
        ("head", {"method": "HEAD"}),
        ("long-url", {"query": "x" * 9000}),
        ("vary_by", {"path": "/refused"}),
    ],
)
async def test_what_passes_by_is_counted_by_its_reason(
    reason: str, request_: dict[str, Any]
) -> None:
    """And by nothing else."""
    middleware = cache_of(passing())
    await call(middleware, **request_)
    assert counted(middleware) == {"bypasses": {reason: 1}}


async def test_a_store_that_is_away_is_a_reason_too() -> None:
    """Purges are counted, confirmed or not."""
    settings = CacheSettings(redis_url="redis://127.0.0.1:1", cache_namespace="counters-away")
    middleware = CacheMiddleware(passing(), settings)
    await call(middleware)
    await call(middleware, "PUT", path="/x")
    assert counted(middleware) == {"bypasses": {"store-away": 1}}  # 405 purges nothing
    app = CacheMiddleware(CounterApp(), settings)
    await call(app, "PUT")
    assert counted(app) == {"purges": 2, "unconfirmed_purges": 2}
    for one in (middleware, app):
        await one.aclose()


async def test_every_reason_has_its_place() -> None:
    """Nothing that a client sends makes another one."""
    assert tuple(Counters().bypasses) == BYPASSES
    with pytest.raises(AttributeError):
        Counters().another = 1  # type: ignore[attr-defined] # that is the point


async def test_who_waits_for_another_one_is_collapsed() -> None:
    """One asks, the others take its answer."""
    middleware = await asked_together(5)
    assert counted(middleware) == {"misses": 1, "stored": 1, "collapsed": 4}


async def test_what_says_no_store_is_a_miss_every_time() -> None:
    """Though it is not even looked up after the first; each response says why it is not stored."""
    app = FastAPI()

    @app.get("/x")
    def page(response: Response) -> int:
        response.headers["cache-control"] = "no-store"
        return 1

    middleware = cache_of(app)
    for _ in range(3):
        await call(middleware)
    assert counted(middleware) == {"misses": 3, "not_stored": {"no-store": 3}}


async def test_stale_answers_are_counted_beside() -> None:
    """A hit while it is refreshed; a miss whose application failed."""
    clock = ManualClock()
    app, status = FastAPI(), 200

    @app.get("/x")
    def page(response: Response) -> int:
        response.status_code = status
        return 1

    middleware = cache_of(
        app, clock, cache_expiration=100, cache_stale_while_revalidate=10, cache_stale_if_error=1000
    )
    await call(middleware)
    clock.advance(105)
    await call(middleware)
    await background_done(middleware)
    assert counted(middleware) == {"misses": 1, "stored": 2, "hits": 1, "stale": 1, "refreshes": 1}
    clock.advance(500)
    status = 500
    await call(middleware)
    assert counted(middleware) == {"misses": 2, "stored": 2, "hits": 1, "stale": 2, "refreshes": 1}


async def test_only_if_cached_in_vain_is_a_miss() -> None:
    """Nothing stored could answer."""
    middleware = cache_of(CounterApp())
    assert (await call(middleware, headers={"cache-control": "only-if-cached"})).status == 504
    assert counted(middleware) == {"misses": 1}


async def test_a_value_that_cannot_be_read_is_counted_and_replaced(
    own_redis: RedisServer,
) -> None:
    """A miss, counted, replaced."""
    settings = CacheSettings(
        redis_url=own_redis.url, cache_namespace="unreadable",
        cache_read_budget=5, cache_write_budget=5,
    )  # fmt: skip
    middleware = CacheMiddleware(CounterApp(), settings)
    await call(middleware)
    await background_done(middleware)
    (key,) = own_redis.call("KEYS", "unreadable:e:*")
    right = own_redis.call("GET", key)
    seen = 0
    for number, value in enumerate((b"", b"garbage", right[:-1], right.swapcase()), 1):
        own_redis.call("SET", key, value, "PX", 60_000)
        await call(middleware)
        await background_done(middleware)
        assert own_redis.call("STRLEN", key) == len(right)
        # A miss may look twice.
        seen, before = counted(middleware)["unreadable"], seen
        assert before < seen <= before + 2
        assert counted(middleware)["misses"] == number + 1
    await call(middleware)
    assert counted(middleware)["hits"] == 1
    await middleware.aclose()


async def test_the_sum_is_over_all_middlewares_and_never_falls() -> None:
    """A handler asks without knowing its middleware; one that has ended counts on."""
    before = counters()
    made = [cache_of(CounterApp()) for _ in range(2)]
    for middleware in made:
        await call(middleware)
        await call(middleware)
    after = counters()
    assert (after.hits - before.hits, after.misses - before.misses) == (2, 2)
    del made, middleware
    gc.collect()
    assert counters().hits - before.hits == 2
    # It is a copy, and no part of the next sum.
    after.hits += 100
    assert counters().hits - before.hits == 2
    assert CacheMiddleware(CounterApp(), CacheSettings(use_redis_cache=False)).cache is None
    assert cache_of(CounterApp()).cache is not None


class Owner:
    """Stands for a middleware."""


def test_the_sum_never_falls_while_middlewares_end_in_another_thread() -> None:
    """The garbage collector ends them in any thread, at any moment."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            owner = Owner()
            begin_counting(owner).of_route("/churn").hits += 1
            del owner

    thread = threading.Thread(target=churn)
    with switching_often():
        thread.start()
        try:
            ends = time.monotonic() + 5  # a busy machine is slow to change threads
            seen = [counters().hits]
            while len(seen) < 3_000 and (time.monotonic() < ends or seen[-1] == seen[0]):
                seen.append(counters().hits)
        finally:
            stop.set()
            thread.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


APP = """
from dataclasses import asdict
from fastapi import FastAPI
from maxage import CacheMiddleware, counters, uncached

app = FastAPI()
app.add_middleware(CacheMiddleware)

@app.get("/page")
def page():
    return "page"

@app.get("/counters")
@uncached
def numbers():
    return asdict(counters())
"""


@pytest.mark.parametrize(
    ("near", "where"),
    [(None, "embedded"), (None, "redis"), ("exact", "redis"), ("prompt", "redis")],
)
@pytest.mark.parametrize("lane", [False, True], ids=["usual", "fast lane"])
def test_behind_a_server(
    near: str | None, where: str, lane: bool, own_redis: RedisServer, workers: Workers
) -> None:
    """Hits of the fast lane and of the near cache are counted like any other."""
    env = {"CACHE_READ_BUDGET": "5", "CACHE_WRITE_BUDGET": "5"}
    env |= {"REDIS_URL": own_redis.url} if where == "redis" else {}
    env |= {"CACHE_NEAR": near, "CACHE_NEAR_BYTES": "1000000"} if near else {}
    args = ["--http", "maxage.uvicorn:FastLaneProtocol"] if lane else []
    worker = workers.start(APP, env=env, args=args)
    with httpx.Client(base_url=worker.url, timeout=30) as client:
        answers = [client.get("/page").headers["cache-status"] for _ in range(50)]
        numbers = client.get("/counters").json()
    hits = sum("; hit" in answer for answer in answers)
    assert hits >= 45
    assert numbers["hits"] == hits
    assert numbers["bypasses"].keys() == set(BYPASSES)
    # A busy machine may find the store away for a moment.
    assert numbers["misses"] + sum(numbers["bypasses"].values()) == 50 - hits + 1
    assert numbers["bypasses"]["uncached"] == 1
