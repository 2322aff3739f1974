"""Under another event loop than asyncio's the application answers, and nothing is cached."""

import logging
import sys
from typing import Any

import pytest

from tests.support.asgi import CounterApp, Message, http_scope
from tests.support.caching import cache_of


def run_without_a_loop(work: Any) -> None:
    """What trio does with work that waits for nothing: no asyncio event loop is running."""
    with pytest.raises(StopIteration):
        work.send(None)


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
