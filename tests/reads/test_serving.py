"""How responses pass, are copied on the side, and come back from the store."""

import asyncio
import uuid
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore
from maxage.background import Background
from maxage.rfc9111.message import Headers, Request
from maxage.store.base import StoreReply
from tests.support.asgi import (
    CounterApp,
    Exchange,
    HeaderInput,
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
    routed,
)
from tests.support.caching import background_done, begun_at_once, cache_of, piece, start, status_of
from tests.support.clock import ManualClock
from tests.support.waiting import NEVER, PATIENCE

pytestmark = pytest.mark.anyio


# headers


async def test_a_hit_has_the_headers_of_the_miss_in_order_and_number() -> None:
    """Duplicates, order and the case of names are kept."""
    sent = [
        (b"Content-Type", b"text/plain"),
        (b"link", b"</a>; rel=a"),
        (b"x-one", b"1"),
        (b"Link", b"</b>; rel=b"),
        (b"x-empty", b""),
        (b"x-bytes", b"\xe4\xf6"),
        (b"content-length", b"2"),
        (b"etag", b'"v1"'),
    ]

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(*sent))
        await send(piece(b"ok"))

    middleware = cache_of(app, cache_send_date=False)
    await call(middleware)
    hit = await call(middleware)
    assert b"hit" in status_of(hit)
    assert [line for line in hit.headers if line[0] not in {b"age", b"cache-status"}] == sent


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id",
        "traceparent",
        "server-timing",
        "ratelimit-remaining",
        "x-ratelimit-limit",
        "keep-alive",
        "proxy-authenticate",
        "x-named-by-connection",
        "connection",
    ],
)
async def test_headers_of_one_exchange_are_passed_on_but_not_stored(name: str) -> None:
    """The miss has them, the hit has not; what stands beside them stays."""
    listed = "x-named-by-connection"
    headers: HeaderInput = [("connection", listed), (name, "1"), ("x-kept", "1")]
    middleware = cache_of(CounterApp(headers=headers))
    assert (await call(middleware)).header(name) is not None
    hit = await call(middleware)
    assert hit.body == b"run 1"
    assert hit.header(name) is None
    assert hit.header("x-kept") == b"1"


async def test_the_list_of_exchange_headers_is_configurable() -> None:
    """What is on it is dropped, what is no longer on it is kept."""
    headers = {"x-mine": "1", "x-request-id": "1"}
    middleware = cache_of(CounterApp(headers=headers), cache_exchange_headers=("X-Mine",))
    await call(middleware)
    hit = await call(middleware)
    assert hit.header("x-mine") is None
    assert hit.header("x-request-id") == b"1"


async def test_age_counts_whole_seconds_since_the_response_came() -> None:
    """A miss has none; a hit always has one, 0 included."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock)
    assert (await call(middleware)).header("age") is None
    for passed, age in ((0.0, b"0"), (0.9, b"0"), (0.1, b"1"), (41.0, b"42")):
        clock.advance(passed)
        assert (await call(middleware)).headers_named("age") == [age]


async def test_age_of_an_outer_origin_is_counted_on() -> None:
    """The response was 100 seconds old when it came."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(headers={"age": "100"}), clock)
    await call(middleware)
    clock.advance(5)
    assert (await call(middleware)).headers_named("age") == [b"105"]


@pytest.mark.parametrize("own", [False, True])
async def test_every_answer_has_one_date(own: bool) -> None:
    """The application's, or ours of when the response was made; the hit repeats it."""
    clock = ManualClock()
    date = "Tue, 14 Nov 2023 22:00:00 GMT"
    app = CounterApp(headers={"date": date, "cache-control": "max-age=9999"} if own else {})
    middleware = cache_of(app, clock, cache_send_date=True)
    first = await call(middleware)
    clock.advance(10)
    hit = await call(middleware)
    assert hit.body == b"run 1"
    assert len(first.headers_named("date")) == 1
    assert hit.headers_named("date") == first.headers_named("date")
    assert not own or hit.header("date") == date.encode()


async def test_no_date_of_ours_where_the_server_adds_its_own() -> None:
    """There is to be one, not two."""
    middleware = cache_of(CounterApp(), cache_send_date=False)
    for _ in range(2):
        assert (await call(middleware)).headers_named("date") == []


async def test_cache_status_tells_in_one_vocabulary_what_happened() -> None:
    """RFC 9211, a member of ours behind those of caches further inside."""
    clock = ManualClock()
    inner = {"cache-status": "inner; fwd=miss", "cache-control": "max-age=60"}
    middleware = cache_of(CounterApp(headers=inner), clock)
    assert status_of(await call(middleware)) == b"inner; fwd=miss, maxage; fwd=uri-miss; stored"
    assert status_of(await call(middleware)) == b"inner; fwd=miss, maxage; hit; ttl=60"
    assert status_of(await call(middleware, "PUT")).endswith(b", maxage; fwd=method")
    clock.advance(61)
    await call(middleware)
    clock.advance(61)
    assert b"maxage; fwd=stale" in status_of(await call(middleware))


async def test_cache_status_can_be_switched_off() -> None:
    """On misses, hits and other methods."""
    middleware = cache_of(CounterApp(), cache_status_header=False)
    for method in ("GET", "GET", "PUT"):
        assert status_of(await call(middleware, method)) == b""


# validators


async def test_an_etag_is_made_for_a_body_in_one_piece() -> None:
    """The miss has the same one as the hit, and it depends on the body."""
    middleware = cache_of(CounterApp())
    miss, hit = await call(middleware), await call(middleware)
    assert miss.header("etag") == hit.header("etag")
    assert (miss.header("etag") or b"").startswith(b'W/"')
    other = await call(middleware, path="/other")
    assert other.header("etag") != miss.header("etag")


async def test_a_streamed_miss_has_no_etag_and_its_hit_has_one() -> None:
    """Its head has left before the body is known."""
    middleware = cache_of(StreamingApp())
    assert (await call(middleware)).header("etag") is None
    hit = await call(middleware)
    assert hit.body == b"one two three"
    assert hit.header("etag") is not None


async def test_the_etag_of_the_application_stays() -> None:
    """Ours is only for those without."""
    middleware = cache_of(CounterApp(headers={"etag": '"mine"'}))
    for _ in range(2):
        assert (await call(middleware)).headers_named("etag") == [b'"mine"']


@pytest.mark.parametrize("stored", [False, True])
async def test_if_none_match_is_answered_304(stored: bool) -> None:
    """From the store, and on a miss in one piece too; never with a Content-Length."""
    app = CounterApp(body=b"same")
    etag = (await call(cache_of(app))).header("etag")
    middleware = cache_of(app)
    if stored:
        await call(middleware)
    answer = await call(middleware, headers=[("if-none-match", etag or b"")])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.header("content-length") is None
    assert answer.header("etag") == etag
    assert (await call(middleware)).body == b"same"


async def test_if_none_match_of_something_else_is_answered_whole() -> None:
    """The other side."""
    middleware = cache_of(CounterApp())
    for _ in range(2):
        answer = await call(middleware, headers={"if-none-match": '"other"'})
        assert (answer.status, answer.body) == (200, b"run 1")


async def test_a_stale_response_is_validated_and_keeps_its_groups() -> None:
    """After a 304 without its tags, a purge of a tag still reaches it."""
    clock, runs = ManualClock(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            await send(start((b"etag", b'"v"'), status=304))
            await send(piece(b""))
            return
        tags = (b"cache-tag", b"late")
        await send(start((b"etag", b'"v"'), (b"cache-control", b"max-age=60"), tags))
        await send(piece(b"body"))

    middleware = cache_of(app, clock)
    assert middleware.cache is not None
    await call(middleware)
    await call(middleware)
    clock.advance(61)
    validated = await call(middleware)
    assert (validated.status, validated.body) == (200, b"body")
    assert b"fwd=stale; fwd-status=304" in status_of(validated)
    assert b"hit" in status_of(await call(middleware))
    await middleware.cache.purger.purge(["g:late"])
    assert b"hit" not in status_of(await call(middleware))


async def test_a_304_about_something_else_is_asked_again_with_the_body_to_read() -> None:
    """The second question has no conditions, and its (empty) body can be received again."""
    clock, version = ManualClock(), [b'"1"']

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            await send(start((b"etag", b'"2"'), status=304))
            await send(piece(b""))
            return
        await send(start((b"etag", version[0]), (b"cache-control", b"max-age=60")))
        await send(piece(b"version " + version[0]))

    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    version[0] = b'"2"'
    answer = await call(middleware)
    assert (answer.status, answer.body) == (200, b'version "2"')


# HEAD


async def test_head_is_answered_from_a_stored_get_where_the_route_answers_head() -> None:
    """Starlette's routes do: the same head, without the body."""
    runs = []

    async def read(request: Any) -> PlainTextResponse:
        runs.append(request.method)
        return PlainTextResponse("hello")

    middleware = cache_of(Starlette(routes=[Route("/x", read)]))
    miss = await call(middleware, "HEAD")
    assert miss.status == 200
    await call(middleware)
    hit = await call(middleware, "HEAD")
    assert runs == ["HEAD", "GET"]
    assert (hit.status, hit.body, hit.header("content-length")) == (200, b"", b"5")
    assert b"hit" in status_of(hit)


async def test_head_of_a_fastapi_get_route_stays_405() -> None:
    """The cache does not add a method that the route does not have."""
    app = FastAPI()

    @app.get("/x")
    def read() -> str:
        return "hello"

    middleware = cache_of(app)
    await call(middleware)
    assert (await call(middleware, "HEAD")).status == 405
    assert (await call(middleware)).body == b'"hello"'


async def test_a_head_is_never_stored_as_a_get() -> None:
    """Its body is missing."""
    app = CounterApp()
    middleware = cache_of(app)
    await call(middleware, "HEAD")
    assert (await call(middleware)).body == b"run 2"


# variants


class VaryApp:
    """Answers by Accept-Language and says so."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the language asked for."""
        scope["endpoint"] = self
        self.runs += 1
        asked = dict(scope["headers"]).get(b"accept-language", b"none")
        await send(start((b"vary", b"Accept-Language"), (b"content-language", asked)))
        await send(piece(asked))


async def test_variants_are_kept_apart_and_together() -> None:
    """Each is a hit afterwards, and one without the header is a variant too."""
    app = VaryApp()
    middleware = cache_of(app)
    asked: list[dict[str, str]] = [{"accept-language": "de"}, {"accept-language": "en"}, {}]
    for _ in range(3):
        for headers in asked:
            answer = await call(middleware, headers=headers)
            assert answer.body.decode() == headers.get("accept-language", "none")
    assert app.runs == 3


async def test_a_missing_variant_says_vary_miss() -> None:
    """The URL is stored, the variant is not."""
    middleware = cache_of(VaryApp())
    await call(middleware, headers={"accept-language": "de"})
    second = await call(middleware, headers={"accept-language": "en"})
    assert b"fwd=vary-miss" in status_of(second)


async def test_the_variants_of_one_url_are_bounded() -> None:
    """The oldest make room; those within the bound stay."""
    app = VaryApp()
    middleware = cache_of(app, cache_max_variants=2)
    assert middleware.cache is not None
    for language in ("a", "b", "c"):
        await call(middleware, headers={"accept-language": language})
        await background_done(middleware)
    for language, runs in (("b", 3), ("c", 3), ("a", 4)):
        await call(middleware, headers={"accept-language": language})
        assert app.runs == runs, language


async def test_a_gzip_variant_never_reaches_a_client_that_cannot_read_it() -> None:
    """Outside of a compressing layer both kinds of clients get their own."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        zipped = b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b"")
        coding = [(b"content-encoding", b"gzip")] if zipped else []
        await send(start((b"vary", b"Accept-Encoding"), *coding))
        await send(piece(b"\x1f\x8b" if zipped else b"plain"))

    middleware = cache_of(app)
    for _ in range(2):
        zipped = await call(middleware, headers={"accept-encoding": "gzip, br"})
        assert zipped.body == b"\x1f\x8b"
        assert (await call(middleware)).body == b"plain"


# passing on


async def test_the_first_piece_passes_before_the_second_is_made() -> None:
    """A miss never waits for the cache."""
    gate = asyncio.Event()

    async def before(number: int) -> None:
        if number == 1:
            await gate.wait()

    middleware = cache_of(StreamingApp(before_chunk=before))
    exchange = Exchange(middleware, http_scope()).start()
    await exchange.wait_sent(2)
    assert exchange.recorded.chunks == [b"one "]
    assert not exchange.recorded.complete
    gate.set()
    answer = await exchange.finish()
    assert answer.chunks == [b"one ", b"two ", b"three", b""]
    assert (await call(middleware)).body == b"one two three"


async def test_a_fill_is_found_before_its_last_byte_leaves() -> None:
    """The client's next request may come as soon as it has the last byte."""
    app, answers = CounterApp(), []

    async def ask_again(number: int, message: Message) -> None:
        if message["type"] == "http.response.body":
            answers.append((await call(middleware)).body)

    middleware = cache_of(app)
    await call(middleware, on_send=ask_again)
    assert answers == [b"run 1"]


async def test_a_fill_is_found_while_it_waits_to_be_written() -> None:
    """A slow store delays no request: the same worker serves from where the response waits."""
    gate, store = asyncio.Event(), MemoryStore()

    class SlowStore:
        shared, keeps_objects, near = True, True, None
        authority = store
        open, close, read = store.open, store.close, store.read
        renew, delete, mutating = store.renew, store.delete, store.mutating
        claim, write = store.claim, store.write

        async def write_all(self, writings: Any) -> bool:
            await gate.wait()
            return await store.write_all(writings)

    app = CounterApp()
    middleware = CacheMiddleware(app, CacheSettings(), store=SlowStore())
    for _ in range(3):
        assert (await call(middleware)).body == b"run 1"
    await call(middleware, "PUT")
    assert (await call(middleware)).body == b"run 3"
    gate.set()
    await background_done(middleware)
    assert (await call(middleware)).body == b"run 3"


async def test_tasks_that_begin_at_once_hold_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of `asyncio.eager_task_factory`: what is written is let go."""
    monkeypatch.setattr(Background, "spawn", staticmethod(begun_at_once))
    middleware = cache_of(CounterApp())
    assert middleware.cache is not None
    await call(middleware)
    await asyncio.sleep(0)
    assert len(middleware.cache.pending_writes) == 0
    assert b"hit" in status_of(await call(middleware))


async def test_responses_of_one_turn_are_written_together_and_none_takes_another_with_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of them belongs to a group that cannot be encoded."""
    settings = CacheSettings(redis_url=redis_url, cache_namespace=f"t{uuid.uuid4().hex[:12]}")
    store = RedisStore(redis_url, settings)
    middleware = CacheMiddleware(CounterApp(), settings, store=store)
    sent: list[int] = []
    write_all = store.write_all

    async def counting(writings: Any) -> bool:
        sent.append(len(writings))
        return await write_all(writings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_all", counting)
        asked = (("/one", b"/one"), ("/two", b"/two"), ("/\udc80", b"/%80"))
        await asyncio.gather(*(call(middleware, path=p, raw_path=raw) for p, raw in asked))
        await background_done(middleware)
    assert sent == [2]
    assert "could not be encoded" in caplog.text
    assert middleware.cache is not None
    assert len(middleware.cache.pending_writes) == 0
    for path in ("/one", "/two"):
        assert b"hit" in status_of(await call(middleware, path=path))
    await middleware.aclose()


@pytest.mark.parametrize("at", ["before", "start", "body", "end"])
async def test_a_handler_that_raises_leaves_nothing_half_done(at: Any) -> None:
    """The response of a failed call is not stored, even where all of it was sent before."""
    app = RaisingApp(at=at)
    middleware = cache_of(app)
    for _ in range(2):
        recorded = await call(middleware, raises=False)
        assert isinstance(recorded.exception, RuntimeError)
    assert app.runs == 2


async def test_copies_of_cut_bodies_are_given_back() -> None:
    """Else after some failures there would be no room for copies any more."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"x" * 60, more=scope["path"] == "/cut"))
        if scope["path"] == "/cut":
            raise RuntimeError("half way")

    middleware = cache_of(app, cache_pending_bytes=100)
    for _ in range(3):
        await call(middleware, path="/cut", raises=False)
    await call(middleware)
    assert b"hit" in status_of(await call(middleware))


@pytest.mark.parametrize(("declared", "stored"), [(4, False), (5, True), (6, False)])
async def test_a_body_that_is_not_as_long_as_declared_is_not_stored(
    declared: int, stored: bool
) -> None:
    """It was cut, or its head is wrong."""
    runs = [0]

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        await send(start((b"content-length", b"%d" % declared)))
        await send(piece(b"12", more=True))
        await send(piece(b"345"))

    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware)).body == b"12345"
    assert runs[0] == (1 if stored else 2)


async def test_a_response_without_its_last_piece_is_not_stored() -> None:
    """The application returned half way without an error."""
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        await send(start())
        await send(piece(b"half", more=True))

    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware)).chunks == [b"half"]
    assert runs[0] == 2


async def test_a_client_that_hangs_up_half_way_leaves_nothing_cut() -> None:
    """Starlette ends the stream; the next client gets all of it."""
    never = asyncio.Event()
    runs = [0]

    async def stream(request: Any) -> StreamingResponse:
        runs[0] += 1

        async def pieces() -> Any:
            yield "one "
            if runs[0] == 1:
                await never.wait()
            yield "two"

        return StreamingResponse(pieces())

    middleware = cache_of(Starlette(routes=[Route("/x", stream)]))
    scope = http_scope(asgi={"version": "3.0", "spec_version": "2.3"})
    exchange = Exchange(middleware, scope).start()
    await exchange.wait_sent(2)
    exchange.disconnect()
    await exchange.finish()
    for _ in range(2):
        assert (await call(middleware)).body == b"one two"
    assert runs[0] == 2


async def test_trailers_are_passed_on_and_the_response_is_not_stored() -> None:
    """They would be lost on a hit."""
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        await send(start() | {"trailers": True})
        await send(piece(b"x"))
        await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})

    middleware = cache_of(app)
    for _ in range(2):
        answer = await call(middleware)
        assert answer.messages[-1]["type"] == "http.response.trailers"
    assert runs[0] == 2


async def test_a_file_sent_by_the_server_passes_through_uncopied() -> None:
    """The message goes on as it is, after the head, and nothing is stored."""
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        await send(start((b"content-length", b"5")))
        await send({"type": "http.response.pathsend", "path": "/tmp/file"})

    middleware = cache_of(app)
    for _ in range(2):
        answer = await call(middleware, extensions={"http.response.pathsend": {}})
        kinds = [message["type"] for message in answer.messages]
        assert kinds == ["http.response.start", "http.response.pathsend"]
    assert runs[0] == 2


@pytest.mark.parametrize("length", [(), ((b"content-length", b"7"),)])
async def test_a_thread_of_the_application_may_send(
    length: tuple[tuple[bytes, bytes], ...],
) -> None:
    """It makes its messages outside of the event loop, which sends them."""
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        runs[0] += 1

        def send_soon(message: Message) -> None:
            sending: Any = send(message)
            asyncio.run_coroutine_threadsafe(sending, loop).result(PATIENCE)

        def work() -> None:
            send_soon(start((b"cache-control", b"max-age=60"), *length))
            send_soon(piece(b"one ", more=True))
            send_soon(piece(b"two"))

        await asyncio.to_thread(work)

    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware)).body == b"one two"
    assert runs[0] == 1


async def test_websockets_and_lifespan_pass_through() -> None:
    """The application gets them as the server sent them."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["type"], await receive()))
        await send({"type": "websocket.accept"})

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await cache_of(app)({"type": "websocket", "path": "/x"}, receive, send)
    assert seen == [("websocket", {"type": "websocket.connect"})]
    assert sent == [{"type": "websocket.accept"}]
    counter = CounterApp()
    async with lifespan(cache_of(counter), required=True):
        pass
    assert counter.lifespans == ["startup", "shutdown"]


# limits


@pytest.mark.parametrize(("size", "stored"), [(100, True), (101, False)])
@pytest.mark.parametrize("declared", [False, True])
async def test_bodies_over_the_limit_pass_and_are_not_stored(
    size: int, stored: bool, declared: bool
) -> None:
    """Declared or not."""
    app = CounterApp(body=b"x" * size, content_length=declared)
    middleware = cache_of(app, cache_max_body_bytes=100)
    for _ in range(2):
        assert (await call(middleware)).body == b"x" * size
    assert app.runs == (1 if stored else 2)


@pytest.mark.parametrize(("size", "stored"), [(90, True), (91, False)])
async def test_headers_over_the_limit_are_not_stored(size: int, stored: bool) -> None:
    """Names and values count together."""
    app = CounterApp(headers={"x-big12345": "v" * size}, content_length=False)
    middleware = cache_of(app, cache_max_header_bytes=100)
    for _ in range(2):
        await call(middleware)
    assert app.runs == (1 if stored else 2)


async def test_without_room_for_a_copy_the_response_passes_all_the_same() -> None:
    """The memory for copies under way is bounded."""
    app = CounterApp(body=b"x" * 200)
    middleware = cache_of(app, cache_pending_bytes=100)
    for _ in range(2):
        assert (await call(middleware)).body == b"x" * 200
    assert app.runs == 2


# single flight


async def all_waiting(middleware: CacheMiddleware, count: int, **request: Any) -> list[Exchange]:
    """Start so many equal requests and let them get as far as they can."""
    exchanges = [Exchange(middleware, http_scope(**request)).start() for _ in range(count)]
    for _ in range(20):
        await asyncio.sleep(0)
    return exchanges


async def test_200_requests_at_once_run_the_handler_once() -> None:
    """And 199 of them say that they were collapsed."""
    app = CounterApp(gate=asyncio.Event())
    middleware = cache_of(app)
    exchanges = await all_waiting(middleware, 200)
    assert app.runs == 1
    assert app.gate is not None
    app.gate.set()
    answers = [await exchange.finish() for exchange in exchanges]
    assert {answer.body for answer in answers} == {b"run 1"}
    assert app.runs == 1
    assert sum(b"collapsed" in status_of(answer) for answer in answers) == 199


async def test_requests_with_credentials_are_not_collapsed() -> None:
    """No request waits for, or gets, another user's answer."""
    app = CounterApp(gate=asyncio.Event())
    middleware = cache_of(app)
    scopes = [http_scope(headers={"authorization": name}) for name in ("ann", "bob")]
    exchanges = [Exchange(middleware, scope).start() for scope in scopes]
    for _ in range(20):
        await asyncio.sleep(0)
    assert app.runs == 2
    assert app.gate is not None
    app.gate.set()
    assert {(await e.finish()).body for e in exchanges} == {b"run 2"} or app.runs == 2


async def test_an_uncacheable_response_is_not_shared_and_its_followers_run_together() -> None:
    """They have waited once for the head; after that no request waits for another."""
    barrier = asyncio.Barrier(9)
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        own = b"%d" % runs[0]
        if runs[0] > 1:
            async with asyncio.timeout(PATIENCE):
                await barrier.wait()  # reached only if nine run at the same time
        await send(start((b"cache-control", b"no-store")))
        await send(piece(own))

    middleware = cache_of(app, cache_collapse_wait=NEVER)
    exchanges = await all_waiting(middleware, 10)
    bodies = [(await exchange.finish()).body for exchange in exchanges]
    assert len(set(bodies)) == 10
    again = [Exchange(middleware, http_scope()).start() for _ in range(9)]
    assert len({(await exchange.finish()).body for exchange in again}) == 9


async def test_a_body_that_gets_too_long_frees_those_who_wait_for_it_at_once() -> None:
    """They do not wait for the end of what they will not get."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"x" * 200, more=True))
        await gate.wait()
        await send(piece(b"end"))

    middleware = cache_of(app, cache_max_body_bytes=100, cache_collapse_wait=NEVER)
    exchanges = await all_waiting(middleware, 3)
    await asyncio.gather(*(exchange.wait_sent(2) for exchange in exchanges))
    gate.set()
    for exchange in exchanges:
        assert (await exchange.finish()).body == b"x" * 200 + b"end"


@pytest.mark.parametrize("end", ["cancel", "raise"])
async def test_when_the_leader_fails_one_of_the_followers_takes_its_place(end: str) -> None:
    """No request waits for the dead one, and the handler runs once more, not once for each."""
    gates, runs = [asyncio.Event(), asyncio.Event()], [0]

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        run = runs[0]
        await gates[run - 1].wait()
        if run == 1:
            raise RuntimeError("the leader fails")
        await send(start())
        await send(piece(b"run %d" % run))

    middleware = cache_of(app)
    leader, *followers = await all_waiting(middleware, 20)
    if end == "cancel":
        leader.cancel()
    gates[0].set()
    await leader.finish()
    for _ in range(20):
        await asyncio.sleep(0)
    gates[1].set()
    answers = [await follower.finish() for follower in followers]
    assert {answer.body for answer in answers} == {b"run 2"}
    assert runs[0] == 2


async def test_a_follower_that_is_cancelled_harms_no_other() -> None:
    """The leader and the others go on."""
    app = CounterApp(gate=asyncio.Event())
    middleware = cache_of(app)
    leader, gone, other = await all_waiting(middleware, 3)
    gone.cancel()
    await gone.finish()
    assert app.gate is not None
    app.gate.set()
    assert (await leader.finish()).body == (await other.finish()).body == b"run 1"
    assert app.runs == 1


async def test_a_follower_waits_no_longer_than_the_setting() -> None:
    """A leader that hangs delays others by so much, once."""
    gate = asyncio.Event()
    runs = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        if runs[0] == 1:
            await gate.wait()
        await send(start())
        await send(piece(b"answer"))

    middleware = cache_of(app, cache_collapse_wait=0.05)
    (leader,) = await all_waiting(middleware, 1)
    assert (await call(middleware, within=4)).body == b"answer"  # 5 s by default
    gate.set()
    await leader.finish()


async def test_a_stream_that_never_ends_keeps_only_the_first_waiting() -> None:
    """After one wait in vain, later requests ask at once, until a fill is in time again."""
    gate, heads = asyncio.Event(), [0]

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heads[0] += 1
        await send(start())
        await send(piece(b"first ", more=True))
        await gate.wait()
        await send(piece(b"last"))

    middleware = cache_of(app, cache_collapse_wait=0.05)
    exchanges = await all_waiting(middleware, 3)
    for exchange in exchanges:
        await exchange.wait_sent(2)
    exchanges += await all_waiting(middleware, 5)
    assert heads[0] == 8
    gate.set()
    for exchange in exchanges:
        assert (await exchange.finish()).body == b"first last"
    assert (await call(middleware)).body == b"first last"
    assert heads[0] == 8


@pytest.mark.parametrize("seconds", [4.9, 5.0])
async def test_after_a_fill_in_time_requests_wait_for_each_other_again(seconds: float) -> None:
    """A fill that took as long as the wait shows nothing better."""
    clock = ManualClock()

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.advance(seconds)
        await send(start())
        await send(piece(b"x"))

    middleware = cache_of(app, clock)
    cache = middleware.cache
    assert cache is not None
    target = middleware.service.targets.find(http_scope(), Headers())
    target.waited_in_vain()
    assert not cache.may_collapse(target, Request(method="GET"))
    await call(middleware)
    host = Headers.copied([(b"host", b"testserver")])
    target = middleware.service.targets.find(http_scope(), host)
    target.waited_in_vain()
    await call(middleware, headers={"cache-control": "no-cache"})
    assert cache.may_collapse(target, Request(method="GET")) is (seconds < 5)


async def test_followers_of_another_variant_are_answered_by_their_own() -> None:
    """The leader's response is not for them; one of them asks for the others."""
    gate, runs = asyncio.Event(), []

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"])[b"accept-language"]
        runs.append(asked)
        await gate.wait()
        await send(start((b"vary", b"accept-language")))
        await send(piece(asked))

    middleware = cache_of(app)
    german = await all_waiting(middleware, 5, headers={"accept-language": "de"})
    english = await all_waiting(middleware, 5, headers={"accept-language": "en"})
    gate.set()
    assert {(await exchange.finish()).body for exchange in german} == {b"de"}
    assert {(await exchange.finish()).body for exchange in english} == {b"en"}
    assert sorted(runs) == [b"de", b"en"]


async def test_one_client_that_asks_for_no_store_does_not_end_collapsing_for_others() -> None:
    """Only what a response says makes a URL uncacheable."""
    app = CounterApp()
    middleware = cache_of(app)
    await call(middleware, headers={"cache-control": "no-store"})
    app.gate = asyncio.Event()
    exchanges = await all_waiting(middleware, 5)
    assert app.runs == 2
    app.gate.set()
    assert {(await exchange.finish()).body for exchange in exchanges} == {b"run 2"}


async def test_a_lookup_that_hangs_up_in_the_store_is_an_ordinary_miss_for_the_handler() -> None:
    """A store that says it is away is not asked twice."""

    class Away:
        shared = True
        authority, near = object(), None
        reads = 0

        async def read(self, keys: Any, groups: Any, wanted: Any = None) -> StoreReply:
            from maxage import StoreUnavailableError

            self.reads += 1
            raise StoreUnavailableError

        async def renew(self, groups: Any) -> Any:
            raise AssertionError("a GET purges nothing")

    store = Away()
    app = CounterApp()
    middleware = CacheMiddleware(app, CacheSettings(), store=store)
    answer = await call(middleware)
    assert answer.body == b"run 1"
    assert b"fwd=bypass; detail=store-away" in status_of(answer)
    assert store.reads == 1


async def test_an_answer_cut_short_for_a_client_that_hung_up_is_not_stored() -> None:
    """Starlette's documented pattern: stop when `is_disconnected()`, and answer what there is."""
    rows = [20]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if rows.pop(0) == 6:
            await receive()  # http.disconnect
            body = b"6 of 20"
        else:
            body = b"20 of 20"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    rows[:] = [6, 20]
    middleware = cache_of(app)
    await call(middleware, disconnect_after=0)
    assert (await call(middleware)).body == b"20 of 20"
