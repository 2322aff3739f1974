"""When a mutating request has been answered, no later GET returns what was made before it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import StringConstraints

from maxage import (
    CacheMiddleware,
    CacheSettings,
    MemoryStore,
    Rule,
    cached,
    invalidates,
    invalidates_only,
    uncached,
)
from maxage.redis import RedisCache
from tests.support.asgi import Exchange, Message, Receive, Scope, Send, call, http_scope, lifespan
from tests.support.caching import background_done, cache_of, status_of
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import NEVER, PATIENCE

pytestmark = pytest.mark.anyio


class Shop:
    """Items behind FastAPI, with a purgeable view of each kind; counts what ran."""

    def __init__(self, answer: int = 200, headers: dict[str, str] | None = None) -> None:
        self.app = FastAPI()
        self.runs: dict[str, int] = {}
        self.answer = answer
        for path in (
            "/items",
            "/items/search",
            "/items/{item_id}",
            "/items/{item_id}/parts",
            "/items/{item_id}/parts/{part}",
            "/users/{user_id}",
        ):
            self.app.get(path)(self._reader())
        self.app.get("/about")(cached(isolated=True)(self._reader()))

        async def write(item_id: int) -> Response:
            return Response(status_code=self.answer, headers=headers)

        self.app.api_route("/items/{item_id}", methods=["PUT", "PATCH", "DELETE"])(write)
        self.app.post("/items/{item_id}/publish")(write)
        self.app.put("/users/{item_id}")(write)

        async def create() -> Response:
            return Response(status_code=self.answer, headers=headers)

        self.app.post("/items")(create)
        self.middleware = cache_of(self.app)

    def _reader(self) -> Any:
        from fastapi import Request

        async def read(request: Request) -> Response:
            url = str(request.url).removeprefix("http://testserver")
            self.runs[url] = self.runs.get(url, 0) + 1
            body = f"{url} {request.headers.get('accept-language')} {self.runs[url]}"
            return Response(body, headers={"vary": "Accept-Language"})

        return read

    async def get(self, target: str, **headers: str) -> bool:
        """Whether the answer is a hit."""
        path, _, query = target.partition("?")
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        answer = await call(self.middleware, path=path, query=query, headers=named)
        assert answer.status == 200
        return b"hit" in (answer.header("cache-status") or b"")


TOUCHED = [
    "/items/5",
    "/items/5?full=1",
    "/items/5?full=2",
    "/items/5/parts",
    "/items/5/parts/7",
    "/items",
    "/items?page=2",
    "/items/search?q=a",
]
UNTOUCHED = ["/items/6", "/items/6/parts", "/users/5", "/about"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_to_a_member_purges_it_what_lies_beneath_and_the_views_of_its_collection(
    method: str,
) -> None:
    """And nothing beside it."""
    shop = Shop()
    for target in TOUCHED + UNTOUCHED:
        assert not await shop.get(target)
        assert await shop.get(target)
    assert (await call(shop.middleware, method, "/items/5")).status == 200
    for target in TOUCHED:
        assert not await shop.get(target), target
    for target in UNTOUCHED:
        assert await shop.get(target), target


@pytest.mark.parametrize("spelling", ["/items/5/", "/items/05", "/items/5?dry=1"])
async def test_every_spelling_of_a_path_purges_the_same(spelling: str) -> None:
    """What names the same resource touches it."""
    shop = Shop()
    await shop.get("/items/5")
    path, _, query = spelling.partition("?")
    answer = await call(shop.middleware, "PUT", path, query)
    if answer.status == 307:  # the router redirects a slash, and the client follows
        await call(shop.middleware, "PUT", "/items/5")
    assert not await shop.get("/items/5")


@pytest.mark.parametrize("order", [("/x/", "/x"), ("/x", "/x/")])
async def test_two_routes_that_differ_by_a_slash_are_cached_apart_and_purged_together(
    order: tuple[str, str],
) -> None:
    """The router tells them apart whichever was declared first; a write to one reaches both."""

    def echo() -> Any:
        async def answer(request: Request) -> Response:
            return Response(request.url.path)

        return answer

    app = FastAPI(openapi_url=None)
    for path in order:
        app.add_route(path, echo(), methods=["GET", "PUT"])
    middleware = cache_of(app)

    async def get(path: str) -> bytes:
        answer = await call(middleware, "GET", path)
        assert answer.body == path.encode()
        return status_of(answer)

    for written in order:
        for path in order:
            assert b"; stored" in await get(path)
            assert b"; hit" in await get(path)
        await call(middleware, "PUT", written)


async def test_a_post_to_a_collection_purges_its_views() -> None:
    """A new item belongs into every list."""
    shop = Shop()
    for target in ("/items", "/items?page=2", "/items/search", "/users/5"):
        await shop.get(target)
    await call(shop.middleware, "POST", "/items")
    for target in ("/items", "/items?page=2", "/items/search"):
        assert not await shop.get(target), target
    assert await shop.get("/users/5")


async def test_an_action_purges_the_member_it_acts_on() -> None:
    """`POST /items/5/publish` is about item 5 and the lists it is in."""
    shop = Shop()
    for target in ("/items/5", "/items", "/items/6"):
        await shop.get(target)
    await call(shop.middleware, "POST", "/items/5/publish")
    assert not await shop.get("/items/5")
    assert not await shop.get("/items")
    assert await shop.get("/items/6")


async def test_all_variants_are_purged() -> None:
    """Whatever the writer's own Accept-Language."""
    shop = Shop()
    for language in ("de", "en", "fr"):
        await shop.get("/items/5", accept_language=language)
        assert await shop.get("/items/5", accept_language=language)
    await call(shop.middleware, "PUT", "/items/5", headers={"accept-language": "de"})
    for language in ("de", "en", "fr"):
        assert not await shop.get("/items/5", accept_language=language)


@pytest.mark.parametrize(
    ("status", "purges"),
    [
        *((status, True) for status in (200, 201, 204, 303, 399, 500, 503)),
        *((status, False) for status in (400, 404, 409, 422, 499)),
    ],
)
async def test_answers_that_may_follow_a_change_purge(status: int, purges: bool) -> None:
    """2xx, 3xx and 5xx do, since after a 5xx the change is uncertain; 4xx do not."""
    shop = Shop(status)
    await shop.get("/items/5")
    await call(shop.middleware, "PUT", "/items/5")
    assert await shop.get("/items/5") is not purges


@pytest.mark.parametrize(
    ("headers", "purges"),
    [
        ({"location": "/users/5"}, True),
        ({"content-location": "/users/5?a=1"}, True),
        ({"location": "http://testserver/users/5"}, True),
        ({"location": "http://elsewhere/users/5"}, False),
        ({"location": "https://testserver/users/5"}, False),
        ({"location": "/users/6"}, False),
        ({"location": "http://["}, False),
    ],
)
async def test_location_and_content_location_of_the_same_origin_are_purged(
    headers: dict[str, str], purges: bool
) -> None:
    """RFC 9111 section 4.4."""
    shop = Shop(201, headers)
    await shop.get("/users/5")
    await call(shop.middleware, "POST", "/items")
    assert await shop.get("/users/5") is not purges


async def test_the_location_of_a_route_that_purges_nothing_is_not_purged() -> None:
    """It changes nothing: after a login, Location only shows the way."""
    app = FastAPI(openapi_url=None)
    numbers = count()
    app.get("/home")(lambda: next(numbers))
    app.post("/login")(invalidates_only()(lambda: RedirectResponse("/home", 303)))
    middleware = cache_of(app)
    for _ in range(2):
        assert (await call(middleware, path="/home")).body == b"0"
        assert (await call(middleware, "POST", "/login")).status == 303


@pytest.mark.parametrize("status", [None, 200, 404])
async def test_an_exception_purges_whatever_was_answered_before_it(status: int | None) -> None:
    """The fate of the write is unknown."""
    stored = [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            stored[0] += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x"})
            return
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
        raise RuntimeError("the handler failed")

    middleware = cache_of(app)
    await call(middleware)
    await call(middleware, "PUT", raises=False)
    await call(middleware)
    assert stored[0] == 2


@pytest.mark.parametrize("end", ["returns", "cancelled"])
async def test_a_writer_that_is_gone_before_the_answer_purges(end: str) -> None:
    """The handler may have committed when its client hung up."""
    began, runs = asyncio.Event(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            runs[0] += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x"})
            return
        began.set()
        await receive()
        await receive()  # the disconnect

    middleware = cache_of(app)
    await call(middleware)
    exchange = Exchange(middleware, http_scope("PUT")).start()
    await began.wait()
    if end == "cancelled":
        exchange.cancel()
    else:
        exchange.disconnect()
    await exchange.finish()
    await call(middleware)
    assert runs[0] == 2


# when


class Row:
    """A row in a database of one row, behind an application that may commit late."""

    def __init__(self, *, late: bool = False, background: bool = False) -> None:
        self.value = 0
        self.app = FastAPI()
        self.reading: asyncio.Event | None = None
        """Holds a GET back between its read of the row and its answer."""
        self.read = asyncio.Event()
        self.committing: asyncio.Event | None = None

        async def session() -> AsyncGenerator[dict[str, int], None]:
            changes: dict[str, int] = {}
            yield changes
            if self.committing is not None:
                await self.committing.wait()
            self.value = changes.get("value", self.value)

        @self.app.get("/row")
        async def get() -> int:
            value = self.value
            self.read.set()
            if self.reading is not None:
                await self.reading.wait()
            return value

        def set_value(value: int) -> None:
            self.value = value

        @self.app.put("/row/{value}")
        async def put_beneath(value: int) -> int:
            raise HTTPException(404)

        @self.app.put("/row")
        async def put(
            value: int,
            changes: Annotated[dict[str, int], Depends(session)],
            tasks: BackgroundTasks,
        ) -> int:
            if late:
                changes["value"] = value
            elif background:
                tasks.add_task(set_value, value)
            else:
                self.value = value
            return value


async def body(app: Any, path: str = "/row", **request: Any) -> bytes:
    """The body of a GET."""
    return (await call(app, path=path, **request)).body


async def test_the_purge_is_done_before_the_first_byte_of_the_answer_leaves() -> None:
    """Read your own writes."""
    row = Row()
    middleware = cache_of(row.app)
    assert await body(middleware) == b"0"
    seen = []

    async def look(number: int, message: Message) -> None:
        seen.append(await body(middleware))

    await call(middleware, "PUT", "/row", "value=1", on_send=look)
    assert seen[0] == b"1"


@pytest.mark.parametrize("kind", ["late", "background"])
async def test_what_is_changed_after_the_answer_is_purged_after_it(kind: str) -> None:
    """Exit code of `yield` dependencies and background tasks run after the response was sent."""
    row = Row(late=kind == "late", background=kind == "background")
    middleware = cache_of(row.app)
    between = []

    async def look(number: int, message: Message) -> None:
        if message["type"] == "http.response.body":
            between.append(await body(middleware))

    assert await body(middleware) == b"0"
    await call(middleware, "PUT", "/row", "value=1", on_send=look)
    assert between[0] == b"0"
    assert await body(middleware) == b"1"


@asynccontextmanager
async def on(url: str, app: Any, count: int = 1, **settings: Any) -> AsyncGenerator[Any, None]:
    """Several middlewares, as of several workers, over one application and one Redis."""
    made = []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            middleware = CacheMiddleware(app, CacheSettings(redis_url=url, **settings))
            stack.push_async_callback(middleware.aclose)
            made.append(middleware)
        yield made[0] if count == 1 else made


@pytest.mark.parametrize("kind", ["embedded", "redis"])
async def test_a_get_that_began_before_a_write_is_not_served_after_it(
    kind: str, redis_url: str
) -> None:
    """The classic race: it read the old row, the write is acknowledged, then it is stored."""
    row = Row()
    row.reading = asyncio.Event()
    async with on(redis_url if kind == "redis" else "memory://", row.app) as middleware:
        slow = Exchange(middleware, http_scope(path="/row")).start()
        await row.read.wait()
        await call(middleware, "PUT", "/row", "value=1")
        row.reading.set()
        assert (await slow.finish()).body == b"0"
        await background_done(middleware)
        for _ in range(2):
            assert await body(middleware) == b"1"


async def test_a_get_that_began_before_a_write_through_another_worker_is_not_served_after_it(
    redis_url: str,
) -> None:
    """The same over two workers, whichever is asked afterwards."""
    row = Row()
    row.reading = asyncio.Event()
    async with on(redis_url, row.app, 2) as (one, two):
        slow = Exchange(one, http_scope(path="/row")).start()
        await row.read.wait()
        await call(two, "PUT", "/row", "value=1")
        row.reading.set()
        await slow.finish()
        await background_done(one)
        assert [await body(two), await body(one)] == [b"1", b"1"]


async def test_a_get_that_reads_between_answer_and_late_commit_is_not_served_after_the_commit(
    redis_url: str,
) -> None:
    """The second purge is for this."""
    row = Row(late=True)
    row.committing = asyncio.Event()
    async with on(redis_url, row.app) as middleware:
        writer = Exchange(middleware, http_scope("PUT", "/row", "value=1")).start()
        await writer.wait_sent(2)
        assert await body(middleware) == b"0"
        assert await body(middleware) == b"0"
        row.committing.set()
        await writer.finish()
        assert await body(middleware) == b"1"


@pytest.mark.parametrize("kind", ["embedded", "redis"])
async def test_a_get_after_a_write_does_not_take_the_response_of_a_get_before_it(
    kind: str, redis_url: str
) -> None:
    """Protocol section 2.2: who began after the acknowledgement asks for himself."""
    row = Row()
    row.reading = asyncio.Event()
    url = redis_url if kind == "redis" else "memory://"
    async with on(url, row.app, cache_collapse_wait=NEVER) as middleware:
        leader = Exchange(middleware, http_scope(path="/row")).start()
        await row.read.wait()
        await call(middleware, "PUT", "/row", "value=1")
        row.read.clear()
        later = Exchange(middleware, http_scope(path="/row")).start()
        async with asyncio.timeout(PATIENCE):
            await row.read.wait()
        row.reading.set()
        assert (await leader.finish()).body == b"0"
        assert (await later.finish()).body == b"1"
        assert await body(middleware) == b"1"


async def test_a_fill_that_waits_to_be_written_is_not_served_after_a_write(
    fault_proxy: FaultProxy,
) -> None:
    """Protocol section 2.2, for the pending fill."""
    row = Row()
    async with on(fault_proxy.url, row.app, cache_write_budget=5) as middleware:
        await body(middleware)
        await background_done(middleware)
        await call(middleware, "PUT", "/row", "value=1")
        hold = fault_proxy.hold("SET", match=b":e:")
        assert await body(middleware) == b"1"
        await hold.until_held()
        assert await body(middleware) == b"1"
        await call(middleware, "PUT", "/row", "value=2")
        assert await body(middleware) == b"2"
        hold.release()
        await background_done(middleware)
        assert await body(middleware) == b"2"


# the typed cache


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("how", ["get_or_set", "get, set", "uncached get, set"])
async def test_a_typed_fill_in_a_get_loses_against_a_write_meanwhile(
    how: str, embedded: bool, redis_url: str
) -> None:
    """Protocol section 2.3: read the row, the write is acknowledged, then store the old value."""
    settings = CacheSettings(redis_url=None if embedded else redis_url)
    items = RedisCache[int](int, prefix="row", settings=settings)
    app, value, gate, read = FastAPI(), [0], asyncio.Event(), asyncio.Event()

    async def load() -> int:
        loaded = value[0]
        read.set()
        await gate.wait()
        return loaded

    async def get() -> int:
        if how == "get_or_set":
            return await items.aget_or_set(1, load)
        found = await items.aget(1)
        if found is None:
            found = await load()
            await items.aset(1, found)
        return found

    if how.startswith("uncached"):
        get = uncached(get)
    app.get("/row")(get)

    @app.put("/elsewhere")
    async def put() -> None:
        value[0] = 1
        await items.adelete(1)

    middleware = CacheMiddleware(app, settings)
    slow = Exchange(middleware, http_scope(path="/row")).start()
    await read.wait()
    await call(middleware, "PUT", "/elsewhere")
    gate.set()
    assert (await slow.finish()).body == b"0"
    await background_done(middleware)
    assert [await body(middleware), await body(middleware)] == [b"1", b"1"]
    await items.adelete(1)
    await middleware.aclose()


@pytest.mark.parametrize("how", ["declared", "learnt"])
async def test_a_typed_read_after_a_purge_does_not_hide_what_was_read_before_it(how: str) -> None:
    """The response mixes both sides of the change, so it is not stored under the later token."""
    settings = CacheSettings(redis_url="memory://", cache_namespace="mixed")
    items = RedisCache[int](int, prefix=f"mixed-{how}", settings=settings)
    app, value, gate, read = FastAPI(), [0], asyncio.Event(), asyncio.Event()

    async def get() -> int:
        loaded = value[0]
        read.set()
        await gate.wait()
        await items.aget(1)
        return loaded

    app.get("/row")(cached(tags=[f"mixed-{how}:1"])(get) if how == "declared" else get)
    middleware = CacheMiddleware(app, settings)
    gate.set()
    for _ in range(2):
        await body(middleware)
        await items.adelete(1)
    gate.clear()
    read.clear()
    slow = Exchange(middleware, http_scope(path="/row")).start()
    await read.wait()
    value[0] = 1
    await items.adelete(1)
    gate.set()
    assert (await slow.finish()).body == b"0"
    assert await body(middleware) == b"1"


@pytest.mark.parametrize("write", ["aset", "adelete"])
async def test_a_typed_write_purges_the_responses_built_from_the_object(
    write: str, redis_url: str
) -> None:
    """Without a tag written by hand; a response built from another object stays."""
    settings = CacheSettings(redis_url=redis_url)
    items = RedisCache[int](int, prefix="row", settings=settings)
    app, value, runs = FastAPI(), {1: 0, 2: 0}, [0]

    @app.get("/page/{number}")
    async def page(number: int) -> int:
        runs[0] += 1
        return await items.aget_or_set(number, lambda: value[number])

    async with on(redis_url, app, 2) as (one, two):
        for _ in range(3):
            await body(one, "/page/1")
            await body(two, "/page/2")
            await background_done(one)
            await background_done(two)
        ran, value[1] = runs[0], 7
        await (items.aset(1, 7) if write == "aset" else items.adelete(1))
        assert await body(two, "/page/1") == await body(one, "/page/1") == b"7"
        assert await body(one, "/page/2") == b"0"
        assert runs[0] == ran + 1 or runs[0] == ran + 2


# when Redis is away


@pytest.mark.parametrize("fault", ["refuse", "hang", "reset", "OOM", "READONLY"])
async def test_after_a_purge_that_redis_did_not_confirm_a_get_is_never_stale(
    fault: str, fault_proxy: FaultProxy
) -> None:
    """Not while Redis is away, and not when it is back: the purge is made up for first."""
    row = Row()
    async with on(fault_proxy.url, row.app) as middleware:
        assert [await body(middleware), await body(middleware)] == [b"0", b"0"]
        await background_done(middleware)
        if fault in {"refuse", "hang", "reset"}:
            getattr(fault_proxy, fault)()
        else:
            fault_proxy.error(fault, commands={"SET"})
        for value in (1, 2):
            assert (await call(middleware, "PUT", "/row", f"value={value}")).status == 200
            assert await body(middleware) == b"%d" % value
        fault_proxy.pass_through()
        for _ in range(5):
            assert await body(middleware) == b"2"
        await trusted(middleware)
        assert [await body(middleware), await body(middleware)] == [b"2", b"2"]


async def trusted(middleware: CacheMiddleware, *, within: float = 5.0) -> None:
    """Wait until the store is trusted again."""
    assert middleware.cache is not None
    async with asyncio.timeout(within):
        while not middleware.cache.store.redis_state.trusted:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.01)


async def test_a_purge_that_arrives_late_never_revives_what_was_stored(
    fault_proxy: FaultProxy,
) -> None:
    """Protocol section 2.4: every attempt draws its own value."""
    row = Row()
    async with on(fault_proxy.url, row.app) as middleware:
        await body(middleware)
        await background_done(middleware)
        hold = fault_proxy.hold("SET", match=b":t:", times=1)
        await call(middleware, "PUT", "/row", "value=1")
        await trusted(middleware)
        assert await body(middleware) == b"1"
        await background_done(middleware)
        await call(middleware, "PUT", "/row", "value=2")
        hold.release()
        await asyncio.sleep(0)
        for _ in range(3):
            assert await body(middleware) == b"2"


@pytest.mark.parametrize("lost", ["tokens", "one token", "everything"])
async def test_tokens_that_were_lost_make_misses(
    lost: str, redis_url: str, redis_server: RedisServer
) -> None:
    """Eviction and FLUSHALL cost misses, and never bring back what was purged."""
    row = Row()
    async with on(redis_url, row.app) as middleware:
        await body(middleware)
        await background_done(middleware)
        row.value = 1  # without a request, to see which answer is a hit
        assert await body(middleware) == b"0"
        keys = redis_server.call("KEYS", "*:t:*")
        assert isinstance(keys, list)
        if lost == "everything":
            redis_server.flush()
        else:
            for key in keys if lost == "tokens" else keys[:1]:
                redis_server.call("DEL", key)
        assert await body(middleware) == b"1"
        await background_done(middleware)
        row.value = 2
        assert await body(middleware) == b"1"


@pytest.mark.parametrize("keep_data", [True, False])
async def test_what_was_stored_before_a_restart_of_redis_is_not_served_after_it(
    keep_data: bool, own_redis: RedisServer
) -> None:
    """Another history: an old snapshot may have come back with it."""
    row = Row()
    async with on(own_redis.url, row.app) as middleware:
        await body(middleware)
        await background_done(middleware)
        own_redis.restart(keep_data=keep_data)
        row.value = 1
        await body(middleware)
        await trusted(middleware)
        # The first request on a new connection finds the new history, and owes a purge for it.
        for _ in range(50):
            await trusted(middleware)
            await background_done(middleware)
            shown = await body(middleware)
            assert shown != b"0"
            await background_done(middleware)
            row.value += 1
            if await body(middleware) == shown:
                break
        else:
            pytest.fail("nothing was served from the store again")


async def test_an_old_snapshot_that_comes_back_with_new_workers_revives_nothing(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol section 2.5: no process remembers the history before, but the tokens name it."""
    row = Row()
    async with on(own_redis.url, row.app) as middleware:
        await body(middleware)
        await background_done(middleware)
        old = own_redis.snapshot()
        await call(middleware, "PUT", "/row", "value=1")
    own_redis.restart(keep_data=True, snapshot=old)
    monkeypatch.setattr("maxage.redis_store.shared_state._redis_states", {})
    async with on(own_redis.url, row.app) as middleware:
        assert [await body(middleware), await body(middleware)] == [b"1", b"1"]


# one application under several root paths


@pytest.mark.parametrize("writes_at", ["", "/v1", "/v2"])
async def test_an_application_under_two_root_paths_is_one(writes_at: str) -> None:
    """Its data is the same, whichever way a request came to it."""
    shop = Shop()

    async def get(root_path: str) -> bool:
        path = root_path + "/items/5"
        answer = await call(shop.middleware, path=path, root_path=root_path)
        assert answer.status == 200
        return b"hit" in (answer.header("cache-status") or b"")

    for root_path in ("", "/v1", "/v2"):
        assert not await get(root_path)
        assert await get(root_path)
    await call(shop.middleware, "PUT", writes_at + "/items/5", root_path=writes_at)
    for root_path in ("", "/v1", "/v2"):
        assert not await get(root_path)


async def test_a_location_beneath_a_root_path_is_purged() -> None:
    """The answer names paths as its client sees them."""
    shop = Shop(201, {"location": "/v1/users/5"})
    path = "/v1/users/5"
    await call(shop.middleware, path=path, root_path="/v1")
    await call(shop.middleware, "POST", "/v1/items", root_path="/v1")
    answer = await call(shop.middleware, path=path, root_path="/v1")
    assert b"hit" not in (answer.header("cache-status") or b"")


async def test_the_root_path_of_the_wrapped_application_itself_counts() -> None:
    """FastAPI puts it into the scope only behind a middleware that is wrapped around it."""
    shop = Shop()
    shop.app.root_path = "/api"
    for path in ("/api/items/search", "/items/search"):
        await call(shop.middleware, path=path)
        await call(shop.middleware, "PUT", "/api/items/5")
        answer = await call(shop.middleware, path=path)
        assert b"hit" not in (answer.header("cache-status") or b""), path


# a typed `set` whose commit comes after the answer


class LateRow:
    """One row that is changed through the typed cache, and committed after the answer was sent."""

    def __init__(self, redis_url: str | None, *, answer: int = 200) -> None:
        # The size keeps the embedded store apart from those of other tests.
        self.settings = CacheSettings(
            redis_url=redis_url,
            cache_memory_bytes=3_000_017 + answer,
            cache_read_budget=5.0,
            cache_write_budget=5.0,
        )
        self.rows = RedisCache[int](int, prefix="row", settings=self.settings)
        self.committed = 0
        self.answered, self.commit = asyncio.Event(), asyncio.Event()
        self.app = app = FastAPI(openapi_url=None)

        async def session() -> AsyncGenerator[dict[str, int]]:
            pending: dict[str, int] = {}
            yield pending
            self.answered.set()
            await self.commit.wait()
            self.committed = pending.get("row", self.committed)

        @app.get("/tagged")
        @cached(tags=["row:1"])
        async def tagged() -> int:
            return self.committed

        @app.get("/typed")
        async def typed() -> int:
            return await self.rows.aget_or_set(1, lambda: self.committed)

        @app.put("/change")
        async def change(pending: Annotated[dict[str, int], Depends(session)]) -> None:
            pending["row"] = 1
            await self.rows.aset(1, 1)
            if answer >= 400:
                pending.clear()  # rolled back
                raise HTTPException(answer)

        self.middleware = CacheMiddleware(app, self.settings)


@pytest.fixture(params=["redis", "embedded"])
def late_url(request: pytest.FixtureRequest) -> str | None:
    """A Redis server, and none."""
    url: str | None = request.getfixturevalue("redis_url") if request.param == "redis" else None
    return url


async def test_what_was_made_between_a_typed_set_and_its_late_commit_is_purged(
    late_url: str | None,
) -> None:
    """The response shows the old row; the value that was set is right, and stays."""
    row = LateRow(late_url)
    await call(row.middleware, path="/tagged")
    changing = Exchange(row.middleware, http_scope("PUT", "/change")).start()
    await asyncio.wait_for(row.answered.wait(), PATIENCE)
    for _ in range(2):
        assert (await call(row.middleware, path="/tagged")).body == b"0"
    row.commit.set()
    await changing.finish()
    assert (await call(row.middleware, path="/tagged")).body == b"1"
    assert await row.rows.aget(1) == 1
    await row.middleware.aclose()


async def test_a_typed_set_that_others_overtook_is_not_revived(late_url: str | None) -> None:
    """A purge of the object between the `set` and the end of the request has the last word."""
    row = LateRow(late_url)
    changing = Exchange(row.middleware, http_scope("PUT", "/change")).start()
    await asyncio.wait_for(row.answered.wait(), PATIENCE)
    await row.rows.adelete(1)
    row.commit.set()
    await changing.finish()
    assert await row.rows.aget(1) is None
    await row.middleware.aclose()


@pytest.mark.parametrize("answer", [409, 500])
async def test_a_typed_set_that_was_rolled_back_is_forgotten(
    late_url: str | None, answer: int
) -> None:
    """An answer of 4xx or 5xx means that it may never have been committed."""
    row = LateRow(late_url, answer=answer)
    row.commit.set()
    await call(row.middleware, "PUT", "/change")
    assert await row.rows.aget(1) is None
    assert (await call(row.middleware, path="/typed")).body == b"0"
    await row.middleware.aclose()


@pytest.mark.parametrize("catch_all", [False, True])
async def test_a_catch_all_route_does_not_stop_an_action_from_purging(catch_all: bool) -> None:
    """Every application with a single-page front end has one."""
    app, state = FastAPI(openapi_url=None), {"shown": "draft"}

    @app.get("/items/{id}")
    async def read(id: int) -> str:  # noqa: A002
        return state["shown"]

    @app.post("/items/{id}/publish")
    async def publish(id: int) -> None:  # noqa: A002
        state["shown"] = "published"

    if catch_all:

        @app.get("/{full_path:path}")
        async def page(full_path: str) -> str:
            return "page"

    middleware = cache_of(app)
    await call(middleware, path="/items/5")
    await call(middleware, method="POST", path="/items/5/publish")
    assert (await call(middleware, path="/items/5")).body == b'"published"'


async def test_a_parameter_that_its_metadata_normalises_names_one_resource() -> None:
    """`BOB` and `bob` are one user where the route says so."""
    app, state = FastAPI(openapi_url=None), {"shown": "old"}

    @app.get("/users/{name}")
    async def read(name: Annotated[str, StringConstraints(to_lower=True)]) -> str:
        return state["shown"]

    @app.put("/users/{name}")
    async def write(name: Annotated[str, StringConstraints(to_lower=True)]) -> None:
        state["shown"] = "new"

    middleware = cache_of(app)
    await call(middleware, path="/users/BOB")
    await call(middleware, method="PUT", path="/users/bob")
    assert (await call(middleware, path="/users/BOB")).body == b'"new"'


# what a route or a rule says of its writes, and the mode


def shop(**settings: Any) -> CacheMiddleware:
    """Two collections, an orphan, a login and a search by POST."""
    app = FastAPI(openapi_url=None)
    for path in ("/items", "/items/{n}", "/orders", "/dashboard"):
        app.get(path)(lambda: 1)
    app.put("/items/{n}")(lambda: 1)
    app.post("/orders")(lambda: 1)
    app.post("/login")(invalidates_only()(lambda: 1))
    app.post("/items/search")(lambda: 1)
    app.post("/import")(invalidates_only("/orders", "news")(lambda: 1))
    rules = [Rule("/items/search", invalidates_only=[])]
    return CacheMiddleware(app, CacheSettings(**settings), store=MemoryStore(), rules=rules)


ALL = ["/items", "/items/5", "/items/6", "/orders", "/dashboard"]


@pytest.mark.parametrize(
    ("mode", "request_line", "purged"),
    [
        ("matching", "PUT /items/5", ["/items", "/items/5", "/dashboard"]),
        ("matching", "POST /orders", ["/orders", "/dashboard"]),
        ("unproven", "PUT /items/5", ["/items", "/items/5", "/orders", "/dashboard"]),
        ("unproven", "POST /orders", ALL),
        ("everything", "PUT /items/5", ALL),
        *((mode, f"POST {path}", []) for mode in ("matching", "unproven", "everything")
          for path in ("/login", "/items/search")),
        *((mode, "POST /import", ["/orders"]) for mode in ("matching", "unproven", "everything")),
    ],
)  # fmt: skip
async def test_the_mode_and_the_route_say_what_a_write_purges(
    mode: str, request_line: str, purged: list[str]
) -> None:
    """A route that purges only what it names does so in each mode."""
    middleware = shop(cache_purge=mode)
    for path in ALL:
        await call(middleware, path=path)
    await call(middleware, *request_line.split())
    answers = {path: (await call(middleware, path=path)).header("cache-status") for path in ALL}
    assert [path for path, status in answers.items() if b"hit" not in (status or b"")] == purged


async def test_the_counters_show_the_route_that_costs_the_hits() -> None:
    """By how many read routes its requests reached; a 4xx and a search reach none."""
    middleware = shop()
    for request_line in ("PUT /items/5", "PUT /items/6", "POST /orders", "POST /items/search"):
        await call(middleware, *request_line.split())
    await call(middleware, "PUT", "/nowhere")
    assert middleware.cache is not None
    assert middleware.cache.tally.reached_reads == {"PUT /items/{n}": 6, "POST /orders": 2}


async def test_the_start_names_the_orphans_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With the consequence and the mend."""
    middleware = shop()
    async with lifespan(middleware):
        pass
    [record] = [record for record in caplog.records if "No write is known" in record.message]
    assert (
        "these cached routes show, so that every write purges them: /dashboard." in record.message
    )


@pytest.mark.parametrize("named", ["/", "/{page}"])
async def test_a_write_that_names_the_root_leaves_the_orphans_to_the_other_writes(
    named: str,
) -> None:
    """All lies beneath it, and the name means the page there."""
    app = FastAPI(openapi_url=None)
    app.get("/")(lambda: 1)
    app.get("/{page}/text")(lambda: 1)
    app.get("/robots.txt")(lambda: 1)
    app.put("/settings")(lambda: 1)
    app.put("/words/{page}")(invalidates(named)(lambda: 1))
    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())
    await call(middleware, path="/robots.txt")
    await call(middleware, "PUT", "/settings")
    assert b"hit" not in (
        (await call(middleware, path="/robots.txt")).header("cache-status") or b""
    )


async def test_a_read_that_takes_no_default_lifetime_is_no_orphan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A probe is not cached by default, so that no write has to purge it."""
    app = FastAPI()
    app.get("/health")(lambda: 1)
    app.put("/items")(lambda: 1)
    async with lifespan(CacheMiddleware(app, CacheSettings(), store=MemoryStore())):
        pass
    assert not [record for record in caplog.records if "No write is known" in record.message]


async def test_a_write_whose_method_a_layer_inside_rewrites_purges_as_the_path_says() -> None:
    """Such as the `_method` of a form: no route of the path has the method that came."""
    app = FastAPI()
    app.get("/items/search")(lambda: 1)
    app.get("/items/{item}")(lambda item: 1)
    app.put("/items/{item}")(lambda item: 1)

    async def overriding(scope: Any, receive: Any, send: Any) -> None:
        method = "PUT" if scope.get("method") == "POST" else scope.get("method")
        await app({**scope, "method": method}, receive, send)

    overriding.app = app  # type: ignore[attr-defined]
    middleware = CacheMiddleware(overriding, CacheSettings(), store=MemoryStore())
    for _ in range(2):
        await is_hit(middleware, "/items/search")
    await call(middleware, "POST", "/items/5")
    assert not await is_hit(middleware, "/items/search")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_write_whose_path_a_layer_inside_rewrites_purges_what_the_router_sees(
    *, fails: bool
) -> None:
    """Such as a version or a language in front of all paths."""
    app = FastAPI()
    app.get("/items")(lambda: 1)

    @app.put("/items/{item}")
    async def change(item: int) -> None:
        if fails:
            raise RuntimeError

    async def shortening(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["path"].removeprefix("/v9")
        await app(scope, receive, send)

    shortening.app = app  # type: ignore[attr-defined]
    middleware = CacheMiddleware(shortening, CacheSettings(), store=MemoryStore())
    for _ in range(2):
        await is_hit(middleware, "/items")
    with suppress(RuntimeError):
        await call(middleware, "PUT", "/v9/items/5")
    assert not await is_hit(middleware, "/items")


@pytest.mark.parametrize(("read", "written"), [(str, int), (int, str)])
async def test_routes_that_parse_a_parameter_differently_mean_one_path(
    read: Any, written: Any
) -> None:
    """What one takes as it stands is a number to the other."""
    app = FastAPI()

    def show(item: read) -> int:
        return 1

    def change(item: written) -> None: ...

    app.get("/items/{item}")(show)
    app.put("/items/{item}")(change)
    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())
    for path in ("/items/05", "/items/5"):
        await is_hit(middleware, path)
        assert await is_hit(middleware, path)
        await call(middleware, "PUT", path)
        assert not await is_hit(middleware, path)


async def test_a_rule_for_one_segment_says_nothing_of_deeper_paths() -> None:
    """`/files/*` is not about `/files/a/b`, which writes of other trees go on to purge."""
    app = FastAPI(openapi_url=None)
    app.get("/files/{path:path}")(lambda: 1)
    app.put("/files/{path:path}")(lambda: 1)
    app.put("/items")(lambda: 1)
    for rule in (Rule("/files/*", isolated=True), Rule("/files/*", cache=False)):
        settings = CacheSettings(cache_purge="unproven")
        middleware = CacheMiddleware(app, settings, store=MemoryStore(), rules=[rule])
        for write in ("/items", "/files/a/b"):
            assert not await is_hit(middleware, "/files/a/b")
            assert await is_hit(middleware, "/files/a/b")
            await call(middleware, "PUT", write)
        assert not await is_hit(middleware, "/files/a/b")


async def test_without_a_default_lifetime_a_write_purges_no_orphans() -> None:
    """Each stored response then states its lifetime itself."""
    app = FastAPI(openapi_url=None)
    app.get("/dashboard", dependencies=[Depends(fresh_for_an_hour)])(lambda: 1)
    app.put("/items")(lambda: 1)
    for expiration, hit in ((300, False), (0, True)):
        settings = CacheSettings(cache_expiration=expiration)
        middleware = CacheMiddleware(app, settings, store=MemoryStore())
        await call(middleware, path="/dashboard")
        await call(middleware, "PUT", "/items")
        assert await is_hit(middleware, "/dashboard") is hit


def fresh_for_an_hour(response: Response) -> None:
    """A dependency that states a lifetime."""
    response.headers["cache-control"] = "max-age=3600"


async def is_hit(middleware: CacheMiddleware, path: str) -> bool:
    """Whether a GET is answered from the store."""
    return b"hit" in ((await call(middleware, path=path)).header("cache-status") or b"")


@pytest.mark.parametrize("mode", ["matching", "unproven", "everything"])
async def test_a_get_whose_header_names_another_method_purges_like_that_method(mode: str) -> None:
    """The router only knows it as a GET; behind it the application may obey the header."""
    middleware = shop(cache_purge=mode)
    for path in ("/items", "/items/5", "/items/6"):
        await call(middleware, path=path)
    answer = await call(middleware, path="/items/5", headers=[("x-http-method-override", "PUT")])
    assert answer.status == 200
    assert not await is_hit(middleware, "/items")
    assert not await is_hit(middleware, "/items/5")
    assert await is_hit(middleware, "/items/6") is (mode != "everything")
