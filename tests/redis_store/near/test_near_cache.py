"""The near cache on a real server: used only while nothing can have been missed."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from maxage.redis_store.near.listener import TokenListener
from maxage.redis_store.near.near_cache import SILENCE, NearCache
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.settings import CacheSettings
from maxage.store.entry import Entry
from maxage.store.near_copy import KeptEntry
from maxage.store.tokens import NAMESPACE_GROUP, fresh_token, token_key
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE, eventually

GROUPS = (NAMESPACE_GROUP, "g:a")


def settings(url: str, mode: str, **values: Any) -> CacheSettings:
    """Settings with a namespace of their own, and budgets for a busy machine."""
    chosen = {
        "redis_url": url,
        "cache_namespace": f"near{uuid.uuid4().hex[:8]}",
        "cache_near_bytes": 1_000_000,
        "cache_near": mode,
        "cache_read_budget": 2.0,
        "cache_write_budget": 2.0,
    }
    return CacheSettings(**(chosen | values))


def usable(near: NearCache) -> bool:
    """Whether copies may be used, with nothing remembered from before."""
    return near._usable(time.monotonic())


def listening(near: NearCache) -> TokenListener:
    """What listens to the one server."""
    (listener,) = near.listeners._of.values()
    return listener


async def confirmed(near: NearCache, seconds: float) -> bool:
    """Whether every server answers within so many seconds."""
    answers = near.listeners.ask(lambda: seconds)
    return bool(answers) and all([a is not None and await a for a in answers])


async def begin(chosen: CacheSettings) -> tuple[RedisStore, NearCache]:
    """Return a store whose near cache listens."""
    store = RedisStore(chosen.redis_url or "", chosen)
    await store.open()
    near = store.near
    assert near is not None
    await store.read((), GROUPS)
    await eventually(lambda: usable(near))
    # The messages about the tokens that were just created have been heard.
    assert await confirmed(near, 5.0)
    return store, near


async def end(store: RedisStore) -> None:
    await store.close()
    await asyncio.to_thread(store.redis_state.close)


async def keep(store: RedisStore, near: NearCache, key: bytes = b"k") -> bool:
    """Look up and keep, as `Cache.lookup` does."""
    since = near.begin()
    tokens = (await store.read((), GROUPS)).tokens
    near.keep(made(key, tokens), since=since, ends=time.monotonic() + 60)
    return near.copies.find(key) is not None


def made(key: bytes, tokens: Any, groups: Sequence[str] = GROUPS) -> Entry:
    """Return an entry that carries the tokens of the groups."""
    stored = StoredResponse(
        status=200,
        headers=Headers(),
        body=b"",
        request_time=1.0,
        response_time=1.0,
        freshness_lifetime=60.0,
        corrected_initial_age=0.0,
    )
    return Entry(key=key, stored=stored, tokens=tuple(zip(groups, tokens, strict=True)))


KEPT = KeptEntry(made(b"k", (), ()))
"""A copy that was not purged."""


@pytest.fixture(params=["exact", "prompt"])
async def pair(
    request: pytest.FixtureRequest, fault_proxy: FaultProxy
) -> AsyncIterator[tuple[RedisStore, NearCache]]:
    """A store with a near cache, behind the fault proxy, in both modes."""
    store, near = await begin(settings(fault_proxy.url, request.param))
    yield store, near
    fault_proxy.pass_through()
    await end(store)


@pytest.fixture
async def exact(fault_proxy: FaultProxy) -> AsyncIterator[tuple[RedisStore, NearCache]]:
    """The same, in the mode that asks the server."""
    store, near = await begin(settings(fault_proxy.url, "exact"))
    yield store, near
    fault_proxy.pass_through()
    await end(store)


def tracking(server: RedisServer) -> Iterator[str]:
    """Yield the number of each connection that listens."""
    for line in server.call("CLIENT", "LIST").decode().splitlines():
        fields = dict(field.partition("=")[::2] for field in line.split())
        if "B" in fields["flags"]:
            yield fields["id"]


def end_tracking(server: RedisServer) -> None:
    """Close the connections that listen."""
    for number in tracking(server):
        server.call("CLIENT", "KILL", "ID", number)


def renew(server: RedisServer, store: RedisStore, group: str) -> None:
    """Purge a group as another worker does."""
    token = fresh_token(store.redis_state.node.history or b"")
    server.call("SET", token_key(store.redis_state.namespace, group), token)


async def test_another_workers_purge_is_seen(
    pair: tuple[RedisStore, NearCache], redis_server: RedisServer
) -> None:
    """The message drops the copy."""
    store, near = pair
    assert await keep(store, near)
    assert near.find(b"k") is not None
    await asyncio.to_thread(renew, redis_server, store, "g:a")
    await eventually(lambda: near.find(b"k") is None)
    assert len(near) == 0


async def test_a_confirmed_copy_is_current(
    exact: tuple[RedisStore, NearCache], redis_server: RedisServer
) -> None:
    """`exact`: whatever was purged before the question is known when the answer is there."""
    store, near = exact
    for _ in range(50):
        assert await keep(store, near)
        # Blocking: the message cannot be worked off before `find`.
        renew(redis_server, store, "g:a")
        copy = near.find(b"k")
        assert copy is not None
        assert not await near.confirm(copy)


async def test_a_turn_of_the_loop_asks_once(
    exact: tuple[RedisStore, NearCache], fault_proxy: FaultProxy
) -> None:
    """However many hits there are."""
    _, near = exact
    before = fault_proxy.seen["PING"]
    assert all(await asyncio.gather(*(near.confirm(KEPT) for _ in range(100))))
    after = fault_proxy.seen["PING"]
    assert after - before <= 3


async def test_cancelling_one_question_takes_nothing_from_the_others(
    pair: tuple[RedisStore, NearCache],
) -> None:
    """Each has a future of its own."""
    _, near = pair
    tasks = [asyncio.create_task(near.confirm(KEPT)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[3], asyncio.CancelledError) or answers[3] is True
    assert all(answer is True for n, answer in enumerate(answers) if n != 3)


async def test_its_own_purge_drops_the_copy_before_it_is_sent(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy
) -> None:
    """The message about it need not have come back."""
    store, near = pair
    assert await keep(store, near)
    fault_proxy.hold("SET")
    purge = asyncio.create_task(store.renew(["g:a"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert near.copies.find(b"k") is None
    fault_proxy.release()
    assert None not in await purge


async def test_a_purge_by_the_typed_cache_in_a_thread_drops_the_copy(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy
) -> None:
    """Both halves of the library share what they know of a server."""
    store, near = pair
    assert await keep(store, near)
    chosen = store.settings
    other = SyncRedisStore(fault_proxy.url, chosen)
    assert other.redis_state is store.redis_state
    await asyncio.to_thread(other.renew_now, ["g:a"])
    assert near.copies.find(b"k") is None
    other.close()


async def test_a_lookup_that_a_purge_has_overtaken_is_not_kept(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """Its answer was delayed; the message about its token came first."""
    store, near = pair
    fault_proxy.delay(1, "reply", commands={"MGET"})
    task = asyncio.create_task(keep(store, near))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(renew, redis_server, store, "g:a")
    assert not await task
    fault_proxy.pass_through()


async def test_a_lookup_without_a_listener_is_not_copied(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """Neither the loss nor the begin of listening may lie in it."""
    store, near = pair
    since = near.begin()
    tokens = (await store.read((), GROUPS)).tokens
    await asyncio.to_thread(end_tracking, redis_server)
    await eventually(lambda: not usable(near))
    await eventually(lambda: usable(near))
    near.keep(made(b"k", tokens), since=since, ends=time.monotonic() + 60)
    assert near.copies.find(b"k") is None


async def test_a_lost_connection_drops_everything_and_comes_back(
    pair: tuple[RedisStore, NearCache], redis_server: RedisServer
) -> None:
    """Purges in between are unknown."""
    store, near = pair
    assert await keep(store, near)
    await asyncio.to_thread(end_tracking, redis_server)
    await eventually(lambda: near.copies.find(b"k") is None)
    await eventually(lambda: usable(near))
    assert near.find(b"k") is None
    assert await keep(store, near)


class Closed:
    """A transport that was closed, as uvloop's is before it says so."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        self.abort()
        raise RuntimeError("unable to perform operation; the handler is closed")


async def test_a_question_on_a_closed_transport_is_a_lost_connection(
    exact: tuple[RedisStore, NearCache],
) -> None:
    """Who asks is told, and the connection is made anew."""
    store, near = exact
    failed: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failed.append(context))
    pinger = listening(near).pinger
    assert pinger._transport is not None
    pinger._transport = Closed(pinger._transport)  # type: ignore[assignment] # as uvloop's
    async with asyncio.timeout(PATIENCE):
        assert not await near.confirm(KEPT)
    await eventually(lambda: usable(near))
    assert await keep(store, near)
    assert failed == []


async def test_a_transport_that_is_closed_while_it_connects_ends_no_listener(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis-py lets uvloop's error through."""
    connect, attempts = Connection.connect, 0

    async def failing(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:  # the store's own connection may be the first
            raise RuntimeError("unable to perform operation; the handler is closed")
        await connect(connection)

    monkeypatch.setattr(Connection, "connect", failing)
    store, _ = await begin(settings(redis_server.url, "prompt"))
    await end(store)
    assert attempts > 2


async def test_a_server_that_does_not_answer_any_more_gives_no_hits(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy
) -> None:
    """A half-open connection looks like one on which nothing happens."""
    store, near = pair
    assert await keep(store, near)
    fault_proxy.hang()
    if near.exact:
        began = time.monotonic()
        assert not await confirmed(near, 0.1)
        in_time(time.monotonic() - began, 2)
    else:
        await asyncio.sleep(SILENCE * 1.5)
        assert near.find(b"k") is None
    fault_proxy.pass_through()


async def test_after_a_failover_nothing_of_the_first_server_is_found(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy
) -> None:
    """Another server answers at the same address; it is listened to before anything is kept."""
    store, near = pair
    assert await keep(store, near)
    with await asyncio.to_thread(RedisServer.start) as second:
        await asyncio.to_thread(fault_proxy.retarget, second.port)
        await asyncio.to_thread(fault_proxy.drop_connections)
        await eventually(lambda: near.copies.find(b"k") is None)
        first = listening(near).history
        await eventually(lambda: usable(near), within=30)
        assert listening(near).history != first
        assert near.find(b"k") is None
        assert listening(near).history == store.redis_state.node.history


async def test_a_stopped_server_gives_no_hits(mode_of_a_server_of_its_own: str) -> None:
    """SIGSTOP: the kernel keeps the connection, the server does not answer."""
    with await asyncio.to_thread(RedisServer.start) as server:
        store, near = await begin(settings(server.url, mode_of_a_server_of_its_own))
        try:
            assert await keep(store, near)
            await asyncio.to_thread(server.pause)
            await asyncio.sleep(SILENCE * 1.5)
            if near.exact:
                assert not await confirmed(near, 0.1)
            else:
                assert near.find(b"k") is None
        finally:
            await asyncio.to_thread(server.resume)
            await end(store)


@pytest.fixture(params=["exact", "prompt"])
def mode_of_a_server_of_its_own(request: pytest.FixtureRequest) -> str:
    """Both modes, for tests that end the server."""
    return str(request.param)


async def test_a_flush_drops_everything(
    pair: tuple[RedisStore, NearCache], redis_server: RedisServer
) -> None:
    """The server says so in a message without names."""
    store, near = pair
    assert await keep(store, near)
    await asyncio.to_thread(redis_server.flush)
    await eventually(lambda: near.copies.find(b"k") is None)


async def test_nothing_is_found_while_a_purge_is_owed(
    pair: tuple[RedisStore, NearCache],
) -> None:
    """Not only of what the purge was about."""
    store, near = pair
    assert await keep(store, near)
    store.redis_state.owed_purges.add(["g:other"])
    await asyncio.sleep(0.02)
    assert near.find(b"k") is None
    store.redis_state.owed_purges.paid(["g:other"], 10**9)
    await eventually(lambda: near.find(b"k") is not None)


async def test_an_owed_purge_drops_the_copy(pair: tuple[RedisStore, NearCache]) -> None:
    """It is not there any more when the journal is empty again."""
    store, near = pair
    assert await keep(store, near)
    store.redis_state.owe(["g:a"])
    assert near.copies.find(b"k") is None


async def test_nothing_is_found_while_another_server_is_listened_to(
    pair: tuple[RedisStore, NearCache],
) -> None:
    """Purges go to the one that the newest connection has met."""
    store, near = pair
    assert await keep(store, near)
    store.redis_state.node.history = b"another"
    await asyncio.sleep(0.02)
    assert near.find(b"k") is None
    await eventually(lambda: near.copies.find(b"k") is None)


async def test_a_copy_ends(pair: tuple[RedisStore, NearCache]) -> None:
    """With the freshness of what it is a copy of."""
    store, near = pair
    since = near.begin()
    tokens = (await store.read((), GROUPS)).tokens
    near.keep(made(b"k", tokens), since=since, ends=time.monotonic() + 1)
    await eventually(lambda: near.find(b"k") is not None)
    await asyncio.sleep(1.01)
    assert near.find(b"k") is None


async def test_a_server_that_may_not_track_leaves_the_near_cache_off(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so; all else works as without it."""
    user = f"near{uuid.uuid4().hex[:6]}"
    redis_server.call("ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    url = redis_server.url.replace("redis://", f"redis://{user}:pw@")
    chosen = settings(url, "exact")
    store = RedisStore(url, chosen)
    await store.open()
    try:
        await eventually(lambda: "near cache is off" in caplog.text)
        near = store.near
        assert near is not None
        assert not usable(near)
        assert len((await store.read((), GROUPS)).tokens) == 2
        assert "pw" not in caplog.text
    finally:
        await end(store)
        redis_server.call("ACL", "DELUSER", user)


async def test_tracking_that_is_not_confirmed_is_none(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that does not say that it tells of purges may not."""
    fault_proxy.garbage(data=b":1\r\n", commands=("CLIENT",))
    chosen = settings(fault_proxy.url, "prompt")
    store = RedisStore(fault_proxy.url, chosen)
    await store.open()
    try:
        near = store.near
        assert near is not None
        await eventually(lambda: "near cache is off" in caplog.text)
        assert "CLIENT TRACKING" in caplog.text
        assert not usable(near)
        fault_proxy.pass_through()
        await eventually(lambda: usable(near))
    finally:
        await end(store)


@pytest.mark.parametrize("data", [b":1\r\n", b"#f\r\n", b"_\r\n", b"+PONGO\r\n"], ids=repr)
async def test_a_server_that_answers_something_else_is_not_listened_to(
    pair: tuple[RedisStore, NearCache], fault_proxy: FaultProxy, data: bytes
) -> None:
    """A server that answers like that may not tell of purges either: no copy is used."""
    store, near = pair
    assert await keep(store, near)
    fault_proxy.garbage(data=data, commands=("PING",))
    # A copy that is asked for keeps the PINGs going.
    await eventually(lambda: near.find(b"k") is None and near.copies.find(b"k") is None)
    fault_proxy.pass_through()
    await eventually(lambda: usable(near))
    assert near.find(b"k") is None


async def test_no_near_cache_without_room_for_it(redis_server: RedisServer) -> None:
    """It is off by default, without a listener."""
    store = RedisStore(redis_server.url, settings(redis_server.url, "exact", cache_near_bytes=0))
    await store.open()
    await store.read((), GROUPS)
    assert store.near is None
    await end(store)


async def test_closing_leaves_no_connection(redis_server: RedisServer) -> None:
    """Nor a task."""
    store, near = await begin(settings(redis_server.url, "prompt"))
    await end(store)
    assert store.near is None
    assert not usable(near)
    assert not near.listeners._of
    await eventually(lambda: not list(tracking(redis_server)))
