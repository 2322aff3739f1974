"""An application call that fails after its answer began leaves nothing stored."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from maxage.observe.counters import counters_of
from tests.support.asgi import Exchange, Message, Receive, Scope, Send, call, http_scope, routed
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.waiting import NEVER

pytestmark = pytest.mark.anyio


class Streamed:
    """Sends a body without Content-Length, waits at a gate, and fails or returns."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.headers = headers
        self.runs = 0
        self.returns, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        scope["endpoint"] = self
        await send(start(*self.headers))
        await send(piece(b"run ", more=True))
        await self.goes_on.wait()
        await send(piece(b"%d" % self.runs))
        await self.returns.wait()
        if self.error is not None:
            raise self.error


async def test_background_tasks_keep_no_other_body_from_being_stored() -> None:
    """A whole body without Content-Length waits for them, and makes room for others."""
    app = Streamed()
    middleware = cache_of(app, cache_pending_bytes=12)
    assert middleware.cache is not None
    exchanges = [Exchange(middleware, http_scope(path=path)) for path in ("/a", "/b", "/c")]
    for exchange in exchanges:
        await exchange.start().wait_sent(3)
    assert middleware.cache.pending_writes.reserved_bytes == 0
    app.returns.set()
    for exchange in exchanges:
        await exchange.finish()
    await background_done(middleware)
    assert middleware.cache.pending_writes.reserved_bytes == 0
    hits = [b"hit" in status_of(await call(middleware, path=path)) for path in ("/a", "/b", "/c")]
    assert hits == [False, True, True]


async def _passed(request: Request, call_next: Any) -> Any:
    return await call_next(request)


async def test_a_body_that_a_middleware_ends_in_good_order_before_its_error_is_not_stored() -> None:
    runs = 0

    async def pieces() -> AsyncIterator[str]:
        nonlocal runs
        runs += 1
        yield f"half {runs}"
        if runs == 1:
            raise RuntimeError("cut")
        yield " whole"

    async def page(request: Request) -> StreamingResponse:
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/x", page)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=_passed)
    middleware = cache_of(app)
    await call(middleware, raises=False)
    assert (await call(middleware)).body == b"half 2 whole"
    assert (await call(middleware)).body == b"half 2 whole"


async def test_a_dependency_that_fails_after_the_answer_leaves_nothing_stored() -> None:
    runs = 0
    app = FastAPI(openapi_url=None)

    async def session() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0)
        if runs == 1:
            raise RuntimeError("commit failed")

    @app.get("/x", dependencies=[Depends(session)])
    async def read() -> int:  # pyright: ignore[reportUnusedFunction]
        nonlocal runs
        runs += 1
        return runs

    middleware = cache_of(app)
    await call(middleware, raises=False)
    assert (await call(middleware)).body == b"2"
    assert (await call(middleware)).body == b"2"


@pytest.mark.parametrize("length", [True, False])
async def test_a_route_whose_background_task_fails_is_named_once(
    length: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answers look right, and none of them is ever a hit: one line says why, and the mend."""
    app = FastAPI(openapi_url=None)

    def fail() -> None:
        raise ValueError("s3cret")

    def answer() -> Response:
        task = BackgroundTask(fail)
        if length:
            return PlainTextResponse("whole", background=task)
        return StreamingResponse(iter(["who", "le"]), background=task)

    app.get("/items/{item_id}")(answer)
    app.get("/others")(answer)
    app.get("/cut")(lambda: StreamingResponse(cut()))

    def cut() -> Iterator[str]:
        yield "half"
        raise ValueError

    middleware = cache_of(app)
    for path in ("/items/1", "/items/2", "/items/1", "/cut", "/others"):
        await call(middleware, path=path, raises=False)
    lines = [record.getMessage() for record in caplog.records if record.name == "maxage"]
    assert lines == [
        f"{template}: the call failed (ValueError) after its whole answer was sent, so that the "
        "response is not kept. While calls of this route fail, it has no hits. Mend what fails: a "
        "background task, or the exit code of a yield dependency."
        for template in ("/items/{item_id}", "/others")
    ]


@pytest.mark.parametrize("vary", [(), ((b"vary", b"accept"),)])
async def test_a_response_written_before_its_call_fails_is_deleted(
    vary: tuple[tuple[bytes, bytes], ...],
) -> None:
    app = Streamed((b"content-length", b"5"), *vary)
    middleware = cache_of(app)
    exchange = Exchange(middleware, http_scope()).start()
    await exchange.wait_sent(3)
    await background_done(middleware)
    app.error = RuntimeError("late")
    app.returns.set()
    await exchange.finish()
    await background_done(middleware)
    app.error = None
    assert (await call(middleware)).body == b"run 2"


async def test_a_stream_is_found_when_its_call_has_returned_and_its_next_reader_waits() -> None:
    app = Streamed()
    middleware = cache_of(app)
    first = Exchange(middleware, http_scope()).start()
    await first.wait_sent(3)
    second = Exchange(middleware, http_scope()).start()
    await asyncio.sleep(0)
    app.returns.set()
    assert (await first.finish()).body == b"run 1"
    assert (await second.finish()).body == b"run 1"
    assert b"hit" in status_of(await call(middleware))


async def test_a_disconnect_after_the_last_piece_does_not_prevent_storing() -> None:
    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"whole"))
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    middleware = cache_of(app)
    messages: list[Message] = [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        pass

    await middleware(http_scope(), receive, send)
    assert middleware.cache is not None
    assert counters_of(middleware.cache.tally).stored == 1


async def test_readers_of_a_stream_that_goes_on_do_not_wait_for_its_end() -> None:
    app = Streamed()
    app.goes_on.clear()
    middleware = cache_of(app, cache_collapse_wait=NEVER)
    first = Exchange(middleware, http_scope()).start()
    await first.wait_sent(2)
    others = [Exchange(middleware, http_scope()).start() for _ in range(3)]
    for exchange in others:
        await exchange.wait_sent(2)
    app.goes_on.set()
    app.returns.set()
    for exchange in (first, *others):
        await exchange.finish()
    assert b"hit" in status_of(await call(middleware))
