"""Real workers, of uvicorn unless said otherwise, as processes of their own."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.support.closing import Closing
from tests.support.ports import free_port
from tests.support.processes import ended, signal_group, spawn
from tests.support.waiting import PATIENCE, wait_until

_ROOT = Path(__file__).resolve().parents[2]
_IMPORT_ROOTS = (_ROOT / "middleware", _ROOT)
# What would configure the cache or the application behind a test's back.
_FOREIGN = (
    "CACHE_", "DATABASE_", "GRANIAN_", "MAXAGE_", "REDIS_", "USE_REDIS_", "UVICORN_",
    "WEB_CONCURRENCY",
)  # fmt: skip
BUDGETS = ("CACHE_READ_BUDGET", "CACHE_CONNECT_BUDGET", "CACHE_WRITE_BUDGET")
_OWN = {"CACHE_NAMESPACE", *BUDGETS}
"""What the fixtures of a test say for all its processes."""
_START_ATTEMPTS = 3
UNCONFIRMED = "was not confirmed by Redis"
"""In the log of a worker that owes a purge."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One kind of server."""

    options: Callable[[int], Sequence[str]]
    """Its module and the options by which it listens on a port."""
    ready: str
    """What it logs when its application has started."""
    started: str
    """What each of several workers logs then."""


UVICORN = Program(
    options=lambda port: (
        *("uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
        # By default 5 s: on a busy machine a client may take longer to its next request.
        *("--timeout-keep-alive", "60"),
    ),
    ready="Uvicorn running on",
    started="Application startup complete",
)
GRANIAN = Program(
    options=lambda port: (
        *("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)),
    ),
    ready="Started worker-1",
    started="Started worker-",
)
HYPERCORN = Program(
    options=lambda port: ("hypercorn", "--bind", f"127.0.0.1:{port}"),
    ready="Running on",
    started="Running on",
)


class WorkerError(RuntimeError):
    """A worker did not start; the message holds its log."""


class Worker(Closing):
    """One server on the loopback address: a process, or with `workers` a group of them."""

    def __init__(
        self,
        app: str,
        *,
        tmp_path: Path,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        args: Sequence[str] = (),
        workers: int = 1,
        program: Program = UVICORN,
    ) -> None:
        self._number = next(_numbers)
        self._folder = tmp_path
        self._target = self._write_source(app) if "\n" in app else app
        self._env = dict(env or {})
        self._wanted_port = port
        self._args = tuple(args)
        self._count = workers
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tmp_path / f"worker-{self._number}.log"
        self.port = port or 0
        self.returncode: int | None = None

    @classmethod
    def start(cls, app: str, *, timeout: float = 60.0, **options: Any) -> Self:
        """Start a worker for `module:attribute`, or for a source text that defines `app`.

        It returns when the application has started and connections are accepted. `options` are
        those of the class: `env` is added to a clean environment; `args` are further options of
        the server; `workers` is the number of processes that share the port.
        """
        worker = cls(app, **options)
        try:
            worker.launch(timeout=timeout)
        except BaseException:
            worker.kill()
            raise
        return worker

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; with several workers, that of their supervisor."""
        if self._process is None:
            raise RuntimeError("the worker is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def launch(self, *, timeout: float = 60.0) -> None:
        """Start the process, on its old port if it ran before, and wait until it is ready."""
        if self.running:
            return
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.port = self._wanted_port or free_port()
            known = len(self.log())
            self._spawn()
            try:
                wait_until(
                    partial(self._is_ready, known),
                    "the worker accepts connections",
                    timeout=timeout,
                )
            except TimeoutError as error:
                raise WorkerError(f"{error}\n{self.log()}") from error
            except _AddressInUseError:
                if self._wanted_port or attempt == _START_ATTEMPTS:
                    raise
            else:
                self._wanted_port = self.port
                return

    def terminate(self, *, timeout: float = PATIENCE) -> int:
        """End it in good order with SIGTERM and return the exit code."""
        if self._process is not None:
            self._process.terminate()
            try:
                self.returncode = self._process.wait(timeout)
            except subprocess.TimeoutExpired as error:
                self.kill()
                raise WorkerError(f"not ended within {timeout:g} s\n{self.log()}") from error
            self._forget()
        return self.returncode or 0

    def kill(self) -> None:
        """End it, and every process that it has started, with SIGKILL."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self.returncode = self._process.wait()
            self._forget()
            if self._count > 1:  # they are not our children, so there is nothing to wait for
                wait_until(lambda: not self._accepts(), "the last worker is gone")

    def pause(self) -> None:
        """Stop it, with every process that it has started, with SIGSTOP."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """End it, in good order if it listens to reason."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self.returncode = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._forget()

    def log(self) -> str:
        """What it has written to stdout and stderr so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_log(self, text: str, *, count: int = 1, timeout: float = PATIENCE) -> None:
        """Block until `text` stands `count` times in the log."""
        wait_until(lambda: self.log().count(text) >= count, f"{text!r} logged", timeout=timeout)

    def child_pids(self) -> list[int]:
        """The processes that serve: with several workers, those that their log has named."""
        lines = self.log().splitlines()
        found = [line.rsplit("[", 1)[1] for line in lines if "Started server process [" in line]
        return [int(text.split("]", 1)[0]) for text in found]

    def _write_source(self, source: str) -> str:
        module = f"worker_app_{self._number}"
        (self._folder / f"{module}.py").write_text(source)
        return f"{module}:app"

    def _spawn(self) -> None:
        command = [sys.executable, "-m", *self._program.options(self.port), self._target]
        if self._count > 1:
            command += ["--workers", str(self._count)]
        self._process = spawn(
            [*command, *self._args], log=self._log, cwd=self._folder, env=self._environment()
        )

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN) or k in _OWN}
        roots = os.pathsep.join(map(str, (self._folder, *_IMPORT_ROOTS)))
        return {**clean, "PYTHONPATH": roots, "PYTHONUNBUFFERED": "1", **self._env}

    def _is_ready(self, known: int) -> bool:
        new = self.log()[known:]
        if not self.running:
            if "address already in use" in new.lower():
                raise _AddressInUseError(new)
            raise WorkerError(f"the worker ended while starting:\n{new}")
        if "--log-level" not in self._args and self._program.ready not in new:
            return False  # another process may accept connections on the port
        if self._count > 1 and new.count(self._started_line) < self._count:
            return False  # the supervisor accepts connections before any worker can serve them
        return self._accepts()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    @property
    def _started_line(self) -> str:
        return "Started server process" if "off" in self._args else self._program.started

    def _signal_all(self, number: signal.Signals) -> None:
        if self._process is not None:
            signal_group(self._process, number)

    def _forget(self) -> None:
        if self._process is not None:
            self._signal_all(signal.SIGKILL)  # children whose supervisor has died
            ended(self._process)
            self._process = None


class _AddressInUseError(WorkerError):
    """Another process took the port between choosing and binding it."""


class Workers:
    """The workers of one test; all are ended with it."""

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self.started: list[Worker] = []

    def start(self, app: str, **options: Any) -> Worker:
        """Start one worker, see `Worker.start`."""
        worker = Worker.start(app, tmp_path=self._tmp_path, **options)
        self.started.append(worker)
        return worker

    def start_many(
        self,
        count: int,
        app: str,
        *,
        env: Mapping[str, str] | None = None,
        envs: Sequence[Mapping[str, str]] = (),
        args: Sequence[str] = (),
    ) -> list[Worker]:
        """Start `count` separate processes on ports of their own; `envs` adds to each its own."""
        common = dict(env or {})
        own = [dict(additions) for additions in envs]
        own += [dict[str, str]() for _ in range(count - len(own))]
        return [self.start(app, env=common | own[n], args=args) for n in range(count)]

    def close(self) -> None:
        """End them all and print their logs, which pytest shows when the test has failed."""
        for worker in self.started:
            worker.close()
            print(f"--- worker on port {worker.port}, exit code {worker.returncode}")
            print(worker.log())
        self.started.clear()
