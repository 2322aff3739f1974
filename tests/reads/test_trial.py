"""A tool that looks at requests and fails breaks no answer: its failure is logged once a minute."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.audit import audit
from maxage.observe import failures, latency
from maxage.reads import trial
from maxage.reads.fast_path import FastPath
from maxage.reads.trial import Answered, Observation
from tests.support.asgi import Recorded, call

pytestmark = pytest.mark.anyio
FAILED = "A tool that looks at requests failed"


class Broken(Observation):
    """An observer that fails at one step of each request."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.failed = 0
        self.scope: Any = {}

    def _at(self, step: str) -> None:
        if step == self.step:
            self.failed += 1
            raise ValueError(step)

    def begin(self, fast_path: FastPath, scope: Any) -> "Broken":
        del fast_path
        self.scope = scope
        self._at("begin")
        return self

    def admitted(self) -> None:
        self._at("admitted")

    def sent(self) -> None:
        self._at("sent")

    async def answered(self, answered: Answered) -> None:
        assert answered.body == b"[1]"
        self._at("answered")

    def close(self) -> None:
        self._at("close")


@pytest.fixture(autouse=True)
def as_if_nothing_had_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_told_at", -1000.0)
    monkeypatch.setattr(latency, "timer", None)
    monkeypatch.setattr("maxage.insight.watch._watches", {})


def application(**settings: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/items")
    async def items(request: Request) -> list[int]:
        return [1] if request.headers.get("x-none") is None else []

    @app.put("/items")
    async def put() -> None: ...

    chosen = CacheSettings(cache_namespace="broken", **settings)
    app.add_middleware(CacheMiddleware, settings=chosen, store=MemoryStore())
    return app


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(one.getMessage().startswith(FAILED) for one in caplog.records)


def is_right(answer: Recorded) -> bool:
    return (answer.status, answer.body) == (200, b"[1]")


@pytest.mark.parametrize("step", ["begin", "admitted", "sent", "answered", "close"])
async def test_an_observer_that_fails_breaks_no_answer(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At whichever step; the other observers see the request all the same."""
    app, broken, whole = application(), Broken(step), Broken("none")
    caplog.set_level(logging.WARNING)
    trial.observe(broken)
    trial.observe(whole)
    try:
        for _ in range(3):
            assert is_right(await call(app, path="/items"))
    finally:
        trial.ignore(broken)
        trial.ignore(whole)
    assert broken.failed == 3
    assert whole.scope["path"] == "/items"
    assert warnings(caplog) == 1
    answer = await call(app, path="/items")
    assert is_right(answer)
    assert b"hit" in (answer.header("cache-status") or b"")


@pytest.mark.parametrize(
    ("setting", "broken"),
    [
        ({"cache_insight": True}, "maxage.insight.watch.label_of"),
        ({"cache_insight": True}, "maxage.insight.watch.recorded_target"),
        ({"cache_insight": True}, "maxage.insight.space_saving.SpaceSaving.offer"),
        ({"cache_shadow": True}, "maxage.shadow.shadow.label_of"),
        ({"cache_shadow": True}, "maxage.shadow.shadow.url_of"),
        ({"cache_shadow": True}, "maxage.shadow.writes.Writes.end"),
    ],
)
async def test_a_figure_that_cannot_be_counted_breaks_no_answer(
    setting: dict[str, Any],
    broken: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a read nor a write, neither a miss nor a hit."""
    app = application(**setting)
    failed = 0

    def fails(*_: object, **__: object) -> None:
        nonlocal failed
        failed += 1
        raise ValueError(broken)

    monkeypatch.setattr(broken, fails)
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        assert is_right(await call(app, path="/items"))
    assert (await call(app, "PUT", "/items")).status == 200
    assert is_right(await call(app, path="/items"))
    assert failed >= 1
    assert warnings(caplog) == 1


async def test_a_latency_that_cannot_be_told_breaks_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whichever listener fails: each exporter has one."""
    told: list[str] = []
    latency.listen(lambda *_: 1 // 0, every=1)
    latency.listen(lambda kind, _: told.append(kind))
    app = application()
    for _ in range(2):
        assert is_right(await call(app, path="/items"))
    assert told == ["forward", "hit"]
    assert warnings(caplog) == 1


async def test_an_audit_that_cannot_name_a_line_breaks_no_handler(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler only asks for a header."""
    monkeypatch.setattr("maxage.audit.notes.places", lambda _: 1 / 0)
    with audit():
        assert is_right(await call(application(), path="/items"))
    assert warnings(caplog) == 1


async def test_headers_that_can_be_read_once_reach_the_client_with_insight() -> None:
    """An application may give them as an iterator."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        def lines() -> Iterator[tuple[bytes, bytes]]:
            yield b"x-one", b"1"

        await send({"type": "http.response.start", "status": 200, "headers": lines()})
        await send({"type": "http.response.body", "body": b"[1]"})

    settings = CacheSettings(cache_namespace="broken", cache_insight=True)
    cached = CacheMiddleware(app, settings, store=MemoryStore())
    for method in ("GET", "PUT"):
        assert (await call(cached, method)).header("x-one") == b"1"


async def test_failures_are_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the minute, and from then on again."""
    told: list[int] = []
    for now in (5000.0, 5059.9, 5060.0):
        monkeypatch.setattr(failures, "monotonic", lambda now=now: now)
        failures.tell_of_failure(ValueError())
        told.append(warnings(caplog))
    assert told == [1, 1, 2]
