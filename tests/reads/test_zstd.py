"""`CACHE_COMPRESS`: bodies are compressed once, at storing, and sent like that to who takes it."""

import asyncio
import gzip
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.middleware.gzip import GZipMiddleware

from maxage import CacheMiddleware, CacheSettings, MemoryStore, zstd
from maxage.cache import pending_writes
from maxage.explain.stored import StoredEntry, shelf_of, stored_at, stored_in
from maxage.redis_store.near.near_cache import NearCache
from maxage.rfc9111 import content_coding
from maxage.rfc9111.message import StoredResponse
from maxage.store.codec import Codec
from maxage.store.entry import Entry
from tests.support.asgi import Receive, Recorded, Scope, Send, call, read_body
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio

ITEMS = [
    {"id": n, "name": f"Item {n}", "price": n * 7 % 100 + 0.99, "in_stock": n % 3 > 0,
     "description": f"The {n}th of many, which differs in what {n * 31 % 1000} says."}
    for n in range(262)
]  # fmt: skip
PAGE = msgspec.json.encode(ITEMS)
"""A page of JSON of 32 KB."""
TAKES = {"zstd": "gzip, deflate, br, zstd", "plain": "gzip, deflate, br"}


class App:
    """Answers with a page of JSON, and a number of its run where it is asked for."""

    def __init__(self, *lines: tuple[bytes, bytes], body: bytes = PAGE) -> None:
        self.lines = lines or ((b"etag", b'"v1"'),)
        self.body = body
        self.runs = 0
        self.status = 200
        self.conditions: list[bytes | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        self.runs += 1
        condition = dict(scope["headers"]).get(b"if-none-match")
        self.conditions.append(condition)
        lines = [(b"cache-control", b"max-age=60, stale-while-revalidate=30"), *self.lines]
        if condition in {b'"v1"', b'W/"v1"'}:
            await send(start(*lines, status=304))
            await send(piece(b""))
            return
        await send(start((b"content-type", b"application/json"), *lines, status=self.status))
        await send(piece(self.body[:1000], more=True))
        await send(piece(self.body[1000:]))


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was compressed."""
    sizes: list[int] = []

    def counted(body: bytes) -> bytes:
        sizes.append(len(body))
        return zstd.compress(body)

    monkeypatch.setattr(content_coding, "compress", counted)
    return sizes


def settings_for(url: str | None, near: str | None = None, **more: Any) -> CacheSettings:
    """Settings with a namespace of their own, and budgets for a busy machine."""
    values: dict[str, Any] = {
        "redis_url": url,
        "cache_compress": True,
        "cache_namespace": f"zstd{uuid.uuid4().hex[:8]}",
        "cache_near_bytes": 0 if near is None else 4_000_000,
        "cache_near": near or "exact",
        "cache_read_budget": 5.0,
        "cache_write_budget": 5.0,
    }
    return CacheSettings(**(values | more))


WHERE = ["memory", "redis", "exact", "prompt"]


@pytest.fixture(params=WHERE)
async def site(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Make a middleware on each store, ready for hits."""
    made: list[CacheMiddleware] = []

    async def make(app: Any, **settings: Any) -> CacheMiddleware:
        near = request.param if request.param in {"exact", "prompt"} else None
        url = None if request.param == "memory" else redis_url
        store = MemoryStore() if url is None else None
        middleware = CacheMiddleware(app, settings_for(url, near, **settings), store=store)
        assert middleware.cache is not None
        await middleware.cache.open()
        copies = middleware.cache.store.near
        if isinstance(copies, NearCache):
            await eventually(lambda: copies._usable(copies._clock()))
        made.append(middleware)
        return middleware

    yield make
    for middleware in made:
        await middleware.aclose()


async def ask(middleware: Any, takes: str = "zstd", method: str = "GET", **lines: str) -> Recorded:
    named = {name.replace("_", "-"): value for name, value in lines.items()}
    headers = {"accept-encoding": TAKES[takes]} | named
    return await call(middleware, method, "/items", headers=headers)


def text_of(answer: Recorded) -> bytes:
    """The body as a client reads it, if the headers fit it."""
    length = answer.header("content-length")
    if not answer.body:
        return b""
    assert length is None or length == b"%d" % len(answer.body)
    if answer.header("content-encoding") == b"zstd":
        return zstd.decompress(answer.body, len(PAGE))
    return answer.body


# --- Hits -------------------------------------------------------------------------------------


async def test_a_body_is_compressed_once_and_each_client_gets_what_it_takes(
    site: Callable[..., Any], compressions: list[int]
) -> None:
    """The first answer is the application's own; both representations vary, with their tags."""
    app = App()
    middleware = await site(app)
    first = await ask(middleware)
    assert (first.body, first.header("content-encoding")) == (PAGE, None)
    assert (first.header("etag"), first.header("vary")) == (b'"v1"', b"Accept-Encoding")
    await background_done(middleware)
    for _ in range(3):
        for takes in TAKES:
            answer = await ask(middleware, takes)
            assert b"hit" in status_of(answer)
            assert text_of(answer) == PAGE
            assert answer.headers_named("vary") == [b"Accept-Encoding"]
            coded = takes == "zstd"
            assert (answer.header("content-encoding") == b"zstd") is coded
            assert answer.header("etag") == (b'W/"v1"' if coded else b'"v1"')
            assert len(answer.body) == len(PAGE) or len(answer.body) * 4 < len(PAGE)
    assert (app.runs, compressions) == (1, [len(PAGE)])


async def test_conditions_heads_and_ranges_are_answered_from_it(site: Callable[..., Any]) -> None:
    """For each representation, from the store and from the near cache."""
    app = App()
    middleware = await site(app)
    await ask(middleware)
    await background_done(middleware)
    for _ in range(3):
        for takes in TAKES:
            whole = await ask(middleware, takes)
            head = await ask(middleware, takes, "HEAD")
            assert head.headers == whole.headers
            assert head.body == b""
            for tag in ('"v1"', 'W/"v1"'):
                same = await ask(middleware, takes, if_none_match=tag)
                assert (same.status, same.body) == (304, b"")
                assert same.header("etag") == whole.header("etag")
                assert same.header("vary") == b"Accept-Encoding"
                assert same.header("content-encoding") is None
            other = await ask(middleware, takes, if_none_match='"v0"')
            assert (other.status, other.body) == (200, whole.body)
            part = await ask(middleware, takes, range="bytes=5-9", if_range='"v1"')
            assert (part.status, part.body) == (206, PAGE[5:10])
            plain = await ask(middleware, takes, cache_control="no-transform")
            assert (plain.body, plain.header("content-encoding")) == (PAGE, None)
    assert app.runs == 1


async def test_concurrent_hits_share_a_lookup_and_not_a_representation(
    site: Callable[..., Any],
) -> None:
    """All lookups of a turn have one result, which suits each of their clients."""
    middleware = await site(App())
    await ask(middleware)
    await background_done(middleware)
    for _ in range(3):
        takes = [*TAKES] * 4
        answers = await asyncio.gather(*(ask(middleware, one) for one in takes))
        for one, answer in zip(takes, answers, strict=True):
            assert (answer.header("content-encoding") == b"zstd") is (one == "zstd")
            assert text_of(answer) == PAGE


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ((b"content-encoding", b"gzip"), gzip.compress(PAGE)),
        ((b"cache-control", b"no-transform"), PAGE),
        ((b"etag", b'"v1"'), PAGE[:1023]),
        ((b"repr-digest", b"sha-256=:AA==:"), PAGE),
    ],
    ids=["encoded", "no-transform", "short", "digest"],
)
async def test_what_stays_as_it_is_has_the_headers_of_before(
    site: Callable[..., Any], compressions: list[int], line: tuple[bytes, bytes], body: bytes
) -> None:
    """No Vary, no weak tag: nothing was done to it."""
    middleware = await site(App(line, (b"content-length", b"%d" % len(body)), body=body))
    for _ in range(3):
        answer = await ask(middleware)
        await background_done(middleware)
        assert answer.body == body
        assert answer.headers_named("vary") == []
        assert [line] == [(line[0], value) for value in answer.headers_named(line[0])][-1:]
    assert compressions == []


async def test_noise_is_stored_as_it_is(site: Callable[..., Any], compressions: list[int]) -> None:
    """Compression is tried once, and does not pay."""
    noise = uuid.uuid4().bytes * 3 + b"".join(uuid.uuid4().bytes for _ in range(200))
    middleware = await site(App(body=noise))
    for takes in ("zstd", "zstd", "plain"):
        answer = await ask(middleware, takes)
        await background_done(middleware)
        assert (answer.body, answer.header("content-encoding")) == (noise, None)
    assert compressions == [len(noise)]


async def test_a_long_body_is_compressed_outside_of_the_event_loop(
    site: Callable[..., Any],
) -> None:
    """And found meanwhile."""
    long = PAGE * 8
    app = App(body=long)
    middleware = await site(app)
    await ask(middleware)
    assert (await ask(middleware, "plain")).body == long
    await background_done(middleware)
    answer = await ask(middleware)
    assert answer.header("content-encoding") == b"zstd"
    assert zstd.decompress(answer.body, len(long)) == long
    assert app.runs == 1


async def test_a_body_that_is_replaced_while_it_is_compressed_is_forgotten(
    site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later response stays, which was written meanwhile."""
    goes_on = threading.Event()

    def slowly(stored: StoredResponse) -> StoredResponse:
        assert goes_on.wait(PATIENCE)
        return content_coding.compressed(stored)

    monkeypatch.setattr(pending_writes, "compressed", slowly)
    app = App((b"x-version", b"1"), body=PAGE * 8)
    middleware = await site(app)
    await ask(middleware)
    app.body = b"the later one"
    await ask(middleware, cache_control="no-cache")
    assert middleware.cache is not None
    await eventually(lambda: not len(middleware.cache.pending_writes))
    goes_on.set()
    await background_done(middleware)
    answer = await ask(middleware)
    assert (answer.body, app.runs) == (b"the later one", 2)


async def test_a_variant_of_the_applications_own_is_compressed_too(
    site: Callable[..., Any],
) -> None:
    """An application that negotiates other codings says Vary itself, and leaves zstd to us."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        zips = b"gzip" in dict(scope["headers"])[b"accept-encoding"]
        lines = [(b"vary", b"Accept-Encoding"), (b"cache-control", b"max-age=60")]
        lines += [(b"content-encoding", b"gzip")] if zips else []
        await send(start(*lines))
        await send(piece(gzip.compress(PAGE) if zips else PAGE))

    middleware = await site(app)
    for takes, coding in (("gzip, zstd", b"gzip"), ("zstd", b"zstd"), ("br", None)):
        for number in range(3):
            answer = await call(middleware, path="/x", headers={"accept-encoding": takes})
            await background_done(middleware)
            said = answer.header("content-encoding")
            assert said == (None if number == 0 and coding == b"zstd" else coding)
            assert answer.headers_named("vary") == [b"Accept-Encoding"]


# --- Other ways into the store, and out of it ---------------------------------------------------


async def test_a_validated_response_is_not_compressed_again(compressions: list[int]) -> None:
    """The application is asked with its own tag, and its 304 keeps the compressed body."""
    app, clock = App(), ManualClock()
    middleware = cache_of(app, clock, cache_compress=True)
    await ask(middleware)
    await background_done(middleware)
    for seconds in (100, 200, 300):
        clock.advance(100)
        for takes in TAKES:
            answer = await ask(middleware, takes)
            await background_done(middleware)
            assert (answer.status, text_of(answer)) == (200, PAGE)
            assert (answer.header("content-encoding") == b"zstd") is (takes == "zstd")
        assert app.runs == 1 + seconds // 100
    assert app.conditions == [None, b'"v1"', b'"v1"', b'"v1"']
    assert compressions == [len(PAGE)]


async def test_a_validated_response_gets_the_length_of_the_plain_body() -> None:
    """Where its Content-Length is not stored, each client is told the length of its own body."""
    clock = ManualClock()
    app = App((b"etag", b'"v1"'), (b"cache-control", b'private="content-length"'))
    middleware = cache_of(app, clock, cache_compress=True)
    await ask(middleware)
    await background_done(middleware)
    clock.advance(100)
    await ask(middleware)
    await background_done(middleware)
    for takes in TAKES:
        answer = await ask(middleware, takes)
        assert b"hit" in status_of(answer)
        assert answer.header("content-length") == b"%d" % len(answer.body)
        assert text_of(answer) == PAGE
    assert app.runs == 2


async def test_a_tag_of_the_compressed_body_is_known_to_the_application() -> None:
    """A client's condition reaches it where nothing is stored: it compares weakly."""
    app = App()
    middleware = cache_of(app, cache_compress=True)
    answer = await ask(middleware, if_none_match='W/"v1"')
    assert (answer.status, app.conditions) == (304, [b'W/"v1"'])


async def test_stale_and_refreshed_responses_are_compressed() -> None:
    """Served stale while the refresh runs, and then the new one."""
    app, clock = App((b"x-version", b"1")), ManualClock()
    middleware = cache_of(app, clock, cache_compress=True)
    await ask(middleware)
    await background_done(middleware)
    clock.advance(70)
    app.body = PAGE[:-2] + b" ]"
    for answer in await asyncio.gather(*(ask(middleware, takes) for takes in TAKES)):
        assert text_of(answer) == PAGE
    await background_done(middleware)
    for takes in TAKES:
        answer = await ask(middleware, takes)
        assert text_of(answer) == app.body
        assert (answer.header("content-encoding") == b"zstd") is (takes == "zstd")
    assert app.runs == 2


async def test_early_refreshes_and_errors_serve_it() -> None:
    """With chance at every hit, and in place of an error."""
    app, clock = App((b"x-version", b"1")), ManualClock()
    settings = {"cache_early_refresh": 1.0, "cache_stale_if_error": 600.0}
    middleware = cache_of(app, clock, cache_compress=True, **settings)
    await ask(middleware)
    await background_done(middleware)
    app.status = 503
    for seconds in (0, 200):
        clock.advance(seconds)
        for takes in TAKES:
            answer = await ask(middleware, takes)
            await background_done(middleware)
            assert text_of(answer) == PAGE
            assert (answer.header("content-encoding") == b"zstd") is (takes == "zstd")


async def test_an_answer_to_post_and_to_query_is_compressed(site: Callable[..., Any]) -> None:
    """Each answers later requests for what it stands for."""
    app = App((b"content-location", b"/items"))
    middleware = await site(app, cache_store_post=True, cache_store_query=True)
    await ask(middleware, method="POST")
    await background_done(middleware)
    answer = await ask(middleware)
    assert (answer.header("content-encoding"), text_of(answer)) == (b"zstd", PAGE)
    for number in range(2):
        answer = await ask(middleware, method="QUERY")
        await background_done(middleware)
        assert (answer.header("content-encoding") == b"zstd") is bool(number)
        assert text_of(answer) == PAGE
    assert app.runs == 2


async def test_waiting_requests_get_the_plain_body_that_is_not_written_yet() -> None:
    """It suits them all, and says that another one may come."""
    app = App()
    middleware = cache_of(app, cache_compress=True)
    answers = await asyncio.gather(*(ask(middleware) for _ in range(5)))
    assert {answer.body for answer in answers} == {PAGE}
    assert all(answer.headers_named("vary") == [b"Accept-Encoding"] for answer in answers)
    assert app.runs == 1


async def test_beside_gzip_outside_no_client_gets_two_codings() -> None:
    """Starlette's GZipMiddleware leaves alone what is encoded."""
    middleware = cache_of(App(), cache_compress=True)
    app = GZipMiddleware(middleware)
    for number in range(3):
        answer = await ask(app, "zstd")
        await background_done(middleware)
        assert answer.headers_named("content-encoding") == [b"zstd" if number else b"gzip"]
        answer = await ask(app, "plain")
        assert answer.headers_named("content-encoding") == [b"gzip"]
        assert gzip.decompress(answer.body) == PAGE


# --- In Redis ---------------------------------------------------------------------------------


def key_of(server: RedisServer, middleware: CacheMiddleware) -> bytes:
    assert middleware.cache is not None
    namespace = middleware.cache.settings.cache_namespace
    (key,) = server.call("KEYS", f"{namespace}:e:*")
    return key


async def filled(url: str, app: Any, **settings: Any) -> CacheMiddleware:
    middleware = CacheMiddleware(app, settings_for(url, **settings))
    await ask(middleware)
    await background_done(middleware)
    return middleware


async def test_a_page_of_json_takes_at_most_a_quarter_in_redis(
    redis_url: str, redis_server: RedisServer
) -> None:
    """MEMORY USAGE of the key, all included, with the setting and without."""
    assert 32_000 <= len(PAGE) <= 33_500
    taken = []
    for compress in (True, False):
        middleware = await filled(redis_url, App(), cache_compress=compress)
        key = key_of(redis_server, middleware)
        taken.append(redis_server.call("MEMORY", "USAGE", key))
        await middleware.aclose()
    assert 0 < taken[0] * 4 <= taken[1]


async def test_it_is_inspected_without_being_decompressed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the tool runs there need not be zstd: it shows both lengths, and the groups."""
    middleware = await filled(redis_url, App())
    assert middleware.cache is not None
    settings = middleware.cache.settings
    monkeypatch.setattr(zstd, "_library", lambda: None)

    def inspected() -> tuple[list[StoredEntry], list[str]]:
        shelf = shelf_of(settings)
        found = list(stored_at(shelf, settings, "/items"))
        return found, list(stored_in(shelf, settings, ["p:/items"]))

    (entry,), in_group = await asyncio.to_thread(inspected)
    assert (entry.readable, entry.body_bytes) == (True, len(PAGE))
    assert entry.stored_bytes * 4 < len(PAGE)
    assert in_group == [entry.key]
    await middleware.aclose()


async def test_a_worker_without_the_setting_reads_it_plain(redis_url: str) -> None:
    """As if nothing were compressed; and one with the setting reads what that one stored."""
    settings = settings_for(redis_url)
    without = settings.model_copy(update={"cache_compress": False})
    for writer, reader in ((settings, without), (without, settings)):
        app = App()
        cached = CacheMiddleware(app, writer), CacheMiddleware(app, reader)
        await call(cached[0], "DELETE", "/items")
        app.runs = 0
        for middleware in (cached[0], cached[1], cached[1]):
            answer = await ask(middleware)
            await background_done(middleware)
            assert (answer.body, answer.header("content-encoding")) == (PAGE, None)
            assert answer.header("etag") == b'"v1"'
        assert app.runs == 1
        assert answer.headers_named("vary") == []
        for middleware in cached:
            await middleware.aclose()


async def test_a_worker_without_zstd_takes_it_for_a_miss(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the application, and stores the answer so that both read it."""
    app = App()
    writer = await filled(redis_url, app)
    assert writer.cache is not None
    without = writer.cache.settings.model_copy(update={"cache_compress": False})
    reader = CacheMiddleware(app, without)
    assert reader.cache is not None
    with monkeypatch.context() as patched:
        patched.setattr(zstd, "_library", lambda: None)
        for _ in range(2):
            assert (await ask(reader)).body == PAGE
            await background_done(reader)
            assert app.runs == 2
        assert reader.cache.tally.unreadable > 0
    assert (await ask(writer)).body == PAGE
    assert app.runs == 2
    for middleware in (reader, writer):
        await middleware.aclose()


@pytest.mark.parametrize("is_stale", [False, True])
@pytest.mark.parametrize("takes", TAKES)
async def test_a_planted_body_that_cannot_be_decompressed_is_a_miss(
    redis_url: str, redis_server: RedisServer, takes: str, is_stale: bool
) -> None:
    """With a right checksum and a right length: found out when a client needs the plain body.

    A client that takes zstd gets the bytes that were planted, as it would get any planted body.
    """
    app = App()
    middleware = await filled(redis_url, app)
    assert middleware.cache is not None
    key = key_of(redis_server, middleware)
    codec = Codec(keeps_compressed=True)
    entry = codec.decode(redis_server.call("GET", key), key)
    assert isinstance(entry, Entry)
    bad = entry.stored.body[:50] + bytes(len(entry.stored.body) - 50)
    lifetime = 0.0 if is_stale else 60.0
    stored = replace(entry.stored, body=bad, freshness_lifetime=lifetime, stale_while_revalidate=0)
    redis_server.call("SET", key, codec.encode(replace(entry, stored=stored)), "PX", 60_000)
    for number in range(2):
        answer = await ask(middleware, takes)
        await background_done(middleware)
        if takes == "zstd":
            assert answer.body in (bad, PAGE)
        else:
            assert answer.body == PAGE
            assert (b"hit" in status_of(answer)) is bool(number)
    if takes == "plain":
        assert (middleware.cache.tally.unreadable > 0) is not is_stale
        assert app.conditions == ([None, b'"v1"', None] if is_stale else [None, None])
        assert text_of(await ask(middleware)) == PAGE
    await middleware.aclose()


# --- Beside a cache that compresses nothing -----------------------------------------------------

FIELDS = st.lists(
    st.sampled_from([
        ("accept-encoding", "zstd"), ("accept-encoding", "gzip, br;q=0.5, zstd;q=0.1"),
        ("accept-encoding", "zstd;q=0"), ("accept-encoding", "*"), ("accept-encoding", "gzip"),
        ("if-none-match", '"v1"'), ("if-none-match", 'W/"v1"'), ("if-none-match", '"v0"'),
        ("if-modified-since", "Wed, 21 Oct 2065 07:28:00 GMT"), ("range", "bytes=10-19"),
        ("range", "bytes=0-0,-3"), ("range", "bytes=99999-"), ("if-range", '"v1"'),
        ("if-range", 'W/"v1"'), ("cache-control", "no-cache"), ("cache-control", "no-transform"),
        ("cache-control", "max-stale"), ("cookie", "a=b"),
    ]),
    max_size=3,
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT"]), FIELDS,
        st.sampled_from([0.0, 0.0, 1.0, 40.0, 70.0]),
    ),
    max_size=12,
)  # fmt: skip
ANOTHER = {b"content-encoding", b"content-length", b"etag", b"vary", b"accept-ranges"}


def meaning(answer: Recorded) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, plain body, and the headers that are the same for both representations."""
    headers = [line for line in answer.headers if line[0] not in ANOTHER]
    return answer.status, text_of(answer), headers


@given(steps=STEPS, line=st.sampled_from([b'"v1"', b'W/"v1"', b""]))
def test_a_client_reads_what_it_would_have_read_without_the_setting(
    steps: list[Any], line: bytes
) -> None:
    """Whatever it asks, at whatever age of the response; and only who takes zstd gets it."""

    async def play() -> None:
        clocks = ManualClock(), ManualClock()
        lines = ((b"etag", line),) if line else ((b"x-tag", b""),)
        compressing, other = (
            cache_of(App(*lines), clock, cache_compress=clock is clocks[0]) for clock in clocks
        )
        for method, fields, seconds in steps:
            answers = []
            for middleware, clock in zip((compressing, other), clocks, strict=True):
                clock.advance(seconds)
                answers.append(await call(middleware, method, "/items", headers=fields))
                await background_done(middleware)
            ours, plain = answers
            assert meaning(ours) == meaning(plain)
            if ours.header("content-encoding") is not None:
                assert any("zstd" in value and value != "zstd;q=0" for _, value in fields)
                assert ours.header("etag") == b"W/" + (plain.header("etag") or b"").removeprefix(
                    b"W/"
                )
            else:
                assert ours.header("content-length") == plain.header("content-length")
                if ours.status != 304:
                    assert ours.header("etag") == plain.header("etag")

    asyncio.run(play())


# --- Bounds, and without the setting ------------------------------------------------------------


async def test_plain_answers_do_not_outgrow_the_embedded_store() -> None:
    """A body that was decompressed for a client is not kept beside the compressed one."""
    store = MemoryStore()
    middleware = cache_of(App(), store=store, cache_compress=True)
    for takes in ("zstd", "plain", "plain", "zstd", "zstd"):
        assert text_of(await ask(middleware, takes)) == PAGE
        await background_done(middleware)
    (copy,) = [slot[0] for slot in store._values.values() if hasattr(slot[0], "prepared")]
    assert [len(kept.body) * 4 < len(PAGE) for kept in (copy.prepared or {}).values()] == [True]
    assert store.used_bytes < len(PAGE) // 2


async def opened_near(middleware: CacheMiddleware) -> NearCache:
    """The near cache of the middleware's store, once it hears of purges."""
    assert middleware.cache is not None
    await middleware.cache.open()
    near = middleware.cache.store.near
    assert isinstance(near, NearCache)
    await eventually(lambda: near._usable(near._clock()))
    return near


async def test_plain_answers_count_in_the_near_cache(
    redis_url: str, redis_server: RedisServer
) -> None:
    """Those few that are kept ready."""
    middleware = CacheMiddleware(App(), settings_for(redis_url, "prompt"))
    near = await opened_near(middleware)
    await ask(middleware)
    await background_done(middleware)
    async with asyncio.timeout(PATIENCE):
        while not near.copies._prepared:  # a busy machine may miss a ping
            assert text_of(await ask(middleware, "zstd")) == PAGE
    (copy,) = near.copies._prepared
    assert copy.size * 4 < len(PAGE)
    assert copy.prepared_size >= len(PAGE)
    near.copies.drop([key_of(redis_server, middleware)])
    assert near.copies._prepared_bytes == 0
    await middleware.aclose()


async def test_a_long_plain_answer_evicts_no_copies(
    redis_url: str, redis_server: RedisServer
) -> None:
    """One that would take a quarter of the near cache is made anew for each client."""
    long = PAGE * 8
    settings = settings_for(redis_url, "prompt", cache_near_bytes=2 * len(long))
    middleware = CacheMiddleware(App(body=long), settings)
    near = await opened_near(middleware)
    await ask(middleware)
    await background_done(middleware)
    key = key_of(redis_server, middleware)
    async with asyncio.timeout(PATIENCE):
        while not len(near):
            await ask(middleware)
    for _ in range(3):
        assert (await ask(middleware, "plain")).body == long
    assert near.copies.find(key) is not None
    assert not near.copies._prepared
    await middleware.aclose()


@pytest.mark.parametrize(("times", "is_remembered"), [(1, True), (8, False)])
async def test_results_with_long_plain_bodies_are_not_remembered(
    redis_url: str, times: int, is_remembered: bool
) -> None:
    """However short they are in Redis: their prepared answers would hold the plain bodies."""
    middleware = CacheMiddleware(App(body=PAGE * times), settings_for(redis_url))
    for _ in range(3):
        await ask(middleware, "plain")
        await background_done(middleware)
    assert middleware.cache is not None
    assert bool(middleware.cache.lookups._recent) is is_remembered
    await middleware.aclose()


@pytest.mark.parametrize("takes", TAKES)
async def test_without_the_setting_nothing_is_compressed(
    compressions: list[int], takes: str
) -> None:
    """Bytes and headers are those of a cache that knows no zstd."""
    middleware = cache_of(App())
    for _ in range(3):
        answer = await ask(middleware, takes)
        await background_done(middleware)
        assert (answer.body, answer.header("etag")) == (PAGE, b'"v1"')
        assert answer.headers_named("vary") == answer.headers_named("content-encoding") == []
    assert compressions == []


def test_without_the_setting_zstd_is_not_imported() -> None:
    """It takes time and memory."""
    code = (
        "import sys, maxage\n"
        "maxage.CacheSettings(); maxage.CacheMiddleware(print)\n"
        "sys.exit(any(name.endswith('.zstd') for name in sys.modules if name != 'maxage.zstd'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
