"""Traces by which caches lose a purge, each replayed against a real Redis through a proxy.

Other traces: `tests/invalidation/test_purges_of_writes.py` (a GET in flight over one worker or
two,
joins, the fill that waits, late commits, typed fills, a purge while Redis is refused, hung or
read-only, a purge that arrives late, an old snapshot), `test_leases.py` (cut off, killed with owed
purges, one shard away, records lost) and `test_refuse.py`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Response

from maxage import CacheMiddleware, CacheSettings
from maxage.store.tokens import token_key
from tests.support.asgi import Exchange, call, http_scope
from tests.support.caching import background_done
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import wait_replicating
from tests.support.waiting import PATIENCE, eventually, wait_until

pytestmark = pytest.mark.anyio


class Row:
    """A row, read by GET and set by PUT; a GET can be held between its read and its answer."""

    def __init__(self, **headers: str) -> None:
        self.value = 0
        self.runs = 0
        self.gate: asyncio.Event | None = None
        self.has_read = asyncio.Event()
        self.app = FastAPI()

        @self.app.get("/row")
        async def read() -> Response:
            self.runs += 1
            value = self.value
            self.has_read.set()
            if self.gate is not None:
                await self.gate.wait()
            return Response(str(value), headers=headers)

        @self.app.put("/row")
        async def write(value: int) -> int:
            self.value = value
            return value

    def hold(self) -> asyncio.Event:
        """Hold the next reads until the event is set."""
        self.gate, self.has_read = asyncio.Event(), asyncio.Event()
        return self.gate


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"t{uuid.uuid4().hex[:12]}"


@asynccontextmanager
async def workers(app: Any, namespace: str, *urls: str) -> AsyncIterator[list[CacheMiddleware]]:
    """One worker for each URL; with different URLs they know nothing of each other."""
    async with AsyncExitStack() as stack:
        made = []
        for url in urls:
            settings = CacheSettings(
                redis_url=url,
                cache_namespace=namespace,
                cache_read_budget=2.0,
                cache_write_budget=2.0,
            )
            middleware = CacheMiddleware(app, settings)
            assert middleware.cache is not None
            await middleware.cache.open()
            stack.push_async_callback(middleware.aclose)
            made.append(middleware)
        yield made


async def read(worker: CacheMiddleware) -> str:
    return (await call(worker, path="/row")).body.decode()


async def write(worker: CacheMiddleware, value: int) -> None:
    assert (await call(worker, "PUT", "/row", f"value={value}")).status == 200


async def test_1_a_group_that_was_not_captured_before_the_handler_ran_protects_nothing(
    fault_proxy: FaultProxy, redis_url: str, namespace: str
) -> None:
    """Late groups: the response that names one is not stored, and so cannot outlive its purge."""
    row = Row(**{"cache-tag": "late"})

    async def purge_tag(value: int, response: Response) -> None:
        row.value = value
        response.headers["cache-group-invalidation"] = '"late"'

    row.app.put("/elsewhere")(purge_tag)
    async with workers(row.app, namespace, fault_proxy.url, redis_url) as (one, other):
        gate = row.hold()
        reading = Exchange(one, http_scope("GET", "/row")).start()
        await row.has_read.wait()
        for value in (1, 2):
            assert (await call(other, "PUT", "/elsewhere", f"value={value}")).status == 200
        gate.set()
        assert (await reading.finish()).body == b"0"
        await background_done(one)
        for worker in (one, other, one, other):
            assert await read(worker) == "2"
            await background_done(worker)
        assert row.runs < 5, "from the second time on it is stored"


async def test_a_token_that_is_evicted_while_a_handler_runs_is_not_the_one_that_it_captured(
    fault_proxy: FaultProxy, redis_url: str, redis_server: RedisServer, namespace: str
) -> None:
    """The purge finds no token, and the token made after it is another one."""
    row = Row()
    async with workers(row.app, namespace, fault_proxy.url, redis_url) as (one, other):
        gate = row.hold()
        reading = Exchange(one, http_scope("GET", "/row")).start()
        await row.has_read.wait()
        for key in redis_server.call("KEYS", f"{namespace}:t:*"):
            redis_server.call("DEL", key)
        await write(other, 1)
        redis_server.call("DEL", token_key(namespace, "p:/row"))
        gate.set()
        await reading.finish()
        await background_done(one)
        assert await read(other) == await read(one) == "1"


async def test_a_router_that_is_included_twice_is_purged_under_both_its_prefixes(
    redis_url: str, namespace: str
) -> None:
    """`scope["route"]` shows one template for both, and what lies behind them is one thing."""
    row = Row()
    router = APIRouter()
    router.add_api_route("/items/{item}", lambda item: row.value, methods=["GET"])

    def change(item: int) -> None:
        row.value += 1

    router.add_api_route("/items/{item}", change, methods=["PUT"])
    app = FastAPI()
    for prefix in ("/a", "/b"):
        app.include_router(router, prefix=prefix)
    async with workers(app, namespace, redis_url) as (one,):
        for value, written_to in enumerate(("/a", "/b", "/a"), 1):
            for prefix in ("/a", "/b"):
                await call(one, path=f"{prefix}/items/5")
            await background_done(one)
            await call(one, "PUT", f"{written_to}/items/5")
            for prefix in ("/a", "/b"):
                assert (await call(one, path=f"{prefix}/items/5")).body == b"%d" % value


async def test_a_refresh_in_the_background_that_began_before_a_purge_stores_nothing_for_after_it(
    fault_proxy: FaultProxy, redis_url: str, namespace: str
) -> None:
    """It captured its tokens before it asked, as every fill does."""
    row = Row(**{"cache-control": "max-age=0, stale-while-revalidate=600"})
    async with workers(row.app, namespace, fault_proxy.url, redis_url) as (one, other):
        assert await read(one) == "0"
        await background_done(one)
        gate = row.hold()
        assert await read(one) == "0"
        await row.has_read.wait()
        await write(other, 1)
        gate.set()
        await background_done(one)
        assert await read(one) == await read(other) == "1"


async def test_4_a_bump_that_is_delivered_after_its_retry_and_after_a_later_one_revives_nothing(
    fault_proxy: FaultProxy, redis_url: str, namespace: str
) -> None:
    """Every attempt draws a value of its own; what is stored under the second stays purged."""
    row = Row()
    async with workers(row.app, namespace, fault_proxy.url, redis_url) as (one, other):
        assert await read(other) == "0"
        await background_done(other)
        hold = fault_proxy.hold("SET", match=b"p:/row", times=1)
        async with asyncio.timeout(PATIENCE):
            await write(one, 1)
        assert one.cache is not None
        store = one.cache.store
        await eventually(lambda: store.redis_state.trusted)
        assert await read(other) == "1"
        await background_done(other)
        await write(other, 2)
        hold.release()
        await hold.until_delivered()
        for worker in (one, other):
            assert await read(worker) == "2"


@asynccontextmanager
async def split(redis: RedisServer) -> AsyncIterator[tuple[FaultProxy, FaultProxy, RedisServer]]:
    """Two ways to a primary, and its replica, which has all that it has."""
    follow = ("--replicaof", redis.host, str(redis.port))
    with (
        FaultProxy(redis.port) as way,
        FaultProxy(redis.port) as other_way,
        RedisServer.start(args=follow) as replica,
    ):
        wait_replicating(replica)
        yield way, other_way, replica


async def promote(redis: RedisServer, replica: RedisServer, *ways: FaultProxy) -> None:
    """Let the replica have all, stop following, and be where these ways lead."""

    def caught_up() -> bool:
        offset = redis.info("replication")["master_repl_offset"]
        return replica.info("replication")["slave_repl_offset"] == offset

    await asyncio.to_thread(wait_until, caught_up, "the replica has all")
    replica.call("REPLICAOF", "NO", "ONE")
    for way in ways:
        way.retarget(replica.port)


async def test_5_a_bump_that_a_failover_lost_revives_nothing(
    own_redis: RedisServer, namespace: str
) -> None:
    """The promoted server still has the old token and the response; both are of another history."""
    row = Row()
    async with (
        split(own_redis) as (way, other_way, replica),
        workers(row.app, namespace, way.url, other_way.url) as (one, other),
    ):
        assert await read(other) == "0"
        await background_done(other)
        await promote(own_redis, replica, way, other_way)
        await write(one, 1)  # the old server still confirms it
        way.drop_connections()
        other_way.drop_connections()
        for worker in (other, one, other, one):
            assert await read(worker) == "1"
            await background_done(worker)


async def test_5_a_process_that_leaves_a_deposed_primary_purges_what_was_stored_meanwhile(
    own_redis: RedisServer, namespace: str
) -> None:
    """Its last purges were confirmed by a server that is no more; it owes nothing that it knows."""
    row = Row()
    async with (
        split(own_redis) as (way, other_way, replica),
        workers(row.app, namespace, way.url, other_way.url) as (one, other),
    ):
        await promote(own_redis, replica, other_way)
        other_way.drop_connections()
        assert other.cache is not None
        store = other.cache.store
        await eventually(lambda: store.redis_state.trusted)
        gate = row.hold()
        reading = Exchange(other, http_scope("GET", "/row")).start()
        await row.has_read.wait()
        await write(one, 1)  # on the deposed one
        gate.set()
        await reading.finish()
        await background_done(other)
        way.retarget(replica.port)
        way.drop_connections()
        assert await read(one) == "1"
        await eventually(lambda: store.redis_state.trusted)
        assert await read(other) == "1"
