"""Lookups and purges are spans of the current trace, and the metrics are instruments."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from maxage import CacheMiddleware, CacheSettings, apurge, purge
from maxage.cache.cache import Cache
from maxage.invalidation.purger import Purger
from maxage.observe import latency
from maxage.observe.figures import FIGURES, LATENCY
from maxage.otel import instrument, spans, uninstrument
from maxage.otel.spans import Spans
from maxage.redis import RedisCache
from tests.support.asgi import CounterApp, call
from tests.support.caching import background_done, cache_of
from tests.support.clock import ManualClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

UNTRACED = Cache.lookup
LOOPS = ["asyncio", "uvloop"]


class Traced:
    """An SDK that keeps the spans."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("application")

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def told(self, name: str) -> list[Mapping[str, Any]]:
        return [dict(span.attributes or {}) for span in self.spans(name)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    monkeypatch.setattr(latency, "timer", None)
    sdk = Traced()
    instrument(tracer_provider=sdk.provider)
    yield sdk
    uninstrument()


def items() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.get("/items/{number}")(lambda number: number)
    app.put("/items/{number}")(lambda number: number)
    return app


async def test_a_lookup_is_a_span_with_route_and_outcome(traced: Traced) -> None:
    """By the words of `Cache-Status`; a near copy needs no lookup."""
    clock = ManualClock()
    middleware = cache_of(items(), clock)
    await call(middleware, path="/items/1")
    clock.advance(301)
    await call(middleware, path="/items/1")
    route = "/items/{number}"
    assert traced.told("maxage.lookup") == [
        {"maxage.route": route, "maxage.outcome": "uri-miss"},
        {"maxage.route": route, "maxage.outcome": "stale"},
    ]


async def test_a_variant_that_is_not_stored_is_told_apart(traced: Traced) -> None:
    """And a hit that is no near copy."""
    app = CounterApp(headers={"vary": "accept", "cache-control": "max-age=60"})
    middleware = cache_of(app)
    for accept in ("a", "b"):
        await call(middleware, headers={"accept": accept})
    outcomes = [one["maxage.outcome"] for one in traced.told("maxage.lookup")]
    assert outcomes == ["uri-miss", "vary-miss"]


async def test_a_store_that_is_away_is_said_in_the_span(traced: Traced) -> None:
    """The request is a bypass; the span is no error of the application."""
    settings = CacheSettings(redis_url="redis://127.0.0.1:1", cache_namespace="otel-away")
    middleware = CacheMiddleware(items(), settings)
    await call(middleware, path="/items/1")
    (told,) = traced.told("maxage.lookup")
    assert (told["maxage.outcome"], told["maxage.reason"]) == ("bypass", "store-away")
    await middleware.aclose()


async def test_a_purge_is_a_span_with_its_cause(traced: Traced) -> None:
    """One before the answer and one when the call has returned; by hand and typed ones too."""
    middleware = cache_of(items())
    await call(middleware, "PUT", path="/items/1")
    await background_done(middleware)
    await apurge("tag", "/items")
    purge("tag", soft=True)
    typed = RedisCache(int, prefix="otel")
    typed.set("1", 1)
    await typed.adelete("1")
    told = traced.told("maxage.purge")
    causes = [one["maxage.cause"] for one in told]
    assert sorted(causes) == ["hand", "soft", "typed", "typed", "write", "write"]
    assert all(one["maxage.confirmed"] for one in told)
    assert all(one["maxage.groups"] >= 1 for one in told)


async def test_spans_join_the_current_trace(traced: Traced) -> None:
    """That of the request, whichever layer began it; the purge after the answer too."""
    middleware = cache_of(items())
    with traced.tracer.start_as_current_span("request") as request:
        await call(middleware, path="/items/1")
        await call(middleware, "PUT", path="/items/1")
        await background_done(middleware)
    made = traced.spans("maxage.lookup") + traced.spans("maxage.purge")
    assert len(made) == 3
    for span in made:
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id


async def test_a_purge_that_is_not_confirmed_says_so(traced: Traced) -> None:
    """It is owed."""
    settings = CacheSettings(redis_url="redis://127.0.0.1:1", cache_namespace="otel-owed")
    middleware = CacheMiddleware(items(), settings)
    await call(middleware, "PUT", path="/items/1")
    await background_done(middleware)
    told = traced.told("maxage.purge")
    assert told
    assert not any(one["maxage.confirmed"] for one in told)
    await middleware.aclose()


async def test_the_metrics_are_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones, with the same labels; the latency from the first export on."""
    monkeypatch.setattr(latency, "timer", None)
    reader = InMemoryMetricReader()
    instrument(meter_provider=MeterProvider([reader]))
    try:
        middleware = cache_of(items())
        await call(middleware, path="/items/1")
        reader.get_metrics_data()
        await call(middleware, path="/items/1")
        data: Any = reader.get_metrics_data()
    finally:
        uninstrument()
    (scope,) = data.resource_metrics[0].scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    names = {one.name.replace("_", ".", 1) for one in FIGURES}
    assert found.keys() <= names | {LATENCY.removesuffix("_seconds").replace("_", ".", 1)}
    assert {"maxage.requests", "maxage.purges", "maxage.kept_values"} <= found.keys()
    points = found["maxage.requests"].data.data_points
    ours = {
        point.attributes["outcome"]: point.value
        for point in points
        if point.attributes["route"] == "/items/{number}"
    }
    assert ours["uri-miss"] >= 1
    assert ours["hit"] >= 1
    (timed,) = found["maxage.added_latency"].data.data_points
    assert (timed.count, dict(timed.attributes)) == (1, {"kind": "hit"})


async def test_without_an_sdk_nothing_is_made_and_without_a_call_nothing_is_replaced() -> None:
    """An application that does not ask for traces runs the same code."""
    lookup, purge_ = Cache.lookup, Purger.purge
    listeners = [] if latency.timer is None else list(latency.timer.listeners)
    assert not Spans(None).active()
    instrument()
    instrument()
    assert Cache.lookup is not lookup
    assert listeners == ([] if latency.timer is None else latency.timer.listeners)
    middleware = cache_of(items())
    assert (await call(middleware, path="/items/1")).status == 200
    uninstrument()
    assert (Cache.lookup, Purger.purge) == (lookup, purge_)


def on_a_loop(kind: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in a new event loop, and close it."""
    factory = asyncio.new_event_loop if kind == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.fixture
def late_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """An SDK that becomes the global one when the test says `sdk_begins`; a look each 10 ms."""
    monkeypatch.setattr(spans, "LOOK_SECONDS", 0.01)
    instrument()
    yield Traced()
    uninstrument()


async def a_lookup() -> None:
    await call(cache_of(items()), path="/items/1")


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.usefixtures("late_sdk")
def test_without_an_sdk_a_lookup_is_not_touched(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one finds that there is none; those of the next second are the core's own."""
    monkeypatch.setattr(spans, "LOOK_SECONDS", 3600)

    async def main() -> None:
        await a_lookup()
        assert Cache.lookup is UNTRACED

    on_a_loop(kind, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_an_sdk_that_is_set_later_is_seen(
    kind: str, late_sdk: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second, and then for good."""

    async def main() -> None:
        await a_lookup()
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", late_sdk.provider)
        await eventually(lambda: Cache.lookup is not UNTRACED)
        await a_lookup()
        await a_lookup()

    on_a_loop(kind, main)
    assert len(late_sdk.spans("maxage.lookup")) == 2


@pytest.mark.parametrize("kind", LOOPS)
def test_an_event_loop_that_ends_leaves_the_next_one_traced(
    kind: str, late_sdk: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look was this loop's; it is made up for."""
    monkeypatch.setattr(spans, "LOOK_SECONDS", 3600)
    on_a_loop(kind, a_lookup)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", late_sdk.provider)
    on_a_loop(kind, a_lookup)
    assert len(late_sdk.spans("maxage.lookup")) == 1


@pytest.mark.usefixtures("late_sdk")
def test_what_is_no_longer_instrumented_stays_so() -> None:
    """A look that was to come puts nothing back."""

    async def main() -> None:
        await a_lookup()
        uninstrument()

    on_a_loop("asyncio", main)
    assert Cache.lookup is UNTRACED


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    """In place of the name of a module that the user never heard of."""
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import maxage.otel\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    path = {"PYTHONPATH": str(root / "middleware"), "PATH": ""}
    run = [sys.executable, "-c", code]
    said = subprocess.run(run, env=path, capture_output=True, text=True, check=True).stdout.strip()
    assert said == "maxage.otel needs opentelemetry-api: pip install 'maxage[otel]'."
