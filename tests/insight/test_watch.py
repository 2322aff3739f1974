"""What one worker counts, and what all workers together are."""

import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from msgspec.structs import replace

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.explain import aexplain
from maxage.insight.overview import FRESH_SECONDS, overview_of, read_overview
from maxage.insight.publisher import insight_key
from maxage.insight.record import Interval, RouteRecord, TopUrl, WorkerRecord
from maxage.insight.watch import watch_for, watch_in_process
from maxage.observe import latency
from maxage.observe.counters import RouteCounts, counters_of
from maxage.route_map import middleware_of
from tests.support.asgi import call
from tests.support.raw_http import get
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import Worker


@pytest.fixture(autouse=True)
def own_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process are not timed."""
    monkeypatch.setattr(latency, "timer", None)


def application(namespace: str, **settings: Any) -> tuple[FastAPI, CacheSettings]:
    app = FastAPI(openapi_url=None)

    @app.get("/slow/{n}")
    async def slow(n: int) -> int:
        await asyncio.sleep(0.1)
        return n

    @app.get("/watched")
    async def items() -> list[int]:
        return []

    @app.put("/watched")
    async def put() -> None: ...

    chosen = CacheSettings(cache_namespace=namespace, **settings)
    app.add_middleware(CacheMiddleware, settings=chosen, store=MemoryStore())
    return app, chosen


async def test_a_worker_counts_its_requests_by_url_and_times_its_application() -> None:
    """Hits of the fast path too; the route's own counts stay what they are."""
    app, settings = application("watch-1", cache_insight=True)
    middleware_of(app)
    watch = watch_in_process(settings)
    assert watch is not None
    earlier = replace(watch.record(time.time()).intervals[0])
    for _ in range(3):
        await call(app, path="/watched", query=b"page=1")
    await call(app, path="/slow/1")
    await call(app, "HEAD", "/watched", query=b"page=1")
    await call(app, "PUT", "/watched")
    told = read_overview(settings)
    asked = {top.url: top for top in told.asked}
    assert asked["GET /watched?page=1"].hits == 2
    assert asked["GET /watched?page=1"].weight == 4
    assert asked["GET /watched?page=1"].calls == 2
    assert told.costly[0].url == "GET /slow/1"
    assert told.costly[0].seconds >= 0.1
    route = told.routes["/watched"]
    assert route.hits == 2
    assert route.outcomes["method"] == 1
    assert told.routes["/slow/{n}"].calls == 1
    assert route.seconds_saved == pytest.approx(2 * route.seconds / route.calls)
    assert sum(one.hits for one in told.intervals) == earlier.hits + 2
    assert sum(one.writes for one in told.intervals) == earlier.writes + 1
    json.dumps(told.as_dict())


def test_each_count_of_a_route_that_a_record_has_is_filled_in() -> None:
    """`_route` of `insight/watch.py` names them."""
    app, settings = application("watch-counts", cache_insight=True)
    middleware, _ = middleware_of(app)
    assert middleware.cache is not None
    counts = middleware.cache.tally.of_route("/watched")
    shared = set(RouteRecord.__struct_fields__) & set(RouteCounts.__struct_fields__)
    for name in shared:
        setattr(counts, name, Counter(word=3) if getattr(counts, name) == {} else 3)
    watch = watch_in_process(settings)
    assert watch is not None
    record = watch.record(time.time()).routes["/watched"]
    assert {name for name in shared if not getattr(record, name)} == set()


async def test_the_latency_that_the_cache_adds_is_measured_for_some_requests() -> None:
    """Without the application's own time."""
    app, settings = application("watch-6", cache_insight=True)
    for n in range(2 * latency.EVERY):
        await call(app, path=f"/slow/{n % 3}")
    told = read_overview(settings)
    assert told.timed >= 1
    assert 0 < told.added / told.timed < 0.1
    assert sum(one.timed for one in told.intervals) == told.timed


async def test_a_second_record_tells_only_what_is_new_in_its_interval() -> None:
    """The sum over all intervals is the total."""
    app, settings = application("watch-2", cache_insight=True)
    await call(app, path="/watched")
    watch = watch_in_process(settings)
    assert watch is not None
    before = sum(one.hits for one in watch.record(1000.0).intervals)
    await call(app, path="/watched")
    intervals = watch.record(1007.0).intervals
    assert [one.begins for one in intervals] == [1000, 1005]
    assert intervals[1].hits == 1
    assert sum(one.hits for one in intervals) == before + 1
    await call(app, path="/watched")
    assert [one.hits for one in watch.record(1009.0).intervals][1:] == [2]


async def test_where_it_is_off_nothing_is_there() -> None:
    """Neither a watch nor a wrapper around the application or its counts."""
    app, settings = application("watch-3")
    await call(app, path="/watched")
    assert watch_in_process(settings) is None
    assert read_overview(settings).workers == ()


async def test_an_explanation_counts_as_no_request() -> None:
    """And starts no thread."""
    app, settings = application("watch-4", cache_insight=True)
    await aexplain(app, "/watched")
    (worker,) = read_overview(settings).workers
    assert worker.pid == 0
    assert worker.asked == []


async def test_counters_are_the_same_with_insight() -> None:
    """Hits are counted once."""
    app, _ = application("watch-5", cache_insight=True)
    for _ in range(4):
        await call(app, path="/watched")
    middleware, _ = middleware_of(app)
    counted = counters_of(middleware.targets.tally)
    assert (counted.hits, counted.misses, counted.stored) == (3, 1, 1)


def worker(name: str, at: float, **more: Any) -> WorkerRecord:
    return WorkerRecord(worker=name, machine="m", pid=1, started=0.0, at=at, **more)


def test_workers_add_up() -> None:
    """Counts by route, URLs, intervals; a gap in the intervals is 0; old records do not count."""
    one = worker(
        "a",
        100.0,
        routes={"/a": RouteRecord(outcomes={"hit": 3, "uri-miss": 1}, calls=1, seconds=2.0)},
        asked=[TopUrl(url="GET /a", weight=4, hits=3, calls=1)],
        intervals=[Interval(begins=90, hits=1), Interval(begins=95, hits=2)],
        purges={"write": 2},
        owed_purges=1,
    )
    two = worker(
        "b",
        101.0,
        routes={"/a": RouteRecord(outcomes={"hit": 1}), "/b": RouteRecord(outcomes={"hit": 9})},
        asked=[TopUrl(url="GET /a", weight=2, error=1), TopUrl(url="GET /b", weight=9)],
        intervals=[Interval(begins=105, hits=5)],
        purges={"write": 1, "hand": 1},
    )
    gone = worker("c", 101.0 - FRESH_SECONDS - 1, routes={"/a": RouteRecord(outcomes={"hit": 99})})
    told = overview_of([one, two, gone], 101.0)
    assert [one.worker for one in told.workers] == ["a", "b"]
    assert list(told.routes) == ["/b", "/a"]
    assert told.routes["/a"].outcomes == {"hit": 4, "uri-miss": 1}
    assert told.totals.requests == 14
    assert told.routes["/a"].seconds_saved == 8.0
    assert [(top.url, top.weight, top.error) for top in told.asked] == [
        ("GET /b", 9, 0),
        ("GET /a", 6, 1),
    ]
    assert [(one.begins, one.hits) for one in told.intervals] == [
        (90, 1), (95, 2), (100, 0), (105, 5),
    ]  # fmt: skip
    assert told.purges == {"write": 3, "hand": 1}
    assert told.owed_purges == 1


def test_two_real_workers_publish_and_are_added_up(tmp_path: Path) -> None:
    """One hash in Redis, which ends after the workers; no secret is in it."""
    env = {"CACHE_INSIGHT": "true", "CACHE_NAMESPACE": "pub", "DATABASE_URL": "sqlite://"}
    source = "from maxage import CacheMiddleware\nfrom fastapi import FastAPI\n"
    source += "app = FastAPI()\n@app.get('/items')\nasync def items(): return 1\n"
    source += "app.add_middleware(CacheMiddleware)\n"
    with (
        RedisServer.start() as redis,
        Worker.start(
            source, tmp_path=tmp_path, env={**env, "REDIS_URL": redis.url}, workers=2
        ) as served,
    ):
        settings = CacheSettings(redis_url=redis.url, cache_namespace="pub")
        for number in range(40):
            assert get(served.port, f"/items?page={number % 2}&token=hush").status == 200

        def complete() -> bool:
            told = read_overview(settings)
            return len(told.workers) == 2 and told.totals.requests == 40

        wait_until(complete, "both workers publish all requests")
        told = read_overview(settings)
        assert {top.url for top in told.asked} == {
            "GET /items?page=0&token=***",
            "GET /items?page=1&token=***",
        }
        assert sum(one.hits + one.misses for one in told.intervals) == 40
        stored = b"".join(redis.call("HVALS", insight_key("pub")))
        assert b"hush" not in stored
        assert 0 < redis.call("TTL", insight_key("pub")) <= 60
        assert redis.call("EXISTS", insight_key("maxage")) == 0


def test_forked_workers_have_names_of_their_own() -> None:
    """As those of `gunicorn --preload`: one record for each of them."""
    _, settings = application("watch-forked", cache_insight=True)
    watch = watch_for(settings)
    names: list[bytes] = []
    for _ in range(2):
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(writing, watch.record(0.0).worker.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        names.append(os.read(reading, 200))
        os.close(reading)
        os.close(writing)
    assert len({*names, watch.record(0.0).worker.encode()}) == 3
    assert all(names)
