"""Lookups and purges are spans of the current trace, and the metrics are instruments."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
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
from maxage.otel import instrument, uninstrument
from maxage.otel.spans import Spans
from maxage.redis import RedisCache
from tests.support.asgi import CounterApp, call
from tests.support.caching import background_done, cache_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


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
    spans = traced.spans("maxage.lookup") + traced.spans("maxage.purge")
    assert len(spans) == 3
    for span in spans:
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
    assert not Spans(None).active()
    instrument()
    instrument()
    assert Cache.lookup is not lookup
    assert latency.timer is None or not latency.timer.listeners
    middleware = cache_of(items())
    assert (await call(middleware, path="/items/1")).status == 200
    uninstrument()
    assert (Cache.lookup, Purger.purge) == (lookup, purge_)


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
