"""Processes that fork, threads, and several event loops, while Redis breaks and comes back."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Play
from tests.catalogue.faults import answers_without_redis, wait_for_hits

AREA = "Processes, threads and loops"
ROOT = Path(__file__).resolve().parents[2]

FORKED = """
import os, sys, time
from maxage.redis import RedisCache
items = RedisCache[int](int, prefix="forked")
def wait_for_a_value():
    ends = time.monotonic() + 15
    while items.get(1) is None:
        items.get_or_set(1, lambda: 7)
        assert time.monotonic() < ends, "the child never read again"
        time.sleep(0.05)
if sys.argv[1] == "open":  # the parent has found that Redis hangs
    for _ in range(5):
        items.get(1)
else:  # the parent has connections
    wait_for_a_value()
child = os.fork()
if child == 0:
    try:
        print("child forked", flush=True)
        sys.stdin.readline()
        wait_for_a_value()
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
status = os.waitpid(child, 0)[1]
wait_for_a_value()
sys.exit(os.waitstatus_to_exitcode(status))
"""

PRELOADED = """
import os, signal, socket, sys
import uvicorn
from tests.catalogue.origin import items, site
items.get("used before the fork")
children, listeners = [], [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
for listener in listeners:
    child = os.fork()
    if child == 0:
        uvicorn.Server(uvicorn.Config(site, log_level="error")).run(sockets=[listener])
        os._exit(0)
    children.append(child)
print(*(listener.getsockname()[1] for listener in listeners), flush=True)
sys.stdin.readline()
for child in children:
    os.kill(child, signal.SIGTERM)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
sys.exit(not {0, -signal.SIGTERM}.issuperset(codes))
"""

THREADS = """
import asyncio, sys, threading, time
from maxage import CacheMiddleware
from maxage.redis import RedisCache
from tests.support.asgi import call

items = RedisCache[str](str, prefix="threads")
failures = []
stop = threading.Event()

async def app(scope, receive, send):
    scope["endpoint"] = app
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})

middleware = CacheMiddleware(app)

def synchronous(number):
    while not stop.is_set():
        for key in range(20):
            found = items.get_or_set(f"{key}", lambda: f"value {key}")
            assert found == f"value {key}", (found, key)
            items.delete(f"{key}")

async def in_a_loop(number):
    while not stop.is_set():
        for key in range(20):
            answer = await call(middleware, path=f"/{key}")
            assert answer.body == b"/%d" % key, (answer.body, key)
            found = await items.aget_or_set(f"{key}", lambda: f"value {key}")
            assert found == f"value {key}", (found, key)
        await call(middleware, "PUT", path="/3")
    await middleware.aclose()

def run(play, number):
    try:
        play(number)
    except BaseException as error:
        failures.append(repr(error))
        stop.set()

threads = [threading.Thread(target=run, args=(synchronous, n)) for n in range(4)]
threads += [threading.Thread(target=run, args=(lambda n: asyncio.run(in_a_loop(n)), n)) for n in range(3)]
for thread in threads:
    thread.start()
print("running", flush=True)
sys.stdin.readline()
stop.set()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
print(failures, flush=True)
sys.exit(bool(failures))
"""  # noqa: E501 - a script


def started(bench: Bench, script: str, *args: str) -> "subprocess.Popen[str]":
    """Run a script against the Redis behind the proxy."""
    roots = os.pathsep.join(map(str, (ROOT / "middleware", ROOT)))
    known = {k: v for k, v in os.environ.items() if not k.startswith(("CACHE_", "REDIS_"))}
    known |= {**bench.env, "PYTHONPATH": roots, "CACHE_NAMESPACE": bench.run}
    # Python 3.12 warns of what is played here: a fork while there are threads.
    known["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        env=known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finished(process: "subprocess.Popen[str]") -> None:
    """Let the script go on to its end, which must be a good one."""
    try:
        said, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "Traceback" not in said, said


def forked(state: str) -> Play:
    """Fork, while Redis hangs or not, and let only the child's own reads find the way back."""

    def play(bench: Bench) -> None:
        if state == "open":
            bench.proxy.hang()
        process = started(bench, FORKED, state)
        assert process.stdout is not None
        assert process.stdout.readline() == "child forked\n"
        bench.proxy.pass_through()
        finished(process)

    return play


@dataclass(frozen=True, slots=True)
class Forked:
    """A forked process that serves."""

    port: int

    def log(self) -> str:
        """What it says, `finished` looks at."""
        return ""


def preloaded(bench: Bench) -> None:
    """Load and use the application, fork, serve in the children, and let Redis hang meanwhile."""
    process = started(bench, PRELOADED)
    assert process.stdout is not None
    try:
        # A warning of the application may come first: its two caches differ in their settings.
        line = next(line for line in process.stdout if line[:1].isdigit())
        ports = [int(port) for port in line.split()]
        theirs: Any = replace(bench, nodes=[Forked(port) for port in ports])
        theirs.send(0, "PUT", "/{run}/row?value=1")
        wait_for_hits(theirs, "1")
        bench.proxy.hang()
        answers_without_redis(theirs)
        bench.proxy.pass_through()
        wait_for_hits(theirs, "11")
    finally:
        finished(process)


def threads(bench: Bench) -> None:
    """Seven threads, three of them with an event loop of their own, through every kind of fault."""
    process = started(bench, THREADS)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    for strike in (
        bench.proxy.hang, bench.proxy.reset, bench.proxy.refuse, bench.proxy.cut,
        bench.proxy.garbage, lambda: bench.proxy.error("LOADING"),
    ):  # fmt: skip
        strike()
        bench.pause(0.2)
        bench.proxy.pass_through()
        bench.pause(0.3)
    finished(process)


CASES: list[Case] = [
    Case(
        id="fork-with-connections",
        area=AREA,
        what="a process that forks after it used the cache (`--preload`)",
        expected="parent and child go on, each with connections of its own",
        reference="fork(2)",
        play=forked("connected"),
    ),
    Case(
        id="fork-that-serves",
        area=AREA,
        what="two servers forked from a process that has loaded and used the application"
        " (`--preload`), while Redis hangs for a moment",
        expected="both answer, see each other's writes, have hits again, and end in good order",
        reference="fork(2)",
        play=preloaded,
    ),
    Case(
        id="fork-in-an-outage",
        area=AREA,
        what="a process that forks after it found that Redis hangs",
        expected="the child finds the way back by itself, though it only reads",
        reference="fork(2), which copies no thread",
        play=forked("open"),
    ),
    Case(
        id="threads-and-loops",
        area=AREA,
        what="four threads in plain functions and three event loops, through six kinds of faults",
        expected="every answer is the right one, and no exception",
        reference="[failure](architecture.md#failure)",
        play=threads,
    ),
]
