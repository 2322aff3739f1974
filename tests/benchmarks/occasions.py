"""What is not a stream of requests: a stampede, a purge among a million keys, plain calls."""

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import NamedTuple

import redis

from tests.benchmarks.candidates import CANDIDATES, ROOT
from tests.benchmarks.servers import Answer, Server
from tests.benchmarks.workloads import WORKLOADS, Workload

_CROWD = 64
_AT_ONCE = 10_000
"""Keys that are written by one command."""
_CALLS = 5_000
"""Requests of each run of direct calls."""


class Line(NamedTuple):
    """One line of the table of occasions."""

    what: str
    found: str
    microseconds: float | None = None
    """Where it is one figure that a budget is about."""


def stampede(redis_url: str, workers: int) -> Line:
    """Let 64 requests ask for one cold URL at once; the handler takes 0.2 s."""
    server = Server(CANDIDATES["maxage-redis"], redis_url, workers=workers)
    slow = Workload(
        name="slow", title="", candidates=(), baseline="", paths=list, connections=_CROWD
    )
    try:
        # Every worker is to be awake.
        with ThreadPoolExecutor(_CROWD) as crowd:
            list(crowd.map(lambda n: Answer(server.port, slow, f"/items/{n}"), range(_CROWD)))
            began = time.monotonic()
            path = f"/slow/{time.time_ns()}"
            answers = list(crowd.map(lambda _: Answer(server.port, slow, path), range(_CROWD)))
            took = time.monotonic() - began
    finally:
        server.close()
    calls = len({answer.body for answer in answers})
    return Line(
        f"Stampede: {_CROWD} requests for one cold URL, {workers} worker{'s' * (workers > 1)}",
        f"{calls} call{'s' * (calls > 1)} of the handler, all answered after {took:.2f} s"
        " (the handler takes 0.20 s)",
    )


def purge(redis_url: str, keys: int) -> Line:
    """Purge with this many keys in Redis: POST, beside the same with an empty database."""
    server = Server(CANDIDATES["maxage-redis"], redis_url)
    try:
        with _pinging(redis_url):
            empty = _posts(server.port)
        with redis.Redis.from_url(redis_url) as client:
            name = "maxage-redis:e::http://127.0.0.1/items/"
            for first in range(0, keys, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, keys))
                client.mset({f"{name}{number}": b"x" * 64 for number in numbers})
            before = client.info("commandstats")
            with _pinging(redis_url) as took:
                full = _posts(server.port)
            after = client.info("commandstats")
    finally:
        server.close()
    commands = sorted(
        name.removeprefix("cmdstat_")
        for name in after
        if after[name]["calls"] > before.get(name, {"calls": 0})["calls"]
        and name not in {f"cmdstat_{own}" for own in ("info", "client|setinfo", "hello", "ping")}
    )
    return Line(
        f"POST with its purge, {keys:,} keys in Redis",
        f"{full * 1e3:.2f} ms; {empty * 1e3:.2f} ms in an empty database;"
        f" commands that Redis saw: {', '.join(commands)}; another client's PING meanwhile took"
        f" {statistics.median(took) * 1e3:.2f} ms, at most {max(took) * 1e3:.2f} ms",
    )


@contextmanager
def _pinging(redis_url: str) -> Iterator[list[float]]:
    """Ask the server all the while, and fill a list with the seconds that each answer took."""
    took: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.ping()
            while not stop.wait(0.001):
                began = time.perf_counter()
                client.ping()
                took.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def _posts(port: int) -> float:
    """Return the median time of a POST, in seconds."""
    post = WORKLOADS["post"]
    connection = HTTPConnection("127.0.0.1", port)
    took: list[float] = []
    for _ in range(100):
        began = time.perf_counter()
        connection.request("POST", "/items", body=post.body, headers=post.headers)
        assert connection.getresponse().read()
        took.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(took)


def calls(redis_url: str, name: str, concurrent: int) -> Line:
    """Call the application directly, without a server."""
    candidate = CANDIDATES[name]
    said = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.inprocess", candidate.app),
            *("--concurrent", str(concurrent), "--requests", str(_CALLS)),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "middleware"))),
            "REDIS_URL": redis_url,
            **candidate.env,
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"([\d.]+) us", said)
    assert found, said
    return Line(called(name, concurrent), found[0], float(found[1]))


def called(name: str, concurrent: int) -> str:
    """Return what the line about calling a candidate directly says that it is about."""
    return f"Called directly: {CANDIDATES[name].title}, {concurrent} at a time"
