"""A scope without headers, as an application's own tests make it: Starlette answers it too."""

from typing import Any

import pytest

from tests.support.asgi import CounterApp, Message, Recorded, call
from tests.support.caching import cache_of


async def bare(app: Any, method: str) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": "/x"}, receive, send)
    return sent


@pytest.mark.anyio
async def test_a_bare_read_gets_the_very_messages_of_the_application() -> None:
    alone, behind = CounterApp(), CounterApp()
    middleware = cache_of(behind)
    assert await bare(middleware, "GET") == await bare(alone, "GET")
    assert await bare(middleware, "GET") == await bare(alone, "GET")


@pytest.mark.anyio
async def test_a_bare_write_purges() -> None:
    middleware = cache_of(CounterApp())
    first: Recorded = await call(middleware)
    assert (await call(middleware)).body == first.body
    await bare(middleware, "PUT")
    assert (await call(middleware)).body != first.body
