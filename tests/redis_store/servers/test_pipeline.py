"""Commands pipelined on one connection, against a real server and through a proxy that delays."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import hiredis
import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage import CacheSettings
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.servers.packing import _LARGE, packed
from maxage.redis_store.servers.pipeline import OnFailure, PipelinedConnection
from tests.support.cancelling import answered_rightly
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

LONG = 10.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def linked(server: RedisServer, told: OnFailure = lambda _: None) -> PipelinedConnection:
    """Return a link to the server, which tells that way how the server failed."""
    connection = Connection(host=server.host, port=server.port, protocol=2)
    await connection.connect()
    return PipelinedConnection(connection, told)


@contextlib.asynccontextmanager
async def linked_to(
    serve: Serve, told: OnFailure = lambda _: None
) -> AsyncGenerator[PipelinedConnection]:
    """A link to what answers without being a Redis server."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = Connection(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        connection._reader, connection._writer = await asyncio.open_connection(
            "127.0.0.1", connection.port
        )
        yield PipelinedConnection(connection, told)


@pytest.fixture
async def pipelined(
    redis_url: str, redis_server: RedisServer
) -> AsyncGenerator[PipelinedConnection]:
    del redis_url  # it empties the server
    pipelined = await linked(redis_server)
    yield pipelined
    pipelined.close()
    await asyncio.sleep(0)


def due(seconds: float = LONG) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_answers_come_in_the_order_of_the_commands(pipelined: PipelinedConnection) -> None:
    """An error stands in its place."""
    answers = await pipelined.send(
        [("SET", b"k", b"v"), ("INCR", b"k"), ("GET", b"k")], due=due(), within=LONG
    )
    assert answers[0] == b"OK"
    assert isinstance(answers[1], Exception)
    assert answers[2] == b"v"
    assert pipelined.usable


@pytest.mark.parametrize("size", [0, _LARGE - 1, _LARGE, _LARGE + 1, 5 * 2**20])
async def test_a_value_of_any_size_arrives_as_it_is(
    pipelined: PipelinedConnection, size: int
) -> None:
    """Among others of the same turn; a large one is handed to the transport without a copy."""
    value = random.Random(size).randbytes(size)
    commands = [("SET", b"k", value, "PX", 60_000), ("SET", b"l", value), ("GET", b"k")]
    one = pipelined.send(commands, due=due(), within=LONG)
    other = pipelined.send([("MGET", b"l", b"none")], due=due(), within=LONG)
    assert await one == [b"OK", b"OK", value]
    assert await other == [[value, None]]
    kept = [piece is value for piece in packed(commands)]
    assert any(kept) is (size >= _LARGE)


@pytest.mark.parametrize(
    "command",
    [
        ("SET", b"k\r\n", b"", "NX", "PX", 800),
        ("SET", b"k" * 600, b"v" * 70_000, "EX", 3600),
        ("SET", b"k", b"v"),
        ("MGET", b"a", b"", b"b" * 700),
        ("PTTL", b"k"),
    ],
)
def test_the_bytes_of_a_command_are_those_that_hiredis_makes(command: tuple[Any, ...]) -> None:
    """Whatever the lengths of its parts."""
    assert b"".join(packed([command, command])) == hiredis.pack_command(command) * 2


async def test_nothing_is_answered_at_once(pipelined: PipelinedConnection) -> None:
    """It takes no other question's answer."""
    nothing, something = (
        pipelined.send(commands, due=due(), within=LONG) for commands in ([], [("ECHO", b"x")])
    )
    assert [await nothing, await something] == [[], [b"x"]]


@pytest.mark.parametrize("seed", range(5))
async def test_every_caller_gets_its_own_answer_whichever_is_cancelled(
    pipelined: PipelinedConnection, seed: int
) -> None:
    """The reply to a command that was given up is read and dropped."""
    chance = random.Random(seed)

    async def ask(number: int) -> bool:
        answers = await pipelined.send([("ECHO", b"%d" % number)], due=due(), within=LONG)
        return answers == [b"%d" % number]

    tasks: list[asyncio.Task[bool]] = []
    for number in range(400):
        tasks.append(asyncio.create_task(ask(number)))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    assert await answered_rightly(tasks) > 100


async def test_a_hanging_server_is_given_up_within_the_budget(own_redis: RedisServer) -> None:
    """All who wait are told; when it goes on, late answers are dropped and none is shifted."""
    told: list[Exception] = []
    pipelined = await linked(own_redis, told.append)
    own_redis.pause()
    asked = [pipelined.send([("ECHO", b"a")], due=due(0.1), within=0.1) for _ in range(3)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(result, TimeoutError) for result in results)
    assert len(told) == 1
    again = pipelined.send([("ECHO", b"b")], due=due(0.1), within=0.1)
    assert isinstance((await asyncio.gather(again, return_exceptions=True))[0], TimeoutError)
    own_redis.resume()
    assert await pipelined.send([("ECHO", b"c")], due=due(), within=LONG) == [b"c"]
    assert len(told) == 2
    pipelined.close()
    await asyncio.sleep(0)


async def test_a_failure_is_told_once_however_many_wait(own_redis: RedisServer) -> None:
    """Three who waited for one answer are no three failures in a row."""
    told: list[Exception] = []
    pipelined = await linked(own_redis, told.append)
    asked = [pipelined.send([("PING",)], due=due(), within=LONG) for _ in range(3)]
    own_redis.pause()
    asked += [pipelined.send([("DEBUG", "SLEEP", "0")], due=due(), within=LONG)]
    own_redis.kill()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(results[-1], RedisConnectionError)
    assert len(told) == 1


async def test_a_link_that_is_lost_while_idle_is_no_failure(
    pipelined: PipelinedConnection,
) -> None:
    """Servers close connections that were idle for long."""
    pipelined.connection_lost(None)
    assert not pipelined.usable
    assert pipelined.send([("PING",)], due=due(), within=LONG).exception() is not None


async def test_an_answer_that_came_while_the_loop_stood_still_counts(
    pipelined: PipelinedConnection,
) -> None:
    """It lies there unread when the budget is over."""
    asked = pipelined.send([("ECHO", b"x")], due=due(0.05), within=0.05)
    await asyncio.sleep(0)  # it is sent
    time.sleep(0.2)  # noqa: ASYNC251 - that is the point
    assert await asked == [b"x"]


async def test_an_unrequested_reply_ends_the_link(
    pipelined: PipelinedConnection,
) -> None:
    """A server that sends it is not believed about anything else."""
    pipelined.data_received(b"+OK\r\n")
    assert not pipelined.usable


@pytest.mark.parametrize("bad", [b"-LOADING the dataset\r\n", b"?\r\n"])
async def test_answers_before_one_that_ends_the_link_count(bad: bytes) -> None:
    """They arrive in the same piece; those behind it fail with its command."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(200)
        writer.write(b"+OK\r\n:1\r\n" + bad + b"+PONG\r\n")
        with contextlib.suppress(ConnectionError):
            while await reader.read(200):
                pass
        writer.close()
        ended.set()

    told: list[Exception] = []
    async with linked_to(serve, told.append) as pipelined:
        asked = [
            pipelined.send(commands, due=due(), within=LONG)
            for commands in ([("SET", b"k", b"v"), ("INCR", "n")], [("PING",)], [("PING",)])
        ]
        first, *others = await asyncio.gather(*asked, return_exceptions=True)
        await ended.wait()
    assert first == [b"OK", 1]
    assert len(told) == 1
    assert others == told * 2
    assert not pipelined.usable


@pytest.mark.parametrize(("piece", "arrives"), [(100 * 1024, True), (1024, False)])
async def test_a_large_answer_is_waited_for_while_much_of_it_arrives(
    piece: int, arrives: bool
) -> None:
    """A large body takes longer than the budget; a server that dribbles has failed."""
    pieces, ended = 6, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"$%d\r\n" % (pieces * piece))
        for _ in range(pieces):
            writer.write(bytes(piece))
            await asyncio.sleep(0.1)
        writer.write(b"\r\n")
        writer.close()
        ended.set()

    async with linked_to(serve) as pipelined:
        asked = pipelined.send([("GET", b"k")], due=due(0.25), within=0.25)
        (answer,) = await asyncio.gather(asked, return_exceptions=True)
        pipelined.close()
        await ended.wait()
    assert (answer == [bytes(pieces * piece)]) == arrives
    assert isinstance(answer, TimeoutError) != arrives


@pytest.mark.parametrize(("piece", "failed"), [(1024 * 1024, 0), (100 * 1024, 1)])
async def test_an_answer_that_is_too_large_for_all_budgets_is_no_failure(
    piece: int, failed: int
) -> None:
    """Many large bodies asked for in one turn must not open the breaker; a slow server may."""
    failures: list[Exception] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"$1000000000000\r\n")
        with contextlib.suppress(ConnectionError):
            while not asked.done():
                writer.write(bytes(piece))
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        ended.set()

    async with linked_to(serve, failures.append) as pipelined:
        asked = pipelined.send([("GET", b"k")], due=due(0.4), within=0.4)
        behind = pipelined.send([("PING",)], due=due(0.4), within=0.4)
        answers = await asyncio.gather(asked, behind, return_exceptions=True)
        assert all(isinstance(answer, TimeoutError) for answer in answers)
        assert len(failures) == failed
        # No caller waits for the rest of it.
        assert pipelined.usable is bool(failed)
        pipelined.close()
        await ended.wait()


@pytest.mark.parametrize(("count", "size"), [(32, 2**20), (16, 2**22)])
async def test_many_large_bodies_arrive_together(redis_url: str, count: int, size: int) -> None:
    """Asked for in one turn, and so in one command."""
    settings = CacheSettings(redis_url=redis_url, cache_read_budget=5, cache_write_budget=5)
    store = RedisStore(redis_url, settings)
    await store.open()
    try:
        keys = [b"large:%02d" % number for number in range(count)]
        for key in keys:
            assert await store.write([(key, key * (size // len(key)))], keep_for=60, tokens={})
        readings = await asyncio.gather(*(store.read((key,), ("n",)) for key in keys))
    finally:
        await store.close()
    for key, reading in zip(keys, readings, strict=True):
        assert reading.values[0] == key * (size // len(key))
