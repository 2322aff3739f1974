"""The middleware on an embedded store, and helpers for its tests."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule
from tests.support.asgi import ASGIApp, CounterApp, Message, Recorded, call
from tests.support.clock import ManualClock


def cache_of(
    app: ASGIApp,
    clock: ManualClock | None = None,
    *,
    store: MemoryStore | None = None,
    rules: Sequence[Rule] = (),
    **settings: Any,
) -> CacheMiddleware:
    """The middleware on an embedded store of its own."""
    middleware = CacheMiddleware(
        app, CacheSettings(**settings), store=store or MemoryStore(), rules=rules
    )
    assert middleware.cache is not None
    if clock is not None:
        middleware.cache.clock = clock
        middleware.cache.monotonic = clock.monotonic
    return middleware


def status_of(answer: Recorded) -> bytes:
    """The value of Cache-Status, joined when there are several lines."""
    return b", ".join(answer.headers_named("cache-status"))


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    """The beginning of a response."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> Message:
    """A piece of a body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


async def background_done(middleware: CacheMiddleware) -> None:
    """Wait until the background tasks of the cache are done."""
    assert middleware.cache is not None
    while tasks := set(middleware.cache.background.tasks):
        await asyncio.wait(tasks)


async def asked_together(count: int) -> CacheMiddleware:
    """A cache that this many requests have asked for one page before its handler answered."""
    gate = asyncio.Event()
    middleware = cache_of(CounterApp(gate=gate))
    asking = [asyncio.create_task(call(middleware)) for _ in range(count)]
    for _ in range(50):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asking)
    return middleware


def begun_at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What an event loop whose tasks begin at once makes of work that waits for nothing."""
    task: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        work.send(None)
    except StopIteration as end:
        task.set_result(end.value)
    return task
