"""`CACHE_ON_LOST_PURGE=refuse`: no mutating request is answered with success without its purge."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from maxage import CacheMiddleware, CacheSettings, apurge, invalidates_only
from maxage.invalidation.group_names import tag_group
from maxage.redis import RedisCache
from maxage.store.tokens import token_key
from maxage.store_factory import store_for
from tests.support.asgi import Exchange, Recorded, call, http_scope
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import wait_acknowledging, wait_replicating
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE, eventually, wait_until

pytestmark = pytest.mark.anyio

Handler = Callable[[], Awaitable[None]]


class StoreWrite:
    """Answers PUT with 200 after what the test gives it to do; counts how often it ran."""

    def __init__(self, before: Handler | None = None, after: Handler | None = None) -> None:
        self.runs = 0
        self.before, self.after = before, after

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run `before`, answer, run `after`."""
        self.runs += 1
        if self.before is not None:
            await self.before()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})
        if self.after is not None:
            await self.after()


def settings_for(url: str, **more: Any) -> CacheSettings:
    return CacheSettings(
        redis_url=url, cache_on_lost_purge="refuse", cache_write_budget=0.5, **more
    )


@asynccontextmanager
async def refusing(url: str, app: Any) -> AsyncIterator[CacheMiddleware]:
    """The middleware, open, and closed with the test."""
    middleware = CacheMiddleware(app, settings_for(url))
    assert middleware.cache is not None
    await middleware.cache.open()
    yield middleware
    await middleware.aclose()


async def put(middleware: CacheMiddleware) -> Recorded:
    return await call(middleware, "PUT", "/row")


async def ready(middleware: CacheMiddleware) -> None:
    """Wait until a write would be taken."""
    assert middleware.cache is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            async with middleware.cache.store.mutating() as may_be_confirmed:
                if may_be_confirmed:
                    return
            await asyncio.sleep(0.02)


def assert_not_executed(answer: Recorded) -> None:
    assert answer.status == 503
    assert answer.body.startswith(b"Not executed")
    assert answer.header("cache-control") == b"no-store"
    assert answer.header("retry-after") == b"1"


def assert_fate_unknown(answer: Recorded) -> None:
    assert answer.status == 503
    assert b"fate of the request is unknown" in answer.body


async def test_a_confirmed_purge_is_answered_as_ever(fault_proxy: FaultProxy) -> None:
    """The usual case, and again after an outage."""
    app = StoreWrite()
    async with refusing(fault_proxy.url, app) as middleware:
        assert (await put(middleware)).status == 200
        fault_proxy.refuse()
        assert (await put(middleware)).status == 503
        fault_proxy.pass_through()
        await ready(middleware)
        assert (await put(middleware)).body == b"ok"


@pytest.mark.parametrize("fault", ["refuse", "hang", "reset", "cut", "OOM", "READONLY", "NOPERM"])
async def test_a_purge_that_fails_after_the_handler_ran_is_answered_503(
    fault: str, fault_proxy: FaultProxy
) -> None:
    """The check before it passed; the row is committed, and the client must know."""

    async def break_down() -> None:
        if fault in {"refuse", "hang", "reset", "cut"}:
            getattr(fault_proxy, fault)()
        else:
            fault_proxy.error(fault, commands={"SET"})

    app = StoreWrite(before=break_down)
    async with refusing(fault_proxy.url, app) as middleware:
        assert_fate_unknown(await put(middleware))
        assert app.runs == 1
        assert_not_executed(await put(middleware))
        assert app.runs == 1, "Redis is known to be away"
        fault_proxy.pass_through()


async def test_a_purge_that_was_made_but_not_confirmed_is_answered_503(
    fault_proxy: FaultProxy,
) -> None:
    """The server has it, its answer is lost: this process cannot know."""

    async def lose_the_answer() -> None:
        fault_proxy.hang(commands={"SET"}, deliver=True)

    app = StoreWrite(before=lose_the_answer)
    async with refusing(fault_proxy.url, app) as middleware:
        assert_fate_unknown(await put(middleware))
        fault_proxy.pass_through()


async def test_a_route_that_purges_nothing_passes_without_redis(fault_proxy: FaultProxy) -> None:
    """Such as a login, also where its answer leads elsewhere: there is no purge to be lost."""
    app = FastAPI(openapi_url=None)
    login = invalidates_only()(lambda: RedirectResponse("./", 303))
    app.post("/login")(login)
    app.post("/rows")(lambda: 1)
    async with refusing(fault_proxy.url, app) as middleware:
        fault_proxy.refuse()
        assert_fate_unknown(await call(middleware, "POST", "/rows"))
        assert_not_executed(await call(middleware, "POST", "/rows"))
        assert (await call(middleware, "POST", "/login")).status == 303


async def test_what_a_handler_purges_itself_is_confirmed_or_refused(
    fault_proxy: FaultProxy,
) -> None:
    """On a route that purges nothing by itself too."""
    app = FastAPI(openapi_url=None)

    @app.post("/login")
    @invalidates_only()
    async def login() -> None:
        await apurge("sessions", settings=settings_for(fault_proxy.url))

    async with refusing(fault_proxy.url, app) as middleware:
        fault_proxy.refuse()
        assert_fate_unknown(await call(middleware, "POST", "/login"))


async def test_before_the_first_look_nothing_is_executed(fault_proxy: FaultProxy) -> None:
    """Redis answers, yet it is unknown whether another process owes a purge."""
    fault_proxy.error("NOPERM", commands={"HGET", "HGETALL"})
    app = StoreWrite()
    async with refusing(fault_proxy.url, app) as middleware:
        assert_not_executed(await put(middleware))
        assert app.runs == 0
        fault_proxy.pass_through()
        await ready(middleware)
        assert (await put(middleware)).status == 200


async def test_a_process_that_starts_without_redis_executes_nothing(
    fault_proxy: FaultProxy,
) -> None:
    """With and without a lifespan that opens the store."""
    fault_proxy.refuse()
    app = StoreWrite()
    async with refusing(fault_proxy.url, app) as middleware:
        assert_not_executed(await put(middleware))
    unopened = CacheMiddleware(app, settings_for(fault_proxy.url))
    assert_not_executed(await put(unopened))
    assert app.runs == 0
    await unopened.aclose()


async def test_nothing_of_the_answer_leaves_before_the_application_has_returned(
    redis_url: str,
) -> None:
    """It implies the strict hold: a late commit would otherwise be acknowledged first."""
    gate = asyncio.Event()

    async def commit() -> None:
        await gate.wait()

    async with refusing(redis_url, StoreWrite(after=commit)) as middleware:
        exchange = Exchange(middleware, http_scope("PUT", "/row")).start()
        await asyncio.sleep(0.2)
        assert not exchange.recorded.started
        gate.set()
        assert (await exchange.finish()).status == 200


@pytest.mark.parametrize("method", ["set", "aset", "delete", "adelete"])
async def test_a_typed_write_whose_purge_is_confirmed_at_last_is_answered_with_success(
    method: str, fault_proxy: FaultProxy
) -> None:
    """It is repeated when the handler has returned, and that is what counts."""
    numbers = RedisCache[int](int, prefix="n", settings=settings_for(fault_proxy.url))

    async def write() -> None:
        fault_proxy.error("OOM", commands={"SET"})
        arguments = (1, 2) if "set" in method else (1,)
        if method.startswith("a"):
            await getattr(numbers, method)(*arguments)
        else:
            await asyncio.to_thread(getattr(numbers, method), *arguments)
        fault_proxy.pass_through()
        middleware_store = store_for(settings_for(fault_proxy.url))
        while not middleware_store.redis_state.trusted:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.01)

    async with refusing(fault_proxy.url, StoreWrite(before=write)) as middleware:
        assert (await put(middleware)).status == 200


@pytest.mark.parametrize("method", ["set", "aset", "delete", "adelete"])
async def test_a_typed_write_whose_purge_is_never_confirmed_is_answered_503(
    method: str, fault_proxy: FaultProxy
) -> None:
    """Whatever else the request purges."""
    numbers = RedisCache[int](int, prefix="n", settings=settings_for(fault_proxy.url))

    async def write() -> None:
        fault_proxy.error("OOM", commands={"SET"})
        arguments = (1, 2) if "set" in method else (1,)
        if method.startswith("a"):
            await getattr(numbers, method)(*arguments)
        else:
            await asyncio.to_thread(getattr(numbers, method), *arguments)

    async with refusing(fault_proxy.url, StoreWrite(before=write)) as middleware:
        assert_fate_unknown(await put(middleware))
        fault_proxy.pass_through()


# replicas


@pytest.fixture
def replicated(own_redis: RedisServer) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and a replica that follows it."""
    with RedisServer.start(args=("--replicaof", own_redis.host, str(own_redis.port))) as replica:
        wait_replicating(replica)
        wait_acknowledging(own_redis)
        yield own_redis, replica


async def test_a_purge_that_no_replica_has_is_not_confirmed(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    """A primary that is deposed confirms what is lost with it."""
    primary, replica = replicated
    app = StoreWrite()
    async with refusing(primary.url, app) as middleware:
        assert (await put(middleware)).status == 200
        replica.pause()
        began = time.monotonic()
        assert_fate_unknown(await put(middleware))
        in_time(time.monotonic() - began, 0.5 + 1)
        assert middleware.cache is not None
        replica.resume()
        await ready(middleware)
        assert (await put(middleware)).status == 200


@pytest.mark.parametrize(
    "said",
    [
        b"-NOPERM this user has no permissions to run the 'wait' command\r\n",
        b"-ERR WAIT cannot be used with replica instances.\r\n",
        b"+OK\r\n",
        b":0\r\n",
        b"*0\r\n",
    ],
)
async def test_nothing_but_a_number_of_replicas_confirms_a_purge(
    replicated: tuple[RedisServer, RedisServer], said: bytes
) -> None:
    """A client without the permission, or with another answer, does not know; in both halves."""
    primary, _ = replicated
    with FaultProxy(primary.port) as proxy:
        numbers = RedisCache[int](int, prefix="n", settings=settings_for(proxy.url))
        async with refusing(proxy.url, StoreWrite()) as middleware:
            assert (await put(middleware)).status == 200
            proxy.garbage(data=said, commands=("WAIT",))
            assert_fate_unknown(await put(middleware))
            assert await asyncio.to_thread(numbers.delete, 1) is False
            proxy.pass_through()
            await ready(middleware)
            assert (await put(middleware)).status == 200


async def test_a_server_without_wait_confirms_alone(
    replicated: tuple[RedisServer, RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """Some managed servers and proxies have no WAIT: one line says what that costs."""
    primary, _ = replicated
    with FaultProxy(primary.port) as proxy:
        proxy.error("ERR unknown command 'WAIT'", commands=("WAIT",))
        async with refusing(proxy.url, StoreWrite()) as middleware:
            for _ in range(3):
                assert (await put(middleware)).status == 200
    assert len([r for r in caplog.records if "Redis has no WAIT" in r.getMessage()]) == 1


async def test_after_the_answer_the_replica_has_the_purge(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    """Whatever happens to the primary then: the token that it shows is the new one."""
    primary, replica = replicated
    async with refusing(primary.url, StoreWrite()) as middleware:
        key = token_key("maxage", "p:/row")
        for _ in range(20):
            assert (await put(middleware)).status == 200
            assert replica.call("GET", key) == primary.call("GET", key) is not None


async def test_a_typed_write_waits_for_the_replica_too(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    """In a plain function as well."""
    primary, replica = replicated
    numbers = RedisCache[int](int, prefix="n", settings=settings_for(primary.url))
    await asyncio.to_thread(numbers.set, 1, 1)
    replica.pause()
    assert await asyncio.to_thread(numbers.delete, 1) is False
    assert await numbers.adelete(1) is False
    replica.resume()
    key = token_key("maxage", tag_group("n:1"))
    wait_until(lambda: replica.call("GET", key) == primary.call("GET", key), "it has it")


async def test_a_replica_that_comes_later_is_waited_for(own_redis: RedisServer) -> None:
    """The next look at the leases finds it, on connections that were made before."""
    async with refusing(own_redis.url, StoreWrite()) as middleware:
        assert (await put(middleware)).status == 200
        assert middleware.cache is not None
        node: Any = middleware.cache.store.redis_state.node  # type: ignore[attr-defined]
        assert not node.has_replicas
        follow = ("--replicaof", own_redis.host, str(own_redis.port))
        with RedisServer.start(args=follow) as replica:
            async with asyncio.timeout(PATIENCE):
                while not node.has_replicas:  # noqa: ASYNC110 - a thread sets it
                    await asyncio.sleep(0.02)
            wait_replicating(replica)
            # The first replica may give the server another history, after which it purges.
            await eventually(lambda: node.is_still(own_redis.call("INFO", "replication")))
            await ready(middleware)
            replica.pause()
            assert_fate_unknown(await put(middleware))
            replica.resume()
