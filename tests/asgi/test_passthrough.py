"""What the cache has no business with passes through untouched: ASGI extensions, odd messages."""

from typing import Any

import pytest

from maxage import apurge
from tests.support.asgi import Message, Receive, Scope, Send, call, routed
from tests.support.caching import cache_of, piece, start, status_of

pytestmark = pytest.mark.anyio

BEFORE: list[Message] = [
    {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]},
    {"type": "http.response.debug", "info": {"template": "x"}},
    {"type": "x.unheard.of", "anything": object()},
]
BETWEEN: list[Message] = [
    {"type": "http.response.push", "path": "/style.css", "headers": []},
    {"type": "x.unheard.of", "anything": object()},
]
INSTEAD: list[Message] = [
    {"type": "http.response.pathsend", "path": "/tmp/x"},
    {"type": "http.response.zerocopysend", "file": 3, "count": 5},
]


def sending(*messages: Message) -> Any:
    """An application that sends these, and counts its runs."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = app
        app.runs += 1  # type: ignore[attr-defined]
        for message in messages:
            await send(dict(message))

    app.runs = 0  # type: ignore[attr-defined]
    return app


def without_start(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["type"] != "http.response.start"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "BREW"])
@pytest.mark.parametrize("message", BEFORE, ids=lambda message: message["type"])
async def test_messages_before_the_answer_pass_in_their_place(
    method: str, message: Message
) -> None:
    """Early hints (103), what test clients ask for, and unknown messages."""
    app = sending(message, start((b"content-length", b"1")), piece(b"x"))
    answer = await call(cache_of(app), method)
    assert answer.messages[0] == message
    assert answer.body == b"x"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "BREW"])
@pytest.mark.parametrize("message", BETWEEN, ids=lambda message: message["type"])
async def test_messages_between_head_and_body_stay_there(method: str, message: Message) -> None:
    """Also where the head waits for the body, to be given a validator."""
    app = sending(start((b"content-length", b"1")), message, piece(b"x"))
    answer = await call(cache_of(app), method)
    assert [one["type"] for one in answer.messages] == [
        "http.response.start",
        message["type"],
        "http.response.body",
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "BREW"])
@pytest.mark.parametrize("message", INSTEAD, ids=lambda message: message["type"])
async def test_bodies_that_the_server_sends_itself_pass_and_are_not_stored(
    method: str, message: Message
) -> None:
    """There is nothing to copy."""
    app = sending(start((b"content-length", b"5")), message)
    middleware = cache_of(app)
    for _ in range(2):
        assert without_start((await call(middleware, method)).messages) == [message]
    assert app.runs == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "BREW"])
async def test_trailers_pass(method: str) -> None:
    """A response with trailers is not stored, since a hit could not repeat them."""
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    app = sending(start() | {"trailers": True}, piece(b"x"), trailers)
    middleware = cache_of(app)
    for _ in range(2):
        answer = await call(middleware, method)
        assert answer.messages[0]["trailers"] is True
        assert answer.messages[-1] == trailers
    assert app.runs == 2


async def test_the_scope_reaches_the_application_as_the_server_made_it() -> None:
    """The same object where nothing has to be changed in it."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(start())
        await send(piece(b"x"))

    await call(cache_of(app), state={"a": 1}, extensions={"tls": {}, "x.unheard.of": {}})
    assert seen[0]["state"] == {"a": 1}
    assert seen[0]["extensions"] == {"tls": {}, "x.unheard.of": {}}


@pytest.mark.parametrize("status", [100, 199, 600, 999])
async def test_a_status_that_no_response_can_have_passes_and_is_not_stored(status: int) -> None:
    """It is the server's business to refuse it."""
    app = sending(start((b"cache-control", b"max-age=60"), status=status), piece(b"x"))
    middleware = cache_of(app)
    for _ in range(2):
        answer = await call(middleware)
        assert (answer.status, status_of(answer)) == (
            status,
            b"maxage; fwd=uri-miss; detail=status",
        )
    assert app.runs == 2


async def test_messages_may_leave_out_what_asgi_lets_them() -> None:
    """No headers, no body, no `more_body`."""
    app = sending({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware)).body == b""
    assert app.runs == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bodies_and_headers_may_be_any_kind_of_bytes(kind: Any) -> None:
    """What is stored is a copy: the application may go on using its buffer."""
    buffer = bytearray(b"first")

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200}
        await send({**head, "headers": [[bytearray(b"x-list"), bytearray(b"1")]]})
        await send(piece(kind(buffer)))
        buffer[:] = b"other"

    middleware = cache_of(app)
    await call(middleware)
    hit = await call(middleware)
    assert (hit.body, hit.header("x-list")) == (b"first", b"1")


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_headers_of_what_is_passed_on_may_be_any_kind_of_bytes(method: str) -> None:
    head = {"type": "http.response.start", "status": 200}
    lines = [[bytearray(b"Cache-Control"), bytearray(b"no-store")], [b"x-list", b"1"]]
    app = sending({**head, "headers": lines}, piece(b"new"))
    middleware = cache_of(app)
    for _ in range(3):
        answer = await call(middleware, method=method)
        assert (answer.body, answer.header("x-list")) == (b"new", b"1")
        assert answer.header("cache-control") == b"no-store"
    assert app.runs == 3


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_the_field_for_this_cache_alone_is_removed_whatever_bytes_name_it(
    method: str,
) -> None:
    """Again, when the URL is known to be unstorable."""
    lines = [[bytearray(b"MaxAge-Cache-Control"), bytearray(b"no-store")], [b"x-list", b"1"]]
    middleware = cache_of(sending({**start(), "headers": lines}, piece(b"x")))
    for _ in range(3):
        answer = await call(middleware, method)
        names = {bytes(name).lower() for name, _ in answer.messages[0]["headers"]}
        assert (b"maxage-cache-control" in names, b"x-list" in names) == (False, True)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "QUERY"])
@pytest.mark.parametrize("dated", [False, True])
async def test_answers_of_which_nothing_is_stored_leave_like_others(
    method: str, *, dated: bool
) -> None:
    """Without the field for this cache alone, and with a Date where the server adds none."""
    app = sending(start((b"MaxAge-Cache-Control", b"max-age=5")), piece(b"x"))
    answer = await call(cache_of(app, cache_send_date=dated), method)
    assert [name for name, _ in answer.messages[0]["headers"]] == [b"date"] * dated


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_a_purge_in_the_handler_of_such_a_method_takes_effect(method: str) -> None:
    """By hand: the request itself purges nothing."""
    runs = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal runs
        runs += 1
        scope["endpoint"] = app
        if scope["method"] != "GET":
            assert await apurge("/x")
        await send(start((b"cache-control", b"max-age=60")))
        await send(piece(b"%d" % runs))

    middleware = cache_of(app)
    assert (await call(middleware)).body == (await call(middleware)).body
    await call(middleware, method)
    assert (await call(middleware)).body == b"3"
