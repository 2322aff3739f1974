"""The figures of an outage and of load, on real workers."""

import asyncio
import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Play
from tests.catalogue.faults import is_hit, row, wait_for_hits
from tests.catalogue.figures import (
    ADDED_BY_GET,
    ADDED_BY_PUT,
    BACK_WITHIN,
    BURST,
    GENEROUS,
    GROWTH,
    MEDIAN,
    NINETY_NINTH,
    SLOW_GETS,
    allowed,
)
from tests.support.raw_http import CutResponseError, RawConnection, request_bytes
from tests.support.timing import few_slow, in_time

AREA = "Figures"
ISSUE = "[when Redis is away](limits.md#when-redis-is-away)"
LONG = GENEROUS == 1
"""Whether this is `poe faults`, which takes its time."""
CLIENTS = 20
"""Clients that ask while Redis comes back."""
Headers = dict[str, str]
HOST: Headers = {"host": "shop.example"}


def side_by_side(
    connection: RawConnection, targets: Sequence[str], count: int
) -> list[list[float]]:
    """Send GETs in turn and return how long each took, so that a busy moment strikes all alike."""
    durations: list[list[float]] = [[] for _ in targets]
    for _ in range(count):
        for target, taken in zip(targets, durations, strict=True):
            began = time.perf_counter()
            answer = connection.get(target, HOST)
            taken.append(time.perf_counter() - began)
            assert answer.status == 200, answer
    return durations


def percentile(durations: Iterable[float], part: float) -> float:
    """Return the duration below which this part of them lies."""
    ordered = sorted(durations)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def hung_gets(bench: Bench) -> None:
    """GETs one after the other while Redis hangs, against the same handler without a cache."""
    count = 1000 if LONG else 150
    wait_for_hits(bench, "0")
    bench.proxy.hang()
    for node in range(len(bench.nodes)):
        with RawConnection(bench.node(node).port) as connection:
            targets = (f"/bare/{bench.run}/url", f"/{bench.run}/url")
            own, durations = side_by_side(connection, targets, count)
        usual = statistics.median(own)
        slow = [taken for taken in durations[:20] if taken > usual + ADDED_BY_GET / 3]
        few_slow(len(slow), SLOW_GETS * max(1, GENEROUS / 3))
        in_time(max(durations[:20]) - usual, allowed(ADDED_BY_GET, max(own)))
        rest = durations[20:]
        in_time(statistics.median(rest) - usual, allowed(MEDIAN, usual))
        highest = percentile(own, 0.99)
        in_time(percentile(rest, 0.99) - highest, allowed(NINETY_NINTH, highest))
    bench.proxy.pass_through()


async def burst(port: int, requests: Sequence[bytes]) -> list[float]:
    """Send all at once, each on its own connection, and return how long each took."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in requests]

    async def ask(number: int) -> float:
        reader, writer = streams[number]
        began = time.perf_counter()
        writer.write(requests[number])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return time.perf_counter() - began

    try:
        async with asyncio.timeout(30):
            return await asyncio.gather(*(ask(number) for number in range(len(requests))))
    finally:
        for _, writer in streams:
            writer.close()


def hung_burst(bench: Bench) -> None:
    """100 clients at once while Redis hangs, against the same without a cache."""
    wait_for_hits(bench, "0")
    port = bench.node(0).port

    def requests(site: str) -> list[bytes]:
        paths = [f"{site}/{bench.run}/url?{n}" for n in range(100)]
        return [request_bytes("GET", path, HOST) for path in paths]

    own = max(asyncio.run(burst(port, requests("/bare"))))
    bench.proxy.hang()
    durations = asyncio.run(burst(port, requests("")))
    bench.proxy.pass_through()
    assert len(durations) == 100
    in_time(max(durations) - own, allowed(BURST, own))


def hung_put(bench: Bench) -> None:
    """A PUT that is the first to find that Redis hangs."""
    wait_for_hits(bench, "0")
    bench.proxy.hang()
    began = time.perf_counter()
    answer = bench.send(0, "PUT", "/{run}/row?value=1")
    took = time.perf_counter() - began
    assert answer.status == 200, answer
    in_time(took, ADDED_BY_PUT * GENEROUS)
    # It was this node's own: it shows it although no other node could be told.
    assert b"row=1." in row(bench, 0).body
    bench.proxy.pass_through()
    wait_for_hits(bench, "1")


def back_without_burst(bench: Bench) -> None:
    """Clients ask all the time while Redis comes back."""
    wait_for_hits(bench, "0")
    bench.proxy.hang()
    for node in range(len(bench.nodes)):
        for _ in range(4):
            row(bench, node)
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.wait(0.02):
            row(bench, number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    bench.proxy.forget()
    bench.proxy.pass_through()
    began = time.perf_counter()
    try:
        wait_for_hits(bench, "0")
        took = time.perf_counter() - began
        time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    in_time(took, BACK_WITHIN * GENEROUS)
    # Of each node: its loop's own and the one that listens, that of the leases, and a few probes.
    allowed = len(bench.nodes) * (3 + 5) * GENEROUS
    assert bench.proxy.connections <= allowed, bench.proxy.connections


def stampede(bench: Bench) -> None:
    """200 clients ask all nodes at once for what takes 300 ms."""
    path = f"/{bench.run}/slow?seconds=0.3"
    ports = [bench.node(number).port for number in range(len(bench.nodes))]
    answers = asyncio.run(everywhere(ports, path, 200 // len(ports)))
    assert len(answers) == 200
    assert len(set(answers)) == 1, set(answers)


async def everywhere(ports: Sequence[int], path: str, count: int) -> list[bytes]:
    """Ask each of these ports so often, all at once, and return the bodies."""
    asked = await asyncio.gather(*(bodies(port, path, count) for port in ports))
    return [body for of_one in asked for body in of_one]


async def bodies(port: int, path: str, count: int) -> list[bytes]:
    """Ask this often at once, and return the bodies."""

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request_bytes("GET", path, {**HOST, "connection": "close"}))
            whole = await reader.read()
            assert whole.startswith(b"HTTP/1.1 200"), whole
            return whole.partition(b"\r\n\r\n")[2]
        finally:
            writer.close()

    async with asyncio.timeout(60):
        return await asyncio.gather(*(ask() for _ in range(count)))


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(bench: Bench, warm: Play, load: Play) -> int:
    """Return by how much the first node grew under the load."""
    warm(bench)
    bench.settle()
    before = resident(bench.node(0).pid)
    load(bench)
    bench.settle()
    return resident(bench.node(0).pid) - before


def random_queries(start: int, count: int) -> Play:
    """Ask with so many new queries."""

    def play(bench: Bench) -> None:
        with RawConnection(bench.node(0).port) as connection:
            for number in range(start, start + count):
                query = f"{number:x}-{number * 2654435761 % 2**32:x}" + "q" * 40
                assert connection.get(f"/{bench.run}/search?q={query}", HOST).status == 200

    return play


def queries_grow_nothing(bench: Bench) -> None:
    """50,000 random query strings; 1,000 in the suite."""
    count = 50_000 if LONG else 1_000
    grown = growth(bench, random_queries(0, count // 5), random_queries(10**6, count))
    assert grown <= GROWTH, grown


def aborted(count: int) -> Play:
    """Hang up in the middle of so many streams."""

    def play(bench: Bench) -> None:
        for number in range(count):
            path = f"/{bench.run}/stream?pieces=1000&pause=0.001&n={number}"
            with RawConnection(bench.node(0).port) as connection:
                connection.send_request("GET", path, HOST, host_header=False)
                connection.read_head()
                connection.abort()

    return play


def aborts_grow_nothing(bench: Bench) -> None:
    """5,000 streams that their clients left; 150 in the suite."""
    grown = growth(bench, aborted(500 if LONG else 50), aborted(5_000 if LONG else 150))
    assert grown <= GROWTH, grown


def cancelled_anywhere(bench: Bench) -> None:
    """Clients that hang up at random moments leave no answer to other clients."""
    asyncio.run(leave_and_ask(bench.node(0).port, bench.run, 300 if not LONG else 3000))


async def leave_and_ask(port: int, run: str, count: int) -> None:
    """Ask for many URLs at once; every second client leaves after a moment of its own."""
    limit = asyncio.Semaphore(40)

    async def ask(number: int) -> None:
        path = f"/{run}/url/{number % 50}"
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request_bytes("GET", path, {**HOST, "connection": "close"}))
                if number % 2:
                    await asyncio.sleep(number * 7919 % 40 / 10_000)
                    writer.transport.abort()
                else:
                    whole = await reader.read()
                    assert f"raw=b'{path}'".encode() in whole, (path, whole)
            finally:
                writer.close()

    async with asyncio.timeout(120):
        await asyncio.gather(*(ask(number) for number in range(count)))


def leading(bench: Bench, fail: Play, mend: Play) -> None:
    """The node that asks the application fails; the one that may wait for it answers."""
    path = f"/{bench.run}/slow?seconds=0.5"
    with RawConnection(bench.nodes[-1].port) as connection:
        connection.send_request("GET", path, HOST, host_header=False)
        time.sleep(0.2)
        fail(bench)
        began = time.perf_counter()
        try:
            with RawConnection(bench.node(0).port) as other:
                other.send_request("GET", path, HOST, host_header=False)
                assert b"done" in other.read_response().body
            took = time.perf_counter() - began
        finally:
            mend(bench)
        in_time(took, BACK_WITHIN * GENEROUS + 0.5)
        with contextlib.suppress(CutResponseError, ConnectionError):
            connection.read_response()
    assert is_hit(bench.get(path)) or bench.get(path).status == 200


def leader_stopped(bench: Bench) -> None:
    """It stands still, and goes on later."""
    leading(bench, lambda b: b.nodes[-1].pause(), lambda b: b.nodes[-1].resume())


def leader_killed(bench: Bench) -> None:
    """It dies (SIGKILL), and another one takes its place later."""
    leading(bench, lambda b: b.nodes[-1].kill(), lambda b: b.nodes[-1].launch())


def figure(name: str, what: str, expected: str, play: Play, *, nodes: int = 1) -> Case:
    """One line of the table of figures."""
    return Case(
        id=f"figure-{name}",
        area=AREA,
        what=what,
        expected=expected,
        reference=ISSUE,
        play=play,
        nodes=nodes,
    )


CASES: list[Case] = [
    figure("hung-gets", "GETs one after the other while Redis hangs",
           "three of each node cost at most 60 ms more; afterwards 1 ms in the median, 3 ms at the"
           " 99th percentile", hung_gets),
    figure("hung-burst", "100 clients at once while Redis hangs",
           "none fails; at most 100 ms more", hung_burst),
    figure("hung-put", "a PUT while Redis hangs", "answered within 110 ms", hung_put),
    figure("back", "Redis comes back while 20 clients ask all the time",
           "the first hit within a second, without a burst of connections", back_without_burst),
]  # fmt: skip
"""Played with the default budgets, through the fault proxy."""

LOADS: list[Case] = [
    figure("stampede", "200 clients at once on one URL, of one process and of two",
           "the handler runs once", stampede),
    figure("leader-stopped", "the process that asks the application stands still",
           "another one answers within a second more than the handler takes", leader_stopped,
           nodes=2),
    figure("leader-killed", "the process that asks the application is killed (SIGKILL)",
           "another one answers within a second more than the handler takes", leader_killed,
           nodes=2),
    figure("many-queries", "50,000 random query strings (1,000 in the suite)",
           "the process grows by at most 20 MiB", queries_grow_nothing),
    figure("many-aborts", "5,000 streams that clients left (150 in the suite)",
           "the process grows by at most 20 MiB", aborts_grow_nothing),
    figure("cancelled", "clients that hang up at random moments",
           "every other client gets its own answer, whole", cancelled_anywhere),
]  # fmt: skip
