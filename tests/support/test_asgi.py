"""Driving ASGI applications by hand."""

import asyncio
from typing import Literal

import pytest

from tests.support.asgi import (
    CounterApp,
    Exchange,
    Message,
    RaisingApp,
    Receive,
    Scope,
    Send,
    StreamingApp,
    call,
    http_scope,
    lifespan,
    read_body,
)

Stage = Literal["before", "start", "body", "end"]


async def noisy(scope: Scope, receive: Receive, send: Send) -> None:
    """Breaks the protocol in the way that the path names."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    body: Message = {"type": "http.response.body", "body": b""}
    for word in scope["path"].split("/")[1:]:
        await send({"start": start, "body": body}[word])


class TestAsgi:
    """Hand-driven applications."""

    async def test_call(self) -> None:
        """An answer is recorded as it was sent."""
        app = CounterApp(headers=[("X-A", "1"), ("x-a", "2")], status=201)
        recorded = await call(app, "POST", "/a b", b"q=1", [("X-In", "1")], b"in", state={"s": 1})
        assert (recorded.status, recorded.body) == (201, b"run 1")
        assert recorded.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5")]
        assert recorded.headers_named("X-a") == [b"1", b"2"]
        assert recorded.header("none") is None
        assert recorded.complete
        scope = app.scopes[0]
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/a b",
            b"/a%20b",
            b"q=1",
        )
        assert (b"x-in", b"1") in scope["headers"]
        assert scope["state"] == {"s": 1}
        assert app.request_bodies == [b"in"]

    def test_scope(self) -> None:
        """A target is taken apart as servers do it, and every entry can be replaced."""
        scope = http_scope(
            target=b"/a%2Fb?c?d", root_path="/r", scheme="https", http_version="2", client=None
        )
        assert scope["path"] == "/a/b"
        assert scope["raw_path"] == b"/a%2Fb"
        assert scope["query_string"] == b"c?d"
        assert (scope["root_path"], scope["scheme"], scope["http_version"]) == ("/r", "https", "2")
        assert scope["client"] is None

    async def test_bodies_in_pieces(self) -> None:
        """A body in pieces comes in pieces, each when the test lets it."""
        pieces: list[Message] = []
        numbers: list[int] = []
        whole = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            pieces.extend([await receive(), await receive()])
            whole.set()
            pieces.append(await receive())

        async def slowly(number: int) -> None:
            numbers.append(number)
            await asyncio.sleep(0)

        exchange = Exchange(app, http_scope(), body=[b"a", b"b"], on_receive=slowly).start()
        await whole.wait()
        assert not exchange.done
        exchange.disconnect()
        await exchange.finish()
        assert [(p["type"], p.get("body"), p.get("more_body")) for p in pieces] == [
            ("http.request", b"a", True),
            ("http.request", b"b", False),
            ("http.disconnect", None, None),
        ]
        assert numbers == [0, 1, 2]

    async def test_disconnect(self) -> None:
        """After the client has gone, nothing more is recorded, and send may raise."""
        recorded = await call(StreamingApp(), disconnect_after=2)
        assert recorded.chunks == [b"one "]
        assert not recorded.complete
        with pytest.raises(OSError, match="disconnected"):
            await call(StreamingApp(), disconnect_after=2, send_raises_after_disconnect=True)
        recorded = await call(CounterApp(), disconnect_after=0)
        assert not recorded.started

    async def test_cancel(self) -> None:
        """The call is cancelled in the send of the message named."""
        recorded = await call(StreamingApp(), cancel_at=2)
        assert recorded.chunks == [b"one "]
        assert isinstance(recorded.exception, asyncio.CancelledError)

    async def test_an_exchange_under_control(self) -> None:
        """A stream can be followed message by message, then left."""
        gates = [asyncio.Event() for _ in range(3)]

        async def wait(number: int) -> None:
            await gates[number].wait()

        exchange = Exchange(StreamingApp(before_chunk=wait), http_scope()).start()
        await exchange.wait_sent(1)
        gates[0].set()
        await exchange.wait_sent(2)
        assert exchange.recorded.body == b"one "
        with pytest.raises(TimeoutError):
            await exchange.wait_sent(3, within=0.02)
        exchange.cancel()
        recorded = await exchange.finish()
        assert isinstance(recorded.exception, asyncio.CancelledError)
        with pytest.raises(AssertionError, match="2 of 3"):
            await exchange.wait_sent(3)

    async def test_a_call_that_does_not_end(self) -> None:
        """A call that takes too long is an error, and is ended."""
        with pytest.raises(TimeoutError):
            await call(CounterApp(gate=asyncio.Event()), within=0.02)

    @pytest.mark.parametrize(("at", "sent"), [("before", 0), ("start", 1), ("body", 2), ("end", 3)])
    async def test_raising(self, at: Stage, sent: int) -> None:
        """The application's exception is raised, or kept with what was sent before."""
        with pytest.raises(RuntimeError, match="the handler raised"):
            await call(RaisingApp(at=at))
        recorded = await call(RaisingApp(at=at), raises=False)
        assert len(recorded.messages) == sent
        assert str(recorded.exception) == "the handler raised"

    @pytest.mark.parametrize("path", ["/body", "/start/start", "/start/body/body"])
    async def test_broken_protocol(self, path: str) -> None:
        """Messages in a wrong order are refused, as servers refuse them."""
        with pytest.raises(RuntimeError, match="the application s"):
            await call(noisy, path=path)

    async def test_an_empty_record(self) -> None:
        """Asking an answer that never began for its status is a clear failure."""
        recorded = await call(noisy, path="")
        with pytest.raises(AssertionError, match="no response was started"):
            _ = recorded.status

    async def test_read_body_stops_at_a_disconnect(self) -> None:
        """Reading a body ends when the client goes."""
        bodies: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            bodies.append(await read_body(receive))

        await call(app, body=[b"a", b"b"], disconnect_after=0)
        assert bodies == [b""]

    async def test_lifespan(self) -> None:
        """Startup and shutdown happen around the block, also when it fails."""
        app = CounterApp()
        async with lifespan(app) as state:
            assert app.lifespans == ["startup"]
            assert state == {}
        assert app.lifespans == ["startup", "shutdown"]
        with pytest.raises(ZeroDivisionError):
            async with lifespan(app):
                raise ZeroDivisionError
        assert app.lifespans == ["startup", "shutdown"] * 2

    async def test_lifespan_of_others(self) -> None:
        """Applications without lifespan are accepted, unless it is required; failures are not."""

        async def none(scope: Scope, receive: Receive, send: Send) -> None:
            raise NotImplementedError(scope["type"])

        async def failing(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no disk"})

        async def silent(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

        async with lifespan(none):
            pass
        with pytest.raises(RuntimeError, match="has no lifespan"):
            async with lifespan(none, required=True):
                pass
        with pytest.raises(RuntimeError, match="no disk"):
            async with lifespan(failing):
                pass
        with pytest.raises(TimeoutError):
            async with lifespan(silent, within=0.02):
                pass

    async def test_lifespan_state(self) -> None:
        """The state that the application fills is handed out."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["db"] = 1
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})

        async with lifespan(app, required=True) as state:
            assert state == {"db": 1}
