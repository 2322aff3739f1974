"""Driving ASGI applications by hand, message by message, and small applications to drive."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import quote, unquote_to_bytes

from tests.support.waiting import PATIENCE

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Text = str | bytes
HeaderInput = Mapping[str, str] | Iterable[tuple[Text, Text]]
Pairs = list[tuple[bytes, bytes]]


def http_scope(
    method: str = "GET",
    path: str = "/x",
    query: Text = b"",
    headers: HeaderInput = (),
    *,
    target: bytes | None = None,
    raw_path: bytes | None = None,
    **entries: Any,
) -> dict[str, Any]:
    """An HTTP scope as a server makes it; `target` (raw path and query) overrides the parts."""
    if target is not None:
        raw_path, _, query = target.partition(b"?")
        path = unquote_to_bytes(raw_path).decode(errors="replace")
    elif raw_path is None:
        raw_path = quote(path, safe="/!$&'()*+,;=:@~").encode()
    pairs = raw_headers(headers)
    if not any(name == b"host" for name, _ in pairs):
        pairs.insert(0, (b"host", b"testserver"))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": _bytes(query),
        "root_path": "",
        "headers": pairs,
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "extensions": {},
    }
    scope.update(entries)
    return scope


def raw_headers(headers: HeaderInput) -> Pairs:
    """Header pairs as ASGI wants them: bytes, lower-case names."""
    pairs: Iterable[tuple[Text, Text]] = (
        cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers
    )
    return [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]


@dataclass(slots=True, kw_only=True)
class Recorded:
    """What an application sent, in order, and how its call ended."""

    messages: list[Message] = field(default_factory=list[Message])
    exception: BaseException | None = None

    @property
    def started(self) -> bool:
        """True when the response has begun."""
        return any(m["type"] == "http.response.start" for m in self.messages)

    @property
    def complete(self) -> bool:
        """True when the last piece of the body was sent."""
        return any(
            m["type"] == "http.response.body" and not m.get("more_body", False)
            for m in self.messages
        )

    @property
    def _start(self) -> Message:
        for message in self.messages:
            if message["type"] == "http.response.start":
                return message
        raise AssertionError(f"no response was started: {self.messages!r}") from self.exception

    @property
    def status(self) -> int:
        """The status of the response."""
        status: int = self._start["status"]
        return status

    @property
    def headers(self) -> Pairs:
        """The header pairs, exactly as sent."""
        return [(bytes(name), bytes(value)) for name, value in self._start.get("headers", ())]

    @property
    def chunks(self) -> list[bytes]:
        """The pieces of the body as they were sent."""
        return [
            bytes(m.get("body", b"")) for m in self.messages if m["type"] == "http.response.body"
        ]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    def header(self, name: Text) -> bytes | None:
        """The value of the first header of this name, any case, or None."""
        values = self.headers_named(name)
        return values[0] if values else None

    def headers_named(self, name: Text) -> list[bytes]:
        """The values of all headers of this name, any case, in order."""
        wanted = _bytes(name).lower()
        return [value for key, value in self.headers if key.lower() == wanted]


class Exchange:
    """One call of an application under the test's control, from the first message to the last."""

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        *,
        body: bytes | Iterable[bytes] = b"",
        disconnect_after: int | None = None,
        cancel_at: int | None = None,
        send_raises_after_disconnect: bool = False,
        on_receive: Callable[[int], Awaitable[None]] | None = None,
        on_send: Callable[[int, Message], Awaitable[None]] | None = None,
    ) -> None:
        self.recorded = Recorded()
        self._app = app
        self._scope = scope
        self._pieces = [body] if isinstance(body, bytes) else list(body) or [b""]
        self._disconnect_after = disconnect_after
        self._cancel_at = cancel_at
        self._send_raises = send_raises_after_disconnect
        self._on_receive = on_receive
        self._on_send = on_send
        self._received = 0
        self._sent = 0
        self._disconnected = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._gone = False  # the client hung up, as opposed to having got everything
        if disconnect_after == 0:
            self.disconnect()

    def start(self) -> "Exchange":
        """Begin the call in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    def disconnect(self) -> None:
        """Let the client hang up: `receive` answers http.disconnect from now on."""
        self._gone = True
        self._disconnected.set()

    def cancel(self) -> None:
        """Cancel the task that runs the application."""
        if self._task is None:
            raise RuntimeError("the exchange was not started")
        self._task.cancel()

    @property
    def done(self) -> bool:
        """True when the application's call has returned."""
        return self._task is not None and self._task.done()

    async def wait_sent(self, count: int, *, within: float = PATIENCE) -> None:
        """Wait until the application has sent `count` messages, or its call has ended."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(
                lambda: len(self.recorded.messages) >= count or self._ended
            )
        if len(self.recorded.messages) < count:
            raise AssertionError(
                f"the call ended after {len(self.recorded.messages)} of {count} messages"
            ) from self.recorded.exception

    async def finish(self, *, within: float = PATIENCE) -> Recorded:
        """Wait for the end of the call; its exception is kept in the record, not raised."""
        if self._task is None:
            self.start()
        task = self._task
        assert task is not None
        try:
            done, _ = await asyncio.wait({task}, timeout=within)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=5.0)
            raise TimeoutError(f"the application's call took longer than {within:g} s")
        return self.recorded

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except asyncio.CancelledError as error:
            self.recorded.exception = error
        except BaseException as error:  # noqa: BLE001  it is handed to the test
            self.recorded.exception = error
        finally:
            self._ended = True
            self._disconnected.set()
            await self._notify()

    async def _receive(self) -> Message:
        number = self._received
        self._received += 1
        if self._on_receive is not None:
            await self._on_receive(number)
        if number < len(self._pieces) and not self._disconnected.is_set():
            more = number + 1 < len(self._pieces)
            return {"type": "http.request", "body": self._pieces[number], "more_body": more}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        number = self._sent
        self._sent += 1
        if self._on_send is not None:
            await self._on_send(number, message)
        if number == self._cancel_at:
            self.cancel()
            await asyncio.sleep(0)  # where the cancellation arrives
        if self._gone:
            if self._send_raises:
                raise OSError("the client has disconnected")
            return  # as servers do: what is sent after the end is dropped
        self._check_order(message["type"])
        self.recorded.messages.append(message)
        if len(self.recorded.messages) == self._disconnect_after:
            self.disconnect()
        if self.recorded.complete:
            self._disconnected.set()
        await self._notify()

    def _check_order(self, kind: str) -> None:
        if kind == "http.response.start" and self.recorded.started:
            raise RuntimeError("the application started its response twice")
        if kind == "http.response.body" and not self.recorded.started:
            raise RuntimeError("the application sent a body before the start of its response")
        if kind == "http.response.body" and self.recorded.complete:
            raise RuntimeError("the application sent a body after the end of its response")

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def call(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/x",
    query: Text = b"",
    headers: HeaderInput = (),
    body: bytes | Iterable[bytes] = b"",
    *,
    target: bytes | None = None,
    raw_path: bytes | None = None,
    disconnect_after: int | None = None,
    cancel_at: int | None = None,
    send_raises_after_disconnect: bool = False,
    on_receive: Callable[[int], Awaitable[None]] | None = None,
    on_send: Callable[[int, Message], Awaitable[None]] | None = None,
    raises: bool = True,
    within: float = PATIENCE,
    **entries: Any,
) -> Recorded:
    """Call an application once and record what it sends; `entries` go into the scope.

    `disconnect_after=n` lets the client hang up after n messages, `cancel_at=n` cancels the
    call while it sends message n (counted from 0); with `raises=False` an exception of the
    application is kept in the record.
    """
    exchange = Exchange(
        app,
        http_scope(method, path, query, headers, target=target, raw_path=raw_path, **entries),
        body=body,
        disconnect_after=disconnect_after,
        cancel_at=cancel_at,
        send_raises_after_disconnect=send_raises_after_disconnect,
        on_receive=on_receive,
        on_send=on_send,
    )
    recorded = await exchange.start().finish(within=within)
    error = recorded.exception
    if error is not None and raises and not isinstance(error, asyncio.CancelledError):
        raise error
    return recorded


@asynccontextmanager
async def lifespan(
    app: ASGIApp, *, required: bool = False, within: float = PATIENCE
) -> AsyncGenerator[dict[str, Any], None]:
    """Start an application's lifespan, hand out its state, and shut it down at the end.

    An application that does not know lifespan is accepted, as servers accept it, unless
    `required`.
    """
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}

    async def run() -> None:
        await app(scope, to_app.get, from_app.put)

    task = asyncio.get_running_loop().create_task(run())

    async def ask(step: str) -> bool:
        """True when the application answered; False when its call ended instead."""
        await to_app.put({"type": f"lifespan.{step}"})
        answer = asyncio.ensure_future(from_app.get())
        try:
            await asyncio.wait({task, answer}, timeout=within, return_when="FIRST_COMPLETED")
            if not answer.done():
                if not task.done():
                    raise TimeoutError(f"lifespan.{step}: no answer within {within:g} s")
                return False
            message = answer.result()
        finally:
            answer.cancel()
        if message["type"] != f"lifespan.{step}.complete":
            raise RuntimeError(f"{message['type']}: {message.get('message', '')}")
        return True

    try:
        supported = await ask("startup")
        if required and not supported:
            raise RuntimeError("the application has no lifespan") from task.exception()
        try:
            yield state
        finally:
            if supported:
                if await ask("shutdown"):
                    await asyncio.wait({task}, timeout=within)
                if task.done():
                    task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # looked at, so that nothing is reported later


def routed(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """The application with the word in the scope that a router leaves of its route."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = app
        await app(scope, receive, send)

    return answer


@dataclass(slots=True, kw_only=True)
class CounterApp:
    """Answers each request with the number of the run, so that a repeated answer shows itself.

    The body is `run 1`, `run 2`... unless `body` is set; `gate` holds the answer back until it
    is set; `runs` and `scopes` tell what arrived. It leaves its endpoint in the scope, as a
    router does.
    """

    status: int = 200
    headers: HeaderInput = ((b"content-type", b"text/plain"),)
    body: bytes | None = None
    gate: asyncio.Event | None = None
    content_length: bool = True
    runs: int = 0
    scopes: list[Scope] = field(default_factory=list[Scope])
    request_bodies: list[bytes] = field(default_factory=list[bytes])
    lifespans: list[str] = field(default_factory=list[str])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve the lifespan."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self.lifespans)
            return
        scope["endpoint"] = self
        self.runs += 1
        run = self.runs
        self.scopes.append(scope)
        self.request_bodies.append(await read_body(receive))
        if self.gate is not None:
            await self.gate.wait()
        body = b"run %d" % run if self.body is None else self.body
        headers = raw_headers(self.headers)
        if self.content_length:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass(slots=True, kw_only=True)
class StreamingApp:
    """Sends its chunks one by one, before each of them waiting for `before_chunk` if given."""

    chunks: tuple[bytes, ...] = (b"one ", b"two ", b"three")
    status: int = 200
    headers: HeaderInput = ((b"content-type", b"text/plain"),)
    before_chunk: Callable[[int], Awaitable[None]] | None = None
    closing_message: bool = True
    runs: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream one response, or serve the lifespan."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        scope["endpoint"] = self
        self.runs += 1
        headers = raw_headers(self.headers)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for number, chunk in enumerate(self.chunks):
            if self.before_chunk is not None:
                await self.before_chunk(number)
            last = number + 1 == len(self.chunks) and not self.closing_message
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
        if self.closing_message or not self.chunks:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(slots=True, kw_only=True)
class RaisingApp:
    """Raises `error` before its answer, after the start, in the body or after the body."""

    at: Literal["before", "start", "body", "end"] = "before"
    error: BaseException = field(default_factory=lambda: RuntimeError("the handler raised"))
    headers: HeaderInput = ((b"content-type", b"text/plain"),)
    runs: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go as far as `at` and raise, or serve the lifespan."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        scope["endpoint"] = self
        self.runs += 1
        headers = raw_headers(self.headers)
        steps: list[tuple[str, Message]] = [
            ("before", {"type": "http.response.start", "status": 200, "headers": headers}),
            ("start", {"type": "http.response.body", "body": b"half ", "more_body": True}),
            ("body", {"type": "http.response.body", "body": b"whole", "more_body": False}),
        ]
        for name, message in steps:
            if name == self.at:
                raise self.error
            await send(message)
        raise self.error


async def read_body(receive: Receive) -> bytes:
    """Read a request's body to its end, or to the client's hanging up."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def serve_lifespan(receive: Receive, send: Send, log: list[str] | None = None) -> None:
    """Answer startup and shutdown, noting each in `log`."""
    while True:
        step = (await receive())["type"].removeprefix("lifespan.")
        if log is not None:
            log.append(step)
        await send({"type": f"lifespan.{step}.complete"})
        if step == "shutdown":
            return


def _bytes(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
