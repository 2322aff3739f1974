"""Starting a candidate's server, and the CPU time that its processes have used."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from tests.benchmarks.candidates import ROOT, Candidate, program
from tests.benchmarks.workloads import Workload
from tests.support.ports import free_port
from tests.support.processes import ended, signal_group, spawn

_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Answer:
    """One answer as the checks look at it."""

    def __init__(self, port: int, workload: Workload, path: str) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            connection.request(
                workload.method, path, body=workload.body or None, headers=workload.headers
            )
            response = connection.getresponse()
            self.status, self.body = response.status, response.read()
            self.cache_status = response.getheader("cache-status") or ""


class Server:
    """One candidate, served by real processes in a session of their own."""

    def __init__(
        self,
        candidate: Candidate,
        redis_url: str,
        *,
        workers: int = 1,
        namespace: str | None = None,
    ) -> None:
        self.candidate = candidate
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="maxage-bench-"))
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "middleware"))),
            "REDIS_URL": redis_url,
            "CACHE_NAMESPACE": namespace or candidate.name,
            **candidate.env,
        }
        self._processes = []
        if candidate.kind == "proxy":
            behind = free_port()
            self._processes.append(self._uvicorn(behind, workers))
            self._wait(behind)
            self._processes.append(getattr(self, f"_{candidate.name}")(behind))
        else:
            self._processes.append(self._uvicorn(self.port, workers))
        self._wait(self.port)

    def _uvicorn(self, port: int, workers: int) -> "subprocess.Popen[bytes]":
        peer = self.candidate.kind == "peer"
        return spawn(
            [
                self.candidate.python if peer else sys.executable,
                *("-m", "tests.benchmarks.serve", self.candidate.app),
                *(str(port), self.candidate.http, str(workers)),
            ],
            log=self._log,
            cwd=self._folder,
            env={**self._env, **({"BENCH_PEER": "1"} if peer else {})},
        )

    def _nginx(self, behind: int) -> "subprocess.Popen[bytes]":
        config = self._folder / "nginx.conf"
        config.write_text(
            f"""\
daemon off; worker_processes 1; pid {self._folder}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {self._folder}; proxy_temp_path {self._folder}/proxy;
  fastcgi_temp_path {self._folder}; uwsgi_temp_path {self._folder}; scgi_temp_path {self._folder};
  proxy_cache_path {self._folder}/cache keys_zone=bench:10m;
  server {{
    listen 127.0.0.1:{self.port};
    location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_cache bench; }}
  }}
}}
"""
        )
        return spawn([program("nginx") or "nginx", "-c", config], log=self._log, cwd=self._folder)

    def _varnish(self, behind: int) -> "subprocess.Popen[bytes]":
        return spawn(
            [
                *(program("varnish") or "varnishd", "-F", "-n", str(self._folder / "varnish")),
                *("-a", f"127.0.0.1:{self.port}", "-b", f"127.0.0.1:{behind}"),
                *("-s", "malloc,64m"),
            ],
            log=self._log,
            cwd=self._folder,
        )

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._processes):
                break
            with contextlib.suppress(OSError):
                connection = HTTPConnection("127.0.0.1", port, timeout=20)
                with contextlib.closing(connection):
                    connection.request("GET", "/items")
                    connection.getresponse().read()
                    return
            time.sleep(0.05)
        log = self._log.read_text(errors="replace")
        self.close()
        raise RuntimeError(f"{self.candidate.name} did not start:\n{log}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the processes in front have used so far, from the system."""
        return sum(_cpu_of_session(self._processes[-1].pid))

    def check(self, workload: Workload, path: str) -> None:
        """Make sure that the candidate answers what is asked for.

        Raises:
            RuntimeError: it answers something else.
        """
        answer = Answer(self.port, workload, path)
        wrong = answer.status != workload.status
        if workload.size is not None and workload.status == 200:
            # JSON encoders differ in blanks, and nothing else.
            wrong = wrong or _size(answer.body) != workload.size
        if workload.hit and self.candidate.kind == "ours":
            wrong = wrong or "; hit" not in answer.cache_status
        if wrong:
            raise RuntimeError(
                f"{self.candidate.name} answers {path} with {answer.status},"
                f" {len(answer.body)} bytes, Cache-Status {answer.cache_status!r}."
            )

    def close(self) -> None:
        """End the processes and remove their folder."""
        for process in reversed(self._processes):
            signal_group(process, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                signal_group(process, signal.SIGKILL)
                process.wait()
            ended(process)
        shutil.rmtree(self._folder, ignore_errors=True)


def _size(body: bytes) -> int:
    if not body.startswith(b"["):
        return len(body)
    return len(json.dumps(json.loads(body), separators=(",", ":")))


def _cpu_of_session(session: int) -> list[float]:
    """Return the user and system time of every process in a session (proc(5))."""
    found: list[float] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append((int(fields[11]) + int(fields[12])) * _TICK)
    return found
