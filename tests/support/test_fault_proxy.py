"""The fault proxy: a proxy that does not fail as told proves nothing."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import redis
import redis.asyncio

from tests.support.fault_proxy import ERRORS, PUSH, FaultProxy
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.resp import (
    ReplyError,
    RespClient,
    encode,
)
from tests.support.timing import in_time
from tests.support.waiting import wait_until

Direction = Literal["request", "reply", "both"]


@pytest.fixture
def connect(fault_proxy: FaultProxy) -> Iterator[Callable[[], RespClient]]:
    """Opens connections through the proxy, with a short timeout, and closes them."""
    clients: list[RespClient] = []

    def connect() -> RespClient:
        clients.append(RespClient(fault_proxy.port, timeout=1.0))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


Connect = Callable[[], RespClient]


class TestFaultProxy:
    """Each way to fail, seen by a client and by the server behind."""

    def test_it_passes_everything(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """Replies come back in their order, whatever their size and shape."""
        client = connect()
        big = os.urandom(3_000_000)
        assert client.pipeline(
            ("SET", "k", big),
            ("GET", "k"),
            ("GET", "none"),
            ("INCR", "k"),
            ("MGET", "k", "none"),
            ("LRANGE", "none", 0, 1),
        )[1:] == [big, None, _is_error, [big, None], []]
        client.send(b"PING\r\n")
        assert client.read() == b"PONG"

    def test_it_counts(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """Commands are counted by name and kept in order, connections by number."""
        first, second = connect(), connect()
        first.call("set", "a", 1)
        second.pipeline(("GET", "a"), ("GET", "b"))
        assert fault_proxy.seen == {"SET": 1, "GET": 2}
        assert fault_proxy.commands == [(b"set", b"a", b"1"), (b"GET", b"a"), (b"GET", b"b")]
        assert fault_proxy.connections == 2
        assert fault_proxy.server_connections == 2
        assert fault_proxy.open_connections == 2
        first.close()
        wait_until(lambda: fault_proxy.open_connections == 1, "the connection is gone")
        fault_proxy.forget()
        assert fault_proxy.seen == {}
        fault_proxy.wait_seen("get", 0)

    def test_refuse(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """New connections are refused and old ones end, until it passes again on its port."""
        old = connect()
        old.call("PING")
        for _ in range(3):
            fault_proxy.refuse()
            with pytest.raises(ConnectionError):
                old.call("PING")
            with pytest.raises(ConnectionRefusedError):
                connect()
            fault_proxy.pass_through()
            old = connect()
            assert old.call("PING") == b"PONG"

    def test_refuse_may_keep_connections(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """With `drop=False` only new connections are refused."""
        old = connect()
        old.call("PING")
        fault_proxy.refuse(drop=False)
        assert old.call("PING") == b"PONG"
        with pytest.raises(ConnectionRefusedError):
            connect()

    def test_hang(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """Old and new connections hang, the server gets nothing, and they are reset at the end."""
        old = connect()
        old.call("PING")
        fault_proxy.hang()
        clients = old, connect()
        for client in clients:
            client.send(encode("SET", "k", "v"))
        fault_proxy.wait_seen("SET", 2)
        for client in clients:
            assert client.silent_for()
        assert redis_server.call("GET", "k") is None
        fault_proxy.pass_through()
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.read()
        assert connect().call("PING") == b"PONG"

    def test_hang_after_delivery(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """With `deliver` the command is carried out although no answer comes."""
        client = connect()
        fault_proxy.hang(commands={"SET"}, deliver=True)
        assert client.call("PING") == b"PONG"
        client.send(encode("SET", "k", "v"))
        wait_until(lambda: redis_server.call("GET", "k") == b"v", "the server gets the command")
        client.send(encode("PING"))
        assert client.silent_for()

    def test_hang_never_mixes_replies_up(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """After one lost reply nothing more comes, or it would be taken for the lost one."""
        for deliver in (False, True):
            client = connect()
            fault_proxy.hang(commands={"GET"}, times=1, deliver=deliver)
            client.send(encode("PING") + encode("GET", "a") + encode("PING"))
            assert client.read() == b"PONG"
            assert client.silent_for()
            assert connect().call("GET", "a") is None

    def test_hang_withholds_what_is_under_way(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """A reply that arrives while it hangs is not passed on either."""
        client = connect()
        client.send(encode("BLPOP", "list", 5))
        fault_proxy.wait_seen("BLPOP")
        wait_until(lambda: redis_server.info("clients")["blocked_clients"] == "1", "it blocks")
        fault_proxy.hang()
        redis_server.call("RPUSH", "list", "x")
        assert client.silent_for()

    @pytest.mark.parametrize(
        ("direction", "least"), [("request", 0.2), ("reply", 0.2), ("both", 0.4)]
    )
    def test_delay(
        self, fault_proxy: FaultProxy, connect: Connect, direction: Direction, least: float
    ) -> None:
        """Each way takes longer by the delay, and a pipeline is late only once."""
        client = connect()
        client.call("PING")
        fault_proxy.delay(0.2, direction)
        began = time.monotonic()
        assert client.pipeline(*[("PING",)] * 20) == [b"PONG"] * 20
        assert least <= time.monotonic() - began
        fault_proxy.pass_through()
        began = time.monotonic()
        client.call("PING")
        in_time(time.monotonic() - began, least)

    def test_delay_of_some_commands(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """A delay for one command leaves others alone, on other connections."""
        slow, quick = connect(), connect()
        fault_proxy.delay(0.3, "request", commands={"SET"})
        slow.send(encode("SET", "k", "v"))
        fault_proxy.wait_seen("SET")
        assert quick.call("GET", "k") is None
        assert slow.read() == b"OK"

    @pytest.mark.parametrize("after", [0, 1, 20, None])
    def test_reset(
        self,
        fault_proxy: FaultProxy,
        connect: Connect,
        redis_server: RedisServer,
        after: int | None,
    ) -> None:
        """The connection is reset before, at the start of or within the reply."""
        redis_server.call("SET", "k", "x" * 100)
        client = connect()
        fault_proxy.reset(after=after, commands={"GET"})
        assert client.call("PING") == b"PONG"
        with pytest.raises(ConnectionResetError):
            client.call("GET", "k")
        fault_proxy.pass_through()
        assert connect().call("GET", "k") == b"x" * 100

    @pytest.mark.parametrize(("after", "got"), [(0, 0), (1, 1), (20, 20), (None, 54)])
    def test_cut(
        self,
        fault_proxy: FaultProxy,
        connect: Connect,
        redis_server: RedisServer,
        after: int | None,
        got: int,
    ) -> None:
        """Exactly so many bytes of the reply arrive before the connection is closed."""
        redis_server.call("SET", "k", "x" * 100)
        client = connect()
        fault_proxy.cut(after=after)
        with pytest.raises(ConnectionError) as caught:
            client.call("GET", "k")
        whole = b"$100\r\n" + b"x" * 100 + b"\r\n"
        assert str(caught.value) == f"the connection ended after {whole[:got]!r}"

    def test_cut_counts_over_replies(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """The bytes of all replies of a connection count, and each connection has its own."""
        fault_proxy.cut(after=10)
        for _ in range(2):
            client = connect()
            assert client.call("PING") == b"PONG"
            with pytest.raises(ConnectionError, match=r"b'\+PO'"):
                client.call("PING")

    def test_garbage(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """Random bytes, the same for the same seed, come instead of the reply."""
        seen: list[bytes] = []
        for _ in range(2):
            fault_proxy.garbage(20, seed=7)
            client = connect()
            client.send(encode("SET", "k", "v"))
            seen.append(client.read_bytes(20))
        assert seen[0] == seen[1]
        fault_proxy.garbage(data=b"+WRONG\r\n", times=1)
        client = connect()
        assert client.pipeline(("GET", "k"), ("GET", "k")) == [b"WRONG", None]

    @pytest.mark.parametrize("word", sorted(ERRORS))
    def test_errors(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer, word: str
    ) -> None:
        """Each error comes once per command, in the pipeline's order, and nothing is done."""
        client = connect()
        fault_proxy.error(word, commands={"set"})
        replies = client.pipeline(
            ("GET", "k"), ("SET", "k", "v"), ("GET", "k"), ("SET", "k", "w"), ("PING",)
        )
        assert [type(reply) for reply in replies] == [type(None), ReplyError] * 2 + [bytes]
        assert str(replies[1]) == ERRORS[word]
        assert redis_server.call("GET", "k") is None

    def test_errors_of_every_command(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """Without a list of commands all get the error, but for the excepted and the limit."""
        client = connect()
        fault_proxy.error("-ERR my own text\r\n", but={"PING"}, times=2)
        fault_proxy.error("OOM", commands={"ECHO"}, also=True)
        replies = client.pipeline(
            ("PING",), ("GET", "k"), ("GET", "k"), ("GET", "k"), ("ECHO", "x")
        )
        assert [str(reply) for reply in replies] == [
            "b'PONG'",
            "ERR my own text",
            "ERR my own text",
            "None",
            ERRORS["OOM"],
        ]

    def test_errors_without_a_server(self) -> None:
        """Local answers need no server, and a command for a server that is away ends it all."""
        with FaultProxy(free_port()) as proxy:
            proxy.error("LOADING", commands={"GET"})
            with RespClient(proxy.port) as client:
                assert str(client.pipeline(("GET", "k"))[0]) == ERRORS["LOADING"]
                with pytest.raises(ConnectionError):
                    client.call("PING")

    def test_a_held_command_arrives_late(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """A SET that its client gave up is carried out when it is released."""
        hold = fault_proxy.hold("set", match=b"token")
        client = connect()
        assert client.call("SET", "other", "1") == b"OK"
        client.send(encode("SET", "token:a", "late"))
        hold.wait_held()
        assert hold.held == [(b"SET", b"token:a", b"late")]
        client.close()
        redis_server.call("SET", "token:a", "early")
        assert connect().call("GET", "token:a") == b"early"
        with pytest.raises(TimeoutError):
            hold.wait_delivered(timeout=0.05)
        hold.release()
        hold.wait_delivered()
        assert redis_server.call("GET", "token:a") == b"late"
        assert connect().call("SET", "token:a", "free") == b"OK"

    def test_a_held_first_command(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """It works for the first command of a connection that has been reset meanwhile, too."""
        hold = fault_proxy.hold("SET")
        connect().send(encode("SET", "k", "v") + encode("INCR", "n"))
        hold.wait_held()
        fault_proxy.drop_connections(reset=True)
        assert redis_server.call("GET", "n") is None
        fault_proxy.release()
        hold.wait_delivered()
        assert redis_server.call("GET", "k") == b"v"
        wait_until(lambda: redis_server.call("GET", "n") == b"1", "the rest arrives too")

    def test_a_held_command_keeps_the_order(
        self, fault_proxy: FaultProxy, connect: Connect
    ) -> None:
        """What was sent behind it waits behind it; other connections do not."""
        hold = fault_proxy.hold("SET", times=1)
        client = connect()
        client.send(encode("SET", "k", "1") + encode("GET", "k"))
        hold.wait_held()
        assert connect().call("GET", "k") is None
        assert connect().call("SET", "k", "0") == b"OK"
        hold.release()
        assert [client.read(), client.read()] == [b"OK", b"1"]

    def test_a_dropped_command_never_arrives(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """Dropping loses the command with its connection."""
        hold = fault_proxy.hold("SET")
        client = connect()
        client.call("PING")
        client.send(encode("SET", "k", "1"))
        hold.wait_held()
        hold.drop()
        with pytest.raises(ConnectionResetError):
            client.read()
        wait_until(lambda: fault_proxy.open_connections == 0, "the connection is gone")
        assert redis_server.call("GET", "k") is None

    def test_a_held_reply(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """A held reply was made before later writes and arrives after them."""
        redis_server.call("SET", "k", "old")
        hold = fault_proxy.hold("GET", side="reply")
        client = connect()
        client.send(encode("GET", "k"))
        hold.wait_held()
        redis_server.call("SET", "k", "new")
        hold.release()
        assert client.read() == b"old"
        assert client.call("GET", "k") == b"new"

    def test_held_invalidation_messages(
        self, fault_proxy: FaultProxy, connect: Connect, redis_server: RedisServer
    ) -> None:
        """Messages of a tracking connection are passed on, and can be held back."""
        client = connect()
        own_id = client.call("CLIENT", "ID")
        client.call("CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", "PREFIX", "t:")
        client.call("SUBSCRIBE", "__redis__:invalidate")
        redis_server.call("SET", "t:1", "v")
        assert client.read() == [b"message", b"__redis__:invalidate", [b"t:1"]]
        assert client.call("PING") == [b"pong", b""]
        hold = fault_proxy.hold(PUSH, side="reply")
        redis_server.call("SET", "t:2", "v")
        hold.wait_held()
        client.send(encode("PING"))
        hold.release()
        assert [client.read()[0], client.read()[0]] == [b"message", b"pong"]
        fault_proxy.hang()
        redis_server.call("SET", "t:3", "v")
        assert client.silent_for()

    def test_resp3_and_its_pushes(self, fault_proxy: FaultProxy, redis_server: RedisServer) -> None:
        """Subscriptions and errors do not confuse the order in RESP3."""
        with redis.Redis(port=fault_proxy.port, protocol=3, socket_timeout=2) as client:
            channel = client.pubsub()
            channel.subscribe("c")
            assert channel.get_message(timeout=1)["type"] == "subscribe"
            redis_server.call("PUBLISH", "c", "x")
            assert channel.get_message(timeout=1)["data"] == b"x"
            fault_proxy.error("OOM", commands={"SET"})
            with client.pipeline(transaction=False) as pipeline:
                pipeline.set("k", 1).get("k").set("k", 2).hgetall("none")
                replies = pipeline.execute(raise_on_error=False)
            assert [type(r).__name__ for r in replies][1::2] == ["NoneType", "dict"]
            assert all(isinstance(r, redis.ResponseError) for r in replies[::2])
            channel.close()

    def test_transactions(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """MULTI and EXEC pass as they are."""
        client = connect()
        replies = client.pipeline(("MULTI",), ("SET", "k", 1), ("GET", "k"), ("EXEC",), ("PING",))
        assert replies == [b"OK", b"QUEUED", b"QUEUED", [b"OK", b"1"], b"PONG"]

    async def test_many_tasks_through_redis_py(self, fault_proxy: FaultProxy) -> None:
        """Every task gets its own reply while the proxy keeps changing its mode."""
        pool = redis.asyncio.BlockingConnectionPool(
            host="127.0.0.1", port=fault_proxy.port, max_connections=8, socket_timeout=0.5
        )
        client = redis.asyncio.Redis(connection_pool=pool)
        failed = 0

        async def use(number: int) -> None:
            nonlocal failed
            for turn in range(20):
                try:
                    assert await client.echo(f"{number}-{turn}") == f"{number}-{turn}".encode()
                except redis.RedisError:
                    failed += 1

        async def disturb() -> None:
            for change in (
                lambda: fault_proxy.delay(0.001, "both"),
                lambda: fault_proxy.cut(times=3),
                lambda: fault_proxy.error("OOM", commands={"ECHO"}, times=5),
                lambda: fault_proxy.reset(times=3),
                fault_proxy.drop_connections,
                fault_proxy.pass_through,
            ):
                await asyncio.to_thread(change)
                await asyncio.sleep(0.02)

        try:
            await asyncio.gather(disturb(), *(use(number) for number in range(16)))
            fault_proxy.pass_through()
            # Of the connections in the pool some may have been dropped a moment ago.
            await pool.disconnect()
            assert await client.echo("end") == b"end"
        finally:
            await client.aclose()
            await pool.aclose()
        assert failed < 16 * 20

    def test_retarget(self, fault_proxy: FaultProxy, connect: Connect) -> None:
        """New connections go to the new server, as after a failover."""
        with RedisServer.start() as other:
            other.call("SET", "who", "other")
            old = connect()
            old.call("PING")
            fault_proxy.retarget(other.port)
            assert old.call("GET", "who") is None
            assert connect().call("GET", "who") == b"other"

    def test_a_server_that_dies(self, own_redis: RedisServer) -> None:
        """When the server ends a connection, the client's ends too, and a new one works."""
        with FaultProxy(own_redis.port) as proxy:
            with RespClient(proxy.port) as client:
                client.call("PING")
                own_redis.kill()
                with pytest.raises(ConnectionError):
                    client.call("PING")
            own_redis.launch()
            with RespClient(proxy.port) as client:
                assert client.call("PING") == b"PONG"

    def test_what_is_no_redis_command_is_reset(self, connect: Connect) -> None:
        """A client that does not speak the protocol is sent away."""
        client = connect()
        client.send(b"*1\r\nGET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.read()

    def test_closing_leaves_nothing(self, redis_server: RedisServer, redis_url: str) -> None:
        """Closing in the middle of everything ends the thread, the port and the connections."""
        proxy = FaultProxy(redis_server.port)
        proxy.hold("SET")
        clients = [RespClient(proxy.port, timeout=1.0) for _ in range(5)]
        for client in clients:
            client.send(encode("PING") + encode("SET", "k", "v"))
        proxy.wait_seen("SET", 5)
        proxy.close()
        proxy.close()
        for client in clients:
            with pytest.raises(ConnectionError):
                [client.read() for _ in range(2)]
            client.close()
        gc.collect()
        assert not [t for t in threading.enumerate() if t.name == "fault-proxy"]
        with pytest.raises(ConnectionRefusedError):
            RespClient(proxy.port)
        assert redis_server.call("GET", "k") is None


class _IsError:
    """Equal to any error reply."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyError)

    __hash__ = None  # type: ignore[assignment]


_is_error = _IsError()
