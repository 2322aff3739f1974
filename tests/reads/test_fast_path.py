"""The short way to a hit answers as the ordinary way does, or not at all."""

import asyncio
import re
import tracemalloc
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.clock import Clock
from maxage.redis_store.near.s3_fifo import Copies
from maxage.rfc9111.message import Headers
from maxage.store.entry import Entry
from maxage.store.prepared import Owner, PreparedResponse
from tests.support.asgi import Receive, Scope, Send, call, http_scope
from tests.support.caching import background_done, cache_of, piece, start
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


class App:
    """Answers with its run, and varies below `/vary`."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        headers = [(b"cache-control", b"public, max-age=20, stale-while-revalidate=5")]
        if scope["path"].startswith("/vary"):
            headers.append((b"vary", b"accept-encoding"))
        if scope["path"].startswith("/never"):
            headers = [(b"cache-control", b"no-store")]
        if scope["path"].startswith("/tagged"):
            headers += [(b"etag", b'"tag"'), (b"set-x", b"1"), (b"set-x", b"2")]
        await send(start(*headers))
        await send(piece(b"run %d" % self.runs * (500 if scope["path"].endswith("/long") else 1)))


HEADERS = st.lists(
    st.sampled_from(
        [
            ("accept-encoding", "gzip"),
            ("accept-encoding", "gzip;q=1, br"),
            ("accept-encoding", "br"),
            ("accept-encoding", "br, zstd"),
            ("accept-encoding", "zstd;q=0.3, identity"),
            ("user-agent", "test"),
            ("if-none-match", '"tag"'),
            ("if-none-match", '"other"'),
            ("if-none-match", "*"),
            ("if-modified-since", "Wed, 21 Oct 2065 07:28:00 GMT"),
            ("range", "bytes=0-1"),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=3"),
            ("cache-control", "only-if-cached"),
            ("pragma", "no-cache"),
            ("authorization", "Bearer a"),
            ("cookie", "a=b"),
            ("x-api-key", "k"),
            ("x-forwarded-host", "elsewhere"),
            ("x-http-method-override", "GET"),
            ("content-length", "0"),
            ("host", "other"),
            ("X-Request-Id", "7"),
        ]
    ),
    max_size=3,
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "HEAD"]),
        st.sampled_from(
            [
                "/plain",
                "/vary",
                "/tagged",
                "/never",
                "/plain?a=1",
                "/pl%61in",
                "/tagged/long",
                "/vary/long",
            ]
        ),
        HEADERS,
        st.sampled_from([0.0, 0.0, 0.3, 0.999, 1.0, 7.0]),
    ),
    max_size=25,
)


class FarStore(MemoryStore):
    """A store that is asked at every hit, as Redis is without a near cache."""

    def __init__(self) -> None:
        super().__init__()
        self.near = None


class CopyingStore(MemoryStore):
    """A store with compact copies beside it, as Redis is with a near cache.

    Few requests are remembered, so that most are known by their copies alone.
    """

    exact = False
    known_requests = 2

    def __init__(self, monotonic: Clock) -> None:
        super().__init__()
        self.copies = Copies(1_000_000, str.encode)
        self.monotonic = monotonic

    def __len__(self) -> int:
        return len(self.copies)

    def find(self, key: bytes) -> Any:
        copy = self.copies.find(key)
        return copy if copy is not None and copy.ends > self.monotonic() else None

    def begin(self) -> int:
        return self.copies.serial

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        self.copies.put(entry, ends=ends, since=since)

    def introduce(self, key: bytes, owner: Owner) -> bytes | None:
        return self.copies.introduce(key, owner)

    def keep_prepared(self, copy: Any, form: Any, prepared: PreparedResponse) -> None:
        self.copies.keep_prepared(copy, form, prepared)

    def forget(self, keys: Iterable[bytes]) -> None:
        self.copies.drop(keys)


def store_of(kind: type[MemoryStore], clock: ManualClock) -> MemoryStore:
    return CopyingStore(clock.monotonic) if kind is CopyingStore else kind()


STORES = st.sampled_from([MemoryStore, FarStore, CopyingStore])


@given(
    requests=REQUESTS,
    options=st.fixed_dictionaries(
        {"cache_status_key": st.booleans(), "cache_compress": st.booleans()}
    ),
    store=STORES,
)
def test_both_ways_give_the_same_answers(
    requests: list[Any], options: dict[str, bool], store: type[MemoryStore]
) -> None:
    """Status, headers in their order, and body: two caches that differ in nothing but this.

    And in the key that Cache-Status may show, since each middleware has entries of its own.
    """

    async def play() -> None:
        clocks = ManualClock(), ManualClock()
        short, ordinary = (
            cache_of(App(), clock, store=store_of(store, clock), **options) for clock in clocks
        )
        cast("Any", ordinary.fast_path).learn = lambda *_: None
        for method, target, headers, seconds in requests:
            for clock in clocks:
                clock.advance(seconds)
            answers = []
            for middleware in (short, ordinary):
                for _ in range(2):
                    made = await call(middleware, method, target=target.encode(), headers=headers)
                    await background_done(middleware)
                answers.append(re.sub(r"#\d+:(.*?):[0-9a-f]{40}", r"\1", repr(made.messages)))
            assert answers[0] == answers[1]

    asyncio.run(play())


@pytest.mark.parametrize("kind", [MemoryStore, FarStore, CopyingStore])
@pytest.mark.parametrize("coding", ["zstd", "gzip"])
async def test_a_known_request_for_either_representation_goes_the_short_way(
    kind: type[MemoryStore], coding: str
) -> None:
    """Though it depends on Accept-Encoding which one it is: the other's client changes nothing."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=store_of(kind, clock), cache_compress=True)
    ways = Ways(middleware)
    for number in range(4):
        for accepted in ("gzip", "zstd"):
            ways.ordinary = 0
            answer = await call(
                middleware, path="/tagged/long", headers={"accept-encoding": accepted}
            )
            await background_done(middleware)
            if number > 1 and accepted == coding:
                assert ways.ordinary == 0
                assert (answer.header("content-encoding") == b"zstd") is (accepted == "zstd")


class Ways:
    """Counts the requests that take the ordinary way."""

    def __init__(self, middleware: CacheMiddleware) -> None:
        assert middleware.fast_path is not None
        self.ordinary = 0
        self._known = middleware.fast_path.known
        cast("Any", middleware.fast_path).known = self._counted

    def _counted(self, scope: Scope) -> Any:
        known = self._known(scope)
        self.ordinary += known is None
        return known


class Counting:
    """Counts the requests that the fast path answers from a copy."""

    def __init__(self, middleware: CacheMiddleware) -> None:
        assert middleware.fast_path is not None
        self.hits = 0
        self._near = middleware.fast_path.near
        cast("Any", middleware.fast_path).near = self._counted

    def _counted(self, *what: Any) -> PreparedResponse | None:
        prepared = self._near(*what)
        self.hits += prepared is not None
        return prepared


async def answered_shortly(path: str = "/plain", method: str = "GET", **request: Any) -> int:
    """How many of two more requests were answered the short way."""
    middleware = cache_of(App(), ManualClock())
    for _ in range(3):
        await call(middleware, "GET", path)
        await background_done(middleware)
        await call(middleware, "GET", path, **request)
        await background_done(middleware)
        await call(middleware, method, path, **request)
        await background_done(middleware)
    counting = Counting(middleware)
    for _ in range(2):
        await call(middleware, method, path, **request)
    return counting.hits


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/plain", "/vary", "/tagged"])
async def test_plain_hits_go_the_short_way(path: str, method: str) -> None:
    """With or without variants."""
    assert await answered_shortly(path, method) == 2
    assert await answered_shortly(path, method, headers=[("accept-encoding", "br")]) == 2


async def test_a_validated_hit_goes_the_short_way() -> None:
    """A 304 is prepared like anything else."""
    assert await answered_shortly("/tagged", headers=[("if-none-match", '"tag"')]) == 2


@pytest.mark.parametrize(
    "line",
    [
        ("authorization", "Bearer a"), ("Authorization", "Bearer a"), ("cookie", "a=b"),
        ("x-api-key", "k"), ("range", "bytes=0-1"), ("cache-control", "max-age=3"),
        ("pragma", "no-cache"), ("if-modified-since", "Wed, 21 Oct 2065 07:28:00 GMT"),
        ("if-match", "*"), ("x-forwarded-host", "a"), ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"), ("content-length", "1"), ("transfer-encoding", "chunked"),
        ("host", "second"),
    ],
)  # fmt: skip
async def test_what_has_more_to_say_goes_the_ordinary_way(line: tuple[str, str]) -> None:
    """There all of it is considered."""
    assert await answered_shortly(headers=[("host", "testserver"), line]) == 0


async def test_who_shares_a_lookup_shares_the_answer_and_not_its_list() -> None:
    """Each client's headers are its own, and HEAD and a validator get what is theirs."""
    middleware = cache_of(App(), ManualClock(), store=FarStore())
    requests: list[dict[str, Any]] = [
        {"headers": []},
        {"headers": []},
        {"method": "HEAD", "headers": []},
        {"headers": [("if-none-match", '"tag"')]},
    ]
    for _ in range(3):
        for request in requests:
            await call(middleware, path="/tagged", **request)
            await background_done(middleware)
    made = await asyncio.gather(*(call(middleware, path="/tagged", **r) for r in requests))
    assert [answer.status for answer in made] == [200, 200, 200, 304]
    assert [answer.body for answer in made] == [b"run 1", b"run 1", b"", b""]
    assert made[0].messages[0]["headers"] is not made[1].messages[0]["headers"]


@pytest.mark.parametrize("store", [MemoryStore, FarStore])
async def test_other_urls_that_are_one_are_known_anew(store: type[MemoryStore]) -> None:
    """A key lasts as long as what the path's responses say of its query (No-Vary-Search)."""
    said = [(b"no-vary-search", b"key-order")]
    runs = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal runs
        runs += 1
        await send(start((b"cache-control", b"max-age=9"), *said))
        await send(piece(b"%d" % runs))

    clock = ManualClock()
    middleware = cache_of(app, clock, store=store())
    for _ in range(2):
        for _ in range(4):
            await call(middleware, path="/x", query=b"a=1")
            await background_done(middleware)
        said.clear()
        clock.advance(10)
    assert runs == 2


async def test_what_is_not_stored_is_known_until_it_says_something_else() -> None:
    """It is passed on at once, and stored as soon as its response allows it."""
    answers = [b"no-store"] * 4 + [b"max-age=9"] * 2

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"cache-control", answers.pop(0))))
        await send(piece(b"%d" % len(answers)))

    middleware = cache_of(app, ManualClock())
    for _ in range(4):
        await call(middleware, path="/x")
        await background_done(middleware)
    assert middleware.fast_path is not None
    assert len(middleware.fast_path) == 1
    assert [(await call(middleware, path="/x")).body for _ in range(4)] == [b"1", b"0", b"0", b"0"]


async def test_an_outer_layer_may_add_to_the_headers() -> None:
    """The list that was prepared stays as it is."""
    middleware = cache_of(App(), ManualClock())
    for _ in range(4):
        made = await call(middleware, path="/plain")
        await background_done(middleware)
        assert not any(name == b"x-outer" for name, _ in made.messages[0]["headers"])
        made.messages[0]["headers"].append((b"x-outer", b"1"))


async def test_a_purge_ends_it() -> None:
    """As it ends every hit."""
    middleware = cache_of(App(), ManualClock())
    for _ in range(4):
        await call(middleware, path="/plain")
        await background_done(middleware)
    await call(middleware, "PUT", "/plain")
    assert (await call(middleware, path="/plain")).body == b"run 3"


async def test_many_urls_are_not_remembered_beyond_the_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither here nor in the store."""
    monkeypatch.setattr("maxage.store.memory._KNOWN", 50)
    middleware = CacheMiddleware(App(), CacheSettings(), store=MemoryStore(50_000))
    for n in range(500):
        for _ in range(2):
            await call(middleware, path=f"/many/{n}")
            await background_done(middleware)
    assert middleware.fast_path is not None
    assert len(middleware.fast_path) < 200


async def test_header_lines_may_be_lists() -> None:
    """ASGI asks for pairs, of whatever kind; adapters for functions in the cloud send lists."""
    middleware = cache_of(App(), ManualClock())
    lines: Any = [[b"host", b"testserver"], [b"accept-encoding", b"br"]]

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware({**scope, "headers": lines}, receive, send)

    bodies = []
    for _ in range(4):
        bodies.append((await call(outer, path="/vary")).body)
        await background_done(middleware)
    assert bodies == [b"run 1"] * 4


async def test_header_lines_may_be_no_list() -> None:
    """ASGI asks for an iterable: a layer around the cache may hand the items of a dictionary on."""
    middleware = cache_of(App(), ManualClock())
    lines: Any = {b"host": b"testserver", b"accept-encoding": b"br"}.items()

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware({**scope, "headers": lines}, receive, send)

    assert [(await call(outer, path="/vary")).body for _ in range(2)] == [b"run 1"] * 2


@pytest.mark.parametrize(("length", "remembered"), [(1000, 1), (100_000, 0)])
async def test_long_values_of_selecting_fields_are_not_remembered(
    length: int, remembered: int
) -> None:
    """A client could fill the memory with them."""
    middleware = cache_of(App(), ManualClock())
    for _ in range(4):
        await call(middleware, path="/vary", headers=[("accept-encoding", "x" * length)])
        await background_done(middleware)
    assert middleware.fast_path is not None
    known = middleware.fast_path.known(
        {
            "method": "GET", "path": "/vary", "raw_path": b"/vary", "query_string": b"",
            "scheme": "http", "root_path": "", "headers": [(b"host", b"testserver")],
        }
    )  # fmt: skip
    assert known is not None
    assert len(known._keys) == remembered


async def test_a_copy_makes_requests_known_that_are_not_remembered() -> None:
    """Of many URLs: the copy alone tells that an earlier request was admitted."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=CopyingStore(clock.monotonic))
    paths = [f"/many/{n}" for n in range(20)]
    for _ in range(2):
        for path in paths:
            await call(middleware, path=path)
            await background_done(middleware)
    counting = Counting(middleware)
    bodies = [(await call(middleware, path=path)).body for path in paths]
    assert counting.hits == len(paths)
    assert len(set(bodies)) == len(paths)
    assert middleware.fast_path is not None
    assert len(middleware.fast_path) <= 2 * CopyingStore.known_requests


async def test_a_url_that_is_asked_for_most_is_remembered_after_many_others() -> None:
    """However many were asked for before it; its response is prepared once then."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=CopyingStore(clock.monotonic))
    fast_path = middleware.fast_path
    assert fast_path is not None
    for path in ["/plain", *(f"/many/{n}" for n in range(20))]:
        for _ in range(2):
            await call(middleware, path=path)
            await background_done(middleware)
    known = fast_path.known(http_scope(path="/plain"))
    assert known is not None
    assert not known.is_remembered
    bodies = {(await call(middleware, path="/plain")).body for _ in range(40)}
    assert bodies == {b"run 1"}
    known = fast_path.known(http_scope(path="/plain"))
    assert known is not None
    assert known.is_remembered
    assert len(fast_path) <= 2 * CopyingStore.known_requests


@pytest.mark.parametrize(("length", "remembered"), [(500, True), (2000, False)])
async def test_a_request_with_a_long_condition_is_known_by_its_copy_alone(
    length: int, remembered: bool
) -> None:
    """Clients make up conditions, which would be kept."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=CopyingStore(clock.monotonic))
    fast_path = middleware.fast_path
    assert fast_path is not None
    for _ in range(2):
        await call(middleware, path="/plain")
        await background_done(middleware)
    before = len(fast_path)
    condition = '"' + "x" * length + '"'
    for _ in range(40):
        await call(middleware, path="/plain", headers={"if-none-match": condition})
    assert (len(fast_path) > before) is remembered


@pytest.mark.parametrize(
    "other",
    [
        {"headers": [("authorization", "Bearer x")]},
        {"headers": [("cookie", "a=b")]},
        {"headers": [("cache-control", "no-cache")]},
        {"headers": [("range", "bytes=0-1")]},
        {"headers": [("host", "other")]},
        {"headers": [("origin", "http://other")]},
        {"method": "HEAD"},
        {"target": b"/many/1?a=1"},
        {"target": b"/m%61ny/1"},
    ],
)
async def test_a_copy_makes_no_other_request_known(other: dict[str, Any]) -> None:
    """One with anything on which the answer may depend takes the whole way."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=CopyingStore(clock.monotonic))
    for n in range(10):
        for _ in range(2):
            await call(middleware, path=f"/many/{n}")
            await background_done(middleware)
    counting = Counting(middleware)
    request = {"target": b"/many/1", "method": "GET"} | other
    await call(middleware, request.pop("method"), **request)
    assert counting.hits == 0


async def test_long_hosts_that_clients_make_up_are_not_remembered() -> None:
    """No copy is of such a host: it would be kept as a site of its own."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=CopyingStore(clock.monotonic))
    await call(middleware)
    tracemalloc.start()
    for n in range(20):
        await call(middleware, headers={"host": f"{n}." + "x" * 100_000})
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


async def test_names_of_headers_that_clients_make_up_are_not_remembered() -> None:
    """Hundreds of short ones take many times their bytes."""
    fast_path = cache_of(App()).fast_path
    assert fast_path is not None
    names = [b"%x" % n for n in range(256, 4096)]
    tracemalloc.start()
    for n in range(200):
        lines = [(name, b"") for name in names[n * 7 : n * 7 + 680]]
        assert fast_path.plain(http_scope() | {"headers": [(b"host", b"a"), *lines]}) is not None
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize("store", [FarStore, MemoryStore, CopyingStore])
async def test_conditions_that_clients_make_up_are_not_all_remembered(
    store: type[MemoryStore],
) -> None:
    """A stored response is prepared in few forms at the same time, however it is found."""
    clock = ManualClock()
    middleware = cache_of(App(), clock, store=store_of(store, clock))
    cache, fast_path = middleware.cache, middleware.fast_path
    assert cache is not None
    assert fast_path is not None
    await call(middleware, path="/plain")
    await background_done(middleware)
    scope = http_scope(path="/plain")
    target = middleware.targets.find(scope, Headers.copied(scope["headers"]))
    found = await cache.lookup(target, target.plain_key, Headers.copied(scope["headers"]))
    for number in range(50):
        condition = b'"%d"' % number
        lines = [*scope["headers"], (b"if-none-match", condition)]
        asking = {**scope, "headers": lines}
        fast_path.learn(asking, target)
        known = fast_path.known(asking)
        assert known is not None
        assert known.form == ("GET", condition, False)
        assert fast_path.prepared(known, found, Headers.copied(lines)) is not None
        fast_path.near(known, lines)
    assert len(found.prepared) <= 4
    near = cache.store.near
    copy = None if near is None else near.find(target.plain_key)
    assert copy is None or len(copy.prepared or ()) <= 4


class SlowStore(FarStore):
    """Keeps one lookup waiting."""

    held: asyncio.Event | None = None

    def __init__(self) -> None:
        super().__init__()
        self.holds = asyncio.Event()

    async def read(self, keys: Any, groups: Any, wanted: Any = None) -> Any:
        read, held = await super().read(keys, groups, wanted), self.held
        if held is not None:
            self.holds.set()
            await held.wait()
        return read


async def test_what_was_found_before_a_route_was_added_is_not_known_after_it() -> None:
    """Though the request that found it was answered after that."""

    def answering(body: str) -> Any:
        async def answer(_: Any) -> PlainTextResponse:
            return PlainTextResponse(body, headers={"cache-control": "max-age=9"})

        return answer

    app, store = Starlette(routes=[Route("/{any}", answering("any"))]), SlowStore()
    middleware = cache_of(app, ManualClock(), store=store)
    for path in ("/a", "/b"):
        await call(middleware, path=path)
        await background_done(middleware)
    store.held = held = asyncio.Event()
    waiting = asyncio.create_task(call(middleware, path="/a"))
    await store.holds.wait()
    store.held = None
    app.router.routes.insert(0, Route("/a", answering("a")))
    await call(middleware, path="/b")
    held.set()
    await waiting
    assert middleware.fast_path is not None
    scope = {"method": "GET", "query_string": b"", "headers": [(b"host", b"testserver")]}
    found = [
        middleware.fast_path.known({**scope, "path": p, "raw_path": p.encode()})
        for p in ("/a", "/b")
    ]
    assert [known is not None for known in found] == [False, True]
