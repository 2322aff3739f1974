"""Redis breaks, in every way that it can: answers go on, and hits are back soon after."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case
from tests.catalogue.figures import ADDED_BY_GET, BACK_WITHIN, GENEROUS, SLOW_GETS
from tests.support.fault_proxy import ERRORS
from tests.support.raw_http import RawConnection, RawResponse
from tests.support.redis_topology import start_sentinel, wait_acknowledging
from tests.support.timing import few_slow, in_time
from tests.support.waiting import PATIENCE
from tests.support.workers import Workers

AREA = "Redis breaks"
NOTHING = "every request is answered as without a cache, and writes are seen"
BUDGET = (
    "[when Redis is away](limits.md#when-redis-is-away): a request costs at most the budget more, "
    "then nothing"
)
Strike = Callable[[Bench], None]
WRITES = ("SET", "UNLINK", "EXPIRE")


def row(bench: Bench, node: int) -> RawResponse:
    """Read the row through a node."""
    return bench.get("/{run}/row", node=node)


def is_hit(answer: RawResponse) -> bool:
    """Whether it came from the store."""
    return b"; hit" in (answer.header("cache-status") or b"")


def wait_for_hits(bench: Bench, value: str) -> None:
    """Ask every node until it answers from the store with this value.

    A node that was back sooner than the one which owes a purge may answer with an older one before;
    docs/limits.md says for how long.
    """
    for node in range(len(bench.nodes)):
        began = time.monotonic()
        while True:
            answer = row(bench, node)
            took = time.monotonic() - began
            if is_hit(answer) and f"row={value}.".encode() in answer.body:
                break
            assert took < PATIENCE, f"node {node}: {answer}\n{bench.node(node).log()}"
            time.sleep(0.02)
        in_time(took, BACK_WITHIN * GENEROUS)


def assert_calm(bench: Bench) -> None:
    """No node has logged a traceback."""
    for node in bench.nodes:
        assert "Traceback" not in node.log(), node.log()


def answers_without_redis(bench: Bench, *, hits: bool = False) -> None:
    """Every node reads and writes, in time, and sees what it wrote."""
    for node in range(len(bench.nodes)):
        slow = 0
        with RawConnection(bench.node(node).port) as connection:
            for _ in range(8):
                began = time.monotonic()
                answer = connection.get(f"/{bench.run}/row", {"host": "shop.example"})
                took = time.monotonic() - began
                assert answer.status == 200, answer
                # What a node keeps itself it may serve until it notices that no server tells it of
                # purges any more.
                assert hits or bench.near or not is_hit(answer), answer
                slow += took > ADDED_BY_GET * GENEROUS
        few_slow(slow, SLOW_GETS)
        value = f"{10 + node}"
        written = bench.send(node, "PUT", f"/{{run}}/row?value={value}")
        assert written.status == 200, written
        assert f"row={value}.".encode() in row(bench, node).body
        assert_calm(bench)


def breaks(
    name: str, what: str, strike: Strike, *, heal: Strike | None = None,
    hits: bool = False, expected: str = NOTHING, reference: str = BUDGET,
) -> Case:  # fmt: skip
    """A fault that lasts a while and ends."""

    def play(bench: Bench) -> None:
        bench.send(0, "PUT", "/{run}/row?value=1")
        wait_for_hits(bench, "1")
        strike(bench)
        try:
            answers_without_redis(bench, hits=hits)
        finally:
            bench.proxy.pass_through()
            if heal is not None:
                heal(bench)
            bench.server.ensure_running()
        wait_for_hits(bench, f"{10 + len(bench.nodes) - 1}")

    return Case(
        id=f"redis-{name}", area=AREA, what=what,
        expected=f"{expected}; hits are back within a second",
        reference=reference, play=play,
    )  # fmt: skip


def proxied(method: str, *args: Any, **more: Any) -> Strike:
    """Tell the fault proxy to fail."""
    return lambda bench: getattr(bench.proxy, method)(*args, **more)


def restart(*, keep_data: bool) -> Strike:
    """Restart the server."""
    return lambda bench: bench.server.restart(keep_data=keep_data)


def flush(bench: Bench) -> None:
    """Delete every key without a notification."""
    bench.server.flush()


def restarts(name: str, what: str, strike: Strike, then: Strike | None = None) -> Case:
    """Something that happens in a moment, twice, without an outage to speak of."""

    def play(bench: Bench) -> None:
        bench.send(0, "PUT", "/{run}/row?value=1")
        wait_for_hits(bench, "1")
        for turn, happen in enumerate((strike, then or strike), 2):
            happen(bench)
            for node in range(len(bench.nodes)):
                value = f"{turn}{node}"
                assert b"row=" in row(bench, node).body
                assert bench.send(node, "PUT", f"/{{run}}/row?value={value}").status == 200
                assert f"row={value}.".encode() in row(bench, node).body
            wait_for_hits(bench, value)
        assert_calm(bench)

    return Case(
        id=f"redis-{name}", area=AREA, what=what,
        expected="no answer from before a write, no error, hits within a second",
        reference="[the protocol](architecture.md#the-protocol)", play=play,
    )  # fmt: skip


def resolver(how: str) -> Case:
    """DNS does not answer, and the open connections are lost: they were all that still worked."""

    def play(bench: Bench) -> None:
        bench.send(0, "PUT", "/{run}/row?value=1")
        wait_for_hits(bench, "1")
        with bench.within(f"resolver {how}"):
            bench.proxy.drop_connections()
            answers_without_redis(bench)
            for number in range(len(bench.nodes)):
                began = time.monotonic()
                for _ in range(5):
                    assert b"a thread was free" in bench.get("/{run}/thread", node=number).body
                    assert (
                        b'"redis_available":false' in bench.get("/{run}/health", node=number).body
                    )
                    bench.get("/{run}/item", node=number)
                # The health page may wait for a second each time.
                in_time(time.monotonic() - began, 5 * (BACK_WITHIN + GENEROUS))
        wait_for_hits(bench, f"{10 + len(bench.nodes) - 1}")

    return Case(
        id=f"redis-resolver-{how.replace(' ', '-')}", area=AREA,
        what=f"a resolver that {how}, when all connections are lost",
        expected=f"{NOTHING}; no thread of the application waits for it, and hits are back within a"
        " second",
        reference="getaddrinfo(3), which has no time limit; " + BUDGET, play=play,
    )  # fmt: skip


def failover(bench: Bench) -> None:
    """The primary behind a sentinel dies, and its replica takes over."""
    with start_sentinel() as group:
        workers = Workers(bench.faults.parent)
        env = {**bench.env, "REDIS_URL": group.url}
        try:
            nodes = workers.start_many(2, "tests.catalogue.origin:site", env=env)
            theirs = replace(bench, nodes=nodes)
            theirs.send(0, "PUT", "/{run}/row?value=1")
            wait_for_hits(theirs, "1")
            old = group.primary
            wait_acknowledging(old)
            old.kill()
            answers_without_redis(theirs)
            group.wait_promoted(old)
            wait_for_hits(theirs, "11")
            assert_calm(theirs)
        finally:
            workers.close()


def worker_clock(seconds: int) -> Strike:
    """Set the wall clock of the last worker, so far from the machine's."""

    def strike(bench: Bench) -> None:
        answer = bench.send(len(bench.nodes) - 1, "GET", f"/_jump?{seconds}")
        assert answer.status == 200, answer

    return strike


def clock_jump(seconds: int) -> Strike:
    """Let the server's clock say another time."""

    def strike(bench: Bench) -> None:
        text = str(int(time.time()) + seconds).encode()
        reply = b"*2\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(text), text)
        bench.proxy.garbage(data=reply, commands=["TIME"])
        time.sleep(1.2)  # a look or two

    return strike


GARBAGE: list[tuple[str, bytes]] = [
    ("random", b"\x00\xff\xfe\x80garbage\r\n\r\n"),
    ("wrong-type", b":1\r\n"),
    ("too-few", b"*1\r\n$1\r\nx\r\n"),
    ("too-many", b"*400\r\n" + b"$1\r\nx\r\n" * 400),
    ("nested", b"*1\r\n*1\r\n*1\r\n:1\r\n"),
    ("huge-length", b"$999999999999\r\nx"),
    ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("ok", b"+OK\r\n"),
]

CASES: list[Case] = [
    breaks("refused", "connections refused", proxied("refuse")),
    breaks("hung", "connections that answer nothing", proxied("hang")),
    breaks("hung-after", "commands that arrive, without an answer", proxied("hang", deliver=True)),
    breaks("slow", "every answer 300 ms late", proxied("delay", 0.3)),
    breaks("reset", "connections reset in the middle of an answer", proxied("reset")),
    breaks("reset-before", "connections reset before an answer", proxied("reset", after=0)),
    breaks("cut", "connections closed in the middle of an answer", proxied("cut")),
    breaks("cut-first-byte", "connections closed after one byte", proxied("cut", after=1)),
    breaks("stopped", "the server stopped by SIGSTOP", lambda bench: bench.server.pause()),
    breaks("killed", "the server killed", lambda bench: bench.server.kill()),
    *(
        breaks(f"garbage-{name}", f"garbage for answers: {name.replace('-', ' ')}",
               proxied("garbage", data=data), reference="CWE-20; " + BUDGET)
        for name, data in GARBAGE
    ),
    *(
        breaks(f"error-{word.lower()}", f"`{word}` for every command", proxied("error", word),
               reference=f"Redis, {word}")
        for word in ERRORS
    ),
    *(
        breaks(
            f"writes-{word.lower()}", f"`{word}` for writes only",
            proxied("error", word, commands=WRITES), hits=True, reference=f"Redis, {word}",
            expected=NOTHING + "; a write that was not confirmed is made up for before any hit",
        )
        for word in ("OOM", "MISCONF", "READONLY", "NOPERM")
    ),
    restarts("restart-empty", "a restart without its data", restart(keep_data=False)),
    restarts("restart-with-data", "a restart with its data", restart(keep_data=True)),
    restarts("flushed", "FLUSHALL", flush),
    restarts("connections-dropped", "all connections closed at once",
             lambda bench: bench.proxy.drop_connections()),
    restarts("connections-reset", "all connections reset at once",
             lambda bench: bench.proxy.drop_connections(reset=True)),
    Case(
        id="redis-failover", area=AREA, what="the primary dies, and Sentinel promotes its replica",
        expected=f"{NOTHING}; hits are back within a second of the promotion",
        reference="[the protocol](architecture.md#the-protocol)", play=failover,
    ),
    resolver("hangs"),
    resolver("knows nothing"),
    restarts("worker-clock-forward", "a worker's wall clock a day ahead, and right again",
             worker_clock(86_400), worker_clock(0)),
    restarts("worker-clock-back", "a worker's wall clock a day behind, and right again",
             worker_clock(-86_400), worker_clock(0)),
    restarts("clock-forward", "the server's clock a day ahead", clock_jump(86_400)),
    restarts("clock-back", "the server's clock a day behind", clock_jump(-86_400)),
]  # fmt: skip
