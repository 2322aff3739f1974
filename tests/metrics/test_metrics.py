"""Each metric comes from what happened, and has bounded labels."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import Depends, FastAPI, HTTPException, Response
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from maxage import (
    CacheMiddleware,
    CacheSettings,
    MemoryStore,
    apurge,
    purge,
    uncached,
)
from maxage.fastapi import metrics_router
from maxage.metrics import metrics_app, register
from maxage.metrics.collector import latency_histogram
from maxage.observe import latency
from maxage.observe.figures import FIGURES, LATENCY
from maxage.redis import RedisCache
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.shared_state import redis_state_for
from tests.redis_store.near.test_s3_fifo import put
from tests.support.asgi import ASGIApp, CounterApp, Receive, Scope, Send, call
from tests.support.caching import asked_together, background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
PASSWORD = "word-of-the-outage"
AWAY = f"redis://user:{PASSWORD}@127.0.0.1:1"


class Metrics:
    """The metrics of this process, and what has been added to them since this was made."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        register(self.registry)
        self.before = self.read()

    def read(self) -> dict[str, float]:
        return {
            one.name + str(dict(sorted(one.labels.items()))): one.value
            for family in self.registry.collect()
            for one in family.samples
        }

    def added(self, name: str, **labels: str) -> float:
        key = name + str(dict(sorted(labels.items())))
        return self.read().get(key, 0) - self.before.get(key, 0)

    def now(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


# the catalogue


def test_names_are_those_that_prometheus_recommends() -> None:
    """A prefix, base units, and no suffix that prometheus-client adds itself."""
    assert all(re.fullmatch("maxage(_[a-z]+)+", one.name) for one in FIGURES)
    assert not any(one.name.endswith(("_total", "_ms", "_count")) for one in FIGURES)


# requests


def site() -> FastAPI:
    """Items, which are cached, and pages that are not, each in its own way."""
    app = FastAPI(openapi_url=None)

    @app.get("/items/{number}")
    def item(number: int) -> int:
        return number

    @app.put("/items/{number}")
    def change(number: int) -> int:
        return number

    @app.get("/never")
    @uncached
    def never() -> int:
        return 1

    @app.get("/private")
    def private(response: Response) -> int:
        response.headers["cache-control"] = "private"
        return 1

    @app.get("/stale")
    def stale(response: Response) -> int:
        response.headers["cache-control"] = "max-age=1, stale-while-revalidate=60"
        return 1

    return app


async def test_requests_are_counted_by_route_and_outcome(metrics: Metrics) -> None:
    """By the template: a million paths of it are one line."""
    middleware = cache_of(site())
    for number in (1, 2, 3):
        for _ in range(2):
            await call(middleware, path=f"/items/{number}")
    await call(middleware, "PUT", path="/items/1")
    await call(middleware, path="/never")
    await call(middleware, path="/nowhere")
    await call(middleware, headers={"cache-control": "only-if-cached"}, path="/items/9")
    item = "/items/{number}"
    for outcome, count in (("hit", 3), ("uri-miss", 3), ("method", 1), ("only-if-cached", 1)):
        assert metrics.added("maxage_requests_total", route=item, outcome=outcome) == count
    assert metrics.added("maxage_requests_total", route="/never", outcome="bypass") == 1
    assert metrics.added("maxage_bypasses_total", route="/never", reason="uncached") == 1
    assert metrics.added("maxage_requests_total", route="unknown", outcome="uri-miss") == 1
    assert metrics.added("maxage_stored_responses_total", route=item) == 3
    assert metrics.added("maxage_stored_bytes_total", route=item) == 3
    assert metrics.added("maxage_purges_total", cause="write") == 2
    assert not any("/items/1" in name for name in metrics.read())


async def test_each_outcome_that_forwards_is_counted_by_its_word(metrics: Metrics) -> None:
    """As in `Cache-Status`."""
    app = CounterApp(headers={"vary": "accept", "etag": '"v"'})
    clock = ManualClock()
    middleware = cache_of(app, clock)
    for headers in ({}, {"accept": "a"}, {"cache-control": "no-cache"}, {"cookie": "a=b"}):
        await call(middleware, headers=headers)
    clock.advance(301)
    await call(middleware)
    for outcome in ("uri-miss", "vary-miss", "request", "bypass", "stale"):
        assert metrics.added("maxage_requests_total", route="unknown", outcome=outcome) == 1


async def test_a_part_that_is_completed_is_counted(metrics: Metrics) -> None:
    """RFC 9111 section 3.3."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"]).get(b"range")
        whole, control = b"0123456789", (b"cache-control", b"max-age=60")
        first, last = (0, 4) if asked == b"bytes=0-4" else (5, 9)
        body = whole[first : last + 1] if asked else whole
        place = (b"content-range", b"bytes %d-%d/10" % (first, last))
        length = (b"content-length", b"%d" % len(body))
        extra = [place] if asked else []
        await send(start(control, (b"etag", b'"v"'), length, *extra, status=206 if asked else 200))
        await send(piece(body))

    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers={"range": "bytes=0-4"})
    answer = await call(middleware)
    assert (answer.body, b"fwd=partial" in status_of(answer)) == (b"0123456789", True)
    assert metrics.added("maxage_requests_total", route="unknown", outcome="partial") == 1


async def test_collapsed_requests_are_counted(metrics: Metrics) -> None:
    """One asks, the others take its answer."""
    await asked_together(5)
    assert metrics.added("maxage_requests_total", route="unknown", outcome="collapsed") == 4


async def test_what_is_not_stored_and_what_is_stale_is_counted_by_route(metrics: Metrics) -> None:
    """Refreshes too."""
    clock = ManualClock()
    middleware = cache_of(site(), clock)
    await call(middleware, path="/private")
    await call(middleware, path="/stale")
    clock.advance(5)
    await call(middleware, path="/stale")
    await background_done(middleware)
    name = "maxage_not_stored_responses_total"
    assert metrics.added(name, route="/private", reason="private") == 1
    assert metrics.added("maxage_stale_responses_total", route="/stale") == 1
    assert metrics.added("maxage_refreshes_total", route="/stale") == 1


async def test_routes_are_bounded(metrics: Metrics) -> None:
    """An application that adds routes for ever counts the later ones as unknown."""
    app = FastAPI(openapi_url=None)
    for number in range(1100):
        app.get(f"/r{number}")(lambda: 1)
    middleware = cache_of(app)
    for number in range(1100):
        await call(middleware, path=f"/r{number}")
    assert middleware.cache is not None
    assert len(middleware.cache.tally.routes) <= 1001
    assert metrics.added("maxage_requests_total", route="unknown", outcome="uri-miss") >= 99


# what belongs to no middleware


async def test_purges_are_counted_by_cause(metrics: Metrics) -> None:
    """By hand, softly, by the typed cache, and after a loss."""
    middleware = cache_of(CounterApp())
    purge("/x")
    await apurge("tag")
    purge("/x", soft=True)
    items = RedisCache(int, prefix="counted")
    items.set("1", 1)
    items.delete("1")
    redis_state_for(AWAY, "counted-recovery").rotate()
    for cause, count in (("hand", 2), ("soft", 1), ("typed", 2), ("recovery", 1)):
        assert metrics.added("maxage_purges_total", cause=cause) == count
    await middleware.aclose()


async def test_reads_of_the_typed_cache_are_counted(metrics: Metrics) -> None:
    """Hits, misses and loads."""
    items = RedisCache(int, prefix="read")
    assert items.get("1") is None
    assert items.get_or_set("1", lambda: 7) == 7
    assert await items.aget_or_set("1", lambda: 8) == 7
    assert items.get_many(["1", "2"]) == {"1": 7}
    for outcome, count in (("hit", 2), ("miss", 3), ("load", 1)):
        assert metrics.added("maxage_typed_reads_total", outcome=outcome) == count


async def test_the_embedded_store_tells_its_size_and_evictions(metrics: Metrics) -> None:
    """Bytes, values, and what had to go."""
    store = MemoryStore(20_000)
    middleware = cache_of(CounterApp(body=b"x" * 5000), store=store)
    for number in range(10):
        await call(middleware, path=f"/{number}")
    assert metrics.added("maxage_evictions_total", kept="embedded") >= 6
    assert (metrics.now("maxage_kept_values", kept="embedded") or 0) >= len(store)
    assert (metrics.now("maxage_kept_bytes", kept="embedded") or 0) >= store.used_bytes > 5000


async def test_an_outage_shows_in_the_metrics(metrics: Metrics) -> None:
    """Owed purges, the breaker, and that nothing is trusted; without a password."""
    settings = CacheSettings(redis_url=AWAY, cache_namespace="metrics-away")
    middleware = CacheMiddleware(CounterApp(), settings)
    for _ in range(3):
        await call(middleware, "PUT")
        await call(middleware)
    assert metrics.added("maxage_unconfirmed_purges_total") >= 3
    assert (metrics.now("maxage_owed_purges") or 0) >= 1
    assert metrics.now("maxage_breaker_open", server="127.0.0.1:1") == 1
    assert metrics.now("maxage_store_trusted") == 0
    unknown = {"route": "unknown", "reason": "store-away"}
    assert metrics.added("maxage_bypasses_total", **unknown) == 3
    # Other tests of the process are in these metrics too. A failing comparison of texts of this
    # length would take minutes to explain.
    is_shown = PASSWORD in str(metrics.read())
    assert not is_shown
    await middleware.aclose()


async def test_a_budget_that_is_overrun_is_counted(
    metrics: Metrics, fault_proxy: FaultProxy
) -> None:
    """The server hangs, and the application answers."""
    settings = CacheSettings(
        redis_url=fault_proxy.url, cache_namespace="overrun", cache_connect_budget=10
    )
    middleware = CacheMiddleware(CounterApp(), settings)
    await call(middleware)
    fault_proxy.hang()
    assert (await call(middleware, path="/y")).status == 200
    assert metrics.added("maxage_budget_overruns_total") >= 1
    fault_proxy.pass_through()
    await middleware.aclose()


async def test_near_copies_and_unreadable_values_are_counted(
    metrics: Metrics, own_redis: RedisServer
) -> None:
    """On a real server."""
    settings = CacheSettings(
        redis_url=own_redis.url, cache_namespace="near-metrics", cache_read_budget=5,
        cache_write_budget=5, cache_near_bytes=1_000_000,
    )  # fmt: skip
    middleware = CacheMiddleware(CounterApp(), settings)
    for _ in range(200):
        await call(middleware)
        await background_done(middleware)
        if metrics.now("maxage_kept_values", kept="near"):
            break
        await asyncio.sleep(0.02)
    assert metrics.now("maxage_kept_values", kept="near") == 1
    assert (metrics.now("maxage_kept_bytes", kept="near") or 0) > 100
    assert metrics.now("maxage_store_trusted") is not None
    (key,) = own_redis.call("KEYS", "near-metrics:e:*")
    own_redis.call("SET", key, b"garbage", "PX", 60_000)
    assert middleware.cache is not None
    middleware.cache.forget_copies(key)
    await call(middleware)
    assert metrics.added("maxage_unreadable_values_total") >= 1
    await middleware.aclose()


def test_evictions_of_near_copies_are_counted(metrics: Metrics) -> None:
    """Those that make room, not those that were purged."""
    copies = Copies(50_000, str.encode)
    for number in range(100):
        put(copies, b"%d" % number)
    assert metrics.added("maxage_evictions_total", kept="near") >= 5
    before = metrics.added("maxage_evictions_total", kept="near")
    copies.clear()
    assert metrics.added("maxage_evictions_total", kept="near") == before


# latency


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The latency of every request, by a clock that the tests move."""
    heard: list[tuple[str, float]] = []
    timer = latency.Timer(every=1, clock=TIME.monotonic)
    timer.listeners.append(lambda kind, took: heard.append((kind, round(took, 3))))
    monkeypatch.setattr(latency, "timer", timer)
    return heard


TIME = ManualClock()


class Slow:
    """Takes a second before its answer, and another one within it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        TIME.advance(1)
        await send(start((b"cache-control", b"max-age=60")))
        TIME.advance(1)
        await send(piece(b"x"))


async def test_the_latency_of_a_forward_is_without_the_application_s_own(
    seconds: list[tuple[str, float]],
) -> None:
    """Up to the first message: what the application takes later is none of it."""
    middleware = cache_of(Slow())
    assert middleware.cache is not None
    begin = middleware.cache.lookups.begin

    def slow(*args: Any) -> Any:
        TIME.advance(0.25)
        return begin(*args)

    middleware.cache.lookups.begin = slow  # type: ignore[method-assign]
    await call(middleware)
    assert seconds == [("forward", 0.25)]
    await call(middleware)
    assert seconds[1:] == [("hit", 0.0)]


async def test_the_wait_for_another_request_s_response_is_a_kind_of_its_own(
    seconds: list[tuple[str, float]],
) -> None:
    """It is the application's time, only not on behalf of this request."""
    gate = asyncio.Event()
    middleware = cache_of(CounterApp(gate=gate))
    asking = [asyncio.create_task(call(middleware)) for _ in range(2)]
    for _ in range(50):
        await asyncio.sleep(0)
    TIME.advance(3)
    gate.set()
    await asyncio.gather(*asking)
    assert sorted(seconds) == [("collapsed", 3.0), ("forward", 0.0)]


async def test_one_request_in_many_is_timed_and_the_first_one_is() -> None:
    """The others pay for a look at a counter."""
    timer, heard = latency.Timer(every=64), list[str]()
    timer.listeners.append(lambda kind, _: heard.append(kind))

    async def send(message: Any) -> None:
        pass

    for _ in range(6400):
        await timer.arrived(send)({"type": "http.response.start"})
    assert 50 <= len(heard) <= 200


async def test_the_histogram_has_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By kind, in buckets from 25 microseconds to a second."""
    monkeypatch.setattr(latency, "timer", None)
    histogram = latency_histogram()
    middleware = cache_of(CounterApp())
    await call(middleware)
    (family,) = histogram.collect()
    counts = {tuple(s.labels.values()): s.value for s in family.samples if s.name.endswith("count")}
    assert counts == {("forward",): 1}


# the endpoint


async def scraped(app: ASGIApp, path: str = "/metrics", **more: Any) -> str:
    answer = await call(app, path=path, **more)
    assert answer.status == 200, answer.body
    assert answer.header("cache-control") == b"no-store"
    assert (answer.header("content-type") or b"").startswith(b"text/plain")
    assert b"hit" not in status_of(answer)
    return answer.body.decode()


def behind(app: Any) -> CacheMiddleware:
    return cache_of(app)


async def test_the_endpoint_is_never_cached_wherever_it_is_mounted() -> None:
    """In a Starlette application as a route or a mount, and in FastAPI."""
    exports = metrics_app(CollectorRegistry())
    added = FastAPI(openapi_url=None)
    added.add_route("/metrics", cast("Any", exports), methods=["GET"])
    routers = FastAPI(openapi_url=None)
    routers.include_router(metrics_router())
    mounted = FastAPI(openapi_url=None)
    mounted.mount("/metrics", exports)
    for app, path, status in (
        (Starlette(routes=[Route("/metrics", exports, methods=["GET"])]), "/metrics", b"uncached"),
        (Starlette(routes=[Mount("/metrics", exports)]), "/metrics/", None),
        (added, "/metrics", b"uncached"),
        (mounted, "/metrics/", None),
        (routers, "/metrics", b"uncached"),
    ):
        middleware = behind(app)
        for _ in range(3):
            text = await scraped(middleware, path)
            assert 'maxage_requests_total{outcome="' in text
        answer = await call(middleware, path=path)
        assert status is None or status_of(answer).endswith(b"; detail=" + status)
        assert b"stored" not in status_of(answer)


async def test_the_text_can_be_parsed_and_each_metric_is_in_it() -> None:
    """In the format that the scraper asks for."""
    registry = CollectorRegistry()
    exports = metrics_app(registry)
    text = await scraped(cast("ASGIApp", exports))
    found = {family.name for family in text_string_to_metric_families(text)}
    names = {name for name in found if not name.endswith("_created")}
    assert names == {*(one.name for one in FIGURES), LATENCY}
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await call(cast("ASGIApp", exports), headers=asked)
    assert answer.body.endswith(b"# EOF\n")


async def test_a_router_takes_the_checks_of_the_application() -> None:
    """Nothing is told without them."""

    def refuse() -> None:
        raise HTTPException(status_code=403)

    app = FastAPI(openapi_url=None)
    app.include_router(metrics_router(dependencies=[Depends(refuse)]))
    answer = await call(cast("ASGIApp", app), path="/metrics")
    assert (answer.status, b"maxage_requests" in answer.body) == (403, False)


def test_a_second_registration_of_a_registry_does_nothing() -> None:
    """A registry refuses what it has already."""
    registry = CollectorRegistry()
    for _ in range(3):
        metrics_app(registry)
        register(registry)


# without it


def python(code: str) -> str:
    """What a new interpreter prints."""
    root = Path(__file__).resolve().parents[2]
    run = [sys.executable, "-c", code]
    path = {"PYTHONPATH": str(root / "middleware"), "PATH": ""}
    done = subprocess.run(run, env=path, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_library_imports_neither_prometheus_nor_opentelemetry() -> None:
    """They are extras, and need not be there; redis-py looks for the second one itself."""
    said = python(
        "import sys\nfor name in ('prometheus_client', 'opentelemetry'): sys.modules[name] = None\n"
        "import maxage, maxage.observe.figures\nprint('imported')"
    )
    assert said == "imported"


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    """In place of the name of a module that the user never heard of."""
    said = python(
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try:\n    import maxage.metrics\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert said == "maxage.metrics needs prometheus-client: pip install 'maxage[metrics]'."
