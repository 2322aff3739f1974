"""Under another event loop than asyncio's the application answers, and nothing is cached."""

import logging
import sys
from typing import Any

import pytest

from maxage import CacheSettings, apurge
from maxage.redis import RedisCache
from tests.support.asgi import CounterApp, Message, http_scope
from tests.support.caching import cache_of


def run_without_a_loop(work: Any) -> Any:
    """What trio does with work that waits for nothing: no asyncio event loop is running."""
    with pytest.raises(StopIteration) as end:
        work.send(None)
    return end.value.value


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_without_an_asyncio_event_loop_requests_pass_uncached_with_one_warning(
    method: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio", sys)
    app = CounterApp()
    middleware = cache_of(app)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    with caplog.at_level(logging.WARNING, "maxage"):
        for _ in range(2):
            run_without_a_loop(middleware(http_scope(method), receive, send))
    assert [message.get("body") for message in sent][1::2] == [b"run 1", b"run 2"]
    assert len(caplog.records) == 1


def test_without_an_asyncio_event_loop_typed_values_are_cached_and_purges_made(
    redis_url: str, own_namespace: str
) -> None:
    """They block the thread for their round trip, and do not wait for another load."""
    settings = CacheSettings(
        redis_url=redis_url,
        cache_namespace=own_namespace,
        cache_read_budget=5,
        cache_write_budget=5,
    )
    cache = RedisCache[int](int, prefix=own_namespace + "n", settings=settings)

    async def load() -> int:
        # A second call meanwhile loads by itself: nothing else may run on the thread.
        return await cache.aget_or_set(2, lambda: 6) + await cache.aget_or_set(1, lambda: 1)

    assert run_without_a_loop(cache.aset(3, 3)) is True
    assert run_without_a_loop(cache.aget(3)) == 3
    assert run_without_a_loop(cache.aget_or_set(1, load)) == 7
    assert run_without_a_loop(cache.aget(1)) == 7
    assert run_without_a_loop(cache.adelete(1)) is True
    assert run_without_a_loop(cache.aget(1)) is None
    assert run_without_a_loop(apurge("/x", settings=settings)) is True
