"""The soak: four workers for an hour, and whether anything grows: `poe soak`.

Clients read pages by Zipf and write some, on a Redis with a memory limit. Workers are restarted in
good order, one after the other, and Redis without its data. Every answer is checked; the memory and
the descriptors of each process are read once a second. Neither may grow after the first ten
minutes of a process, or half of a shorter run: memory by 2 % at most.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Final

from tests.oracle.play import Client
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker, Workers

SOURCE: Final = (Path(__file__).parent / "soak_origin.py").read_text()
PAGES: Final = 20_000
CLIENTS: Final = 8
WRITES: Final = 0.05
"""The share of writes."""
PAUSE: Final = 0.01
"""Seconds that a client waits at most between two requests."""
RESTARTS: Final = 3
"""Restarts of workers, and as many of Redis, in a run."""
SETTLING: Final = 1 / 2
"""The part of a run after which nothing of a process may grow."""
SETTLED: Final = 600.0
"""Seconds that it is at most."""
GROWTH: Final = 0.02
"""The share by which memory may grow then."""
FEW: Final = 3
"""Descriptors that may be more at one time than at another: connections come and go."""
WORKER_ENV: Final = {
    "CACHE_NEAR_BYTES": str(16 * 1024 * 1024),
    "CACHE_READ_BUDGET": "0.5",
    "CACHE_WRITE_BUDGET": "0.5",
}
REDIS: Final = ("--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru")


@dataclass(kw_only=True)
class Usage:
    """What one process took, once a second."""

    name: str
    began: float
    seconds: list[float] = field(default_factory=list[float])
    memory: list[int] = field(default_factory=list[int])
    descriptors: list[int] = field(default_factory=list[int])

    def growth(self, settling: float) -> tuple[float, float] | None:
        """Return by what share memory grew, and by how many the descriptors did.

        Compared are the medians of the first and of the last fifth of the time after settling.

        Returns:
            None: it was not settled for long enough.
        """
        first = bisect_left(self.seconds, self.began + settling)
        part = (len(self.seconds) - first) // 5
        if part < 1:
            return None
        (memory, before), (descriptors, former) = (
            (median(values[-part:]), median(values[first : first + part]))
            for values in (self.memory, self.descriptors)
        )
        return memory / before - 1, descriptors - former


@dataclass(kw_only=True)
class Seen:
    """What the clients saw."""

    reads: int = 0
    hits: int = 0
    writes: int = 0
    stale: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return (
            f"{self.reads} reads, {self.hits} hits, {self.writes} writes, "
            f"{len(self.stale)} stale, {len(self.errors)} errors"
        )


class Soak:
    """One run.

    Args:
        folder: for logs.
        seconds: how long.
        seed: what the clients do hangs on it.
        workers: how many.
        restarts: how often a worker is restarted, and Redis.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float,
        *,
        seed: int = 1,
        workers: int = 4,
        restarts: int = RESTARTS,
    ) -> None:
        self.seen = Seen()
        self.usages: dict[int, Usage] = {}
        """By process id."""
        self._folder = folder
        self._seconds = seconds
        self._seed = seed
        self._count = workers
        self._restarts = restarts
        self._settling = min(SETTLED, seconds * SETTLING)
        self._weights = list(accumulate(1 / rank for rank in range(1, PAGES + 1)))
        self._acknowledged: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._away: set[Worker] = set()
        self._clients: dict[Worker, list[Client]] = defaultdict(list)
        self._under_way: Counter[Worker] = Counter()
        self._ends = 0.0

    async def run(self) -> None:
        """Play to the end."""
        started = Workers(self._folder)
        with RedisServer.start(args=REDIS) as server, RedisServer.start() as rows:
            env = {"REDIS_URL": server.url, "ROWS_URL": rows.url, **WORKER_ENV}
            try:
                starting = asyncio.to_thread(started.start_many, self._count, SOURCE, env=env)
                workers = await starting
                self._ends = time.monotonic() + self._seconds
                tasks = [self._client(workers, number) for number in range(CLIENTS)]
                watching = asyncio.create_task(self._watch(workers, server))
                disturbing = asyncio.create_task(self._disturb(workers, server))
                await asyncio.gather(*tasks)
                await asyncio.gather(watching, disturbing)
                self.seen.errors += [
                    line
                    for worker in workers
                    for line in worker.log().splitlines()
                    if "Traceback" in line or "ERROR" in line
                ]
            finally:
                for worker in started.started:
                    await asyncio.to_thread(worker.close)

    def verdict(self) -> list[str]:
        """Return what is wrong, in sentences."""
        wrong = [*self.seen.stale[:5], *self.seen.errors[:5]]
        for usage in self.usages.values():
            grown = usage.growth(self._settling)
            if grown is not None and grown[0] > GROWTH:
                wrong.append(f"the memory of {usage.name} grew by {grown[0]:.1%}")
            if grown is not None and grown[1] > FEW:
                wrong.append(f"the descriptors of {usage.name} grew by {grown[1]:g}")
        return wrong

    async def _client(self, workers: Sequence[Worker], number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        clients = {worker: Client(worker.port) for worker in workers}
        for worker, client in clients.items():
            self._clients[worker].append(client)
        while time.monotonic() < self._ends:
            worker = chance.choice([one for one in workers if one not in self._away])
            page = bisect_left(self._weights, chance.random() * self._weights[-1]) + 1
            method = "PUT" if chance.random() < WRITES else "GET"
            self._under_way[worker] += 1
            await self._ask(clients[worker], method, page)
            self._under_way[worker] -= 1
            await asyncio.sleep(chance.random() * PAUSE)
        for client in clients.values():
            client.hang_up()

    async def _ask(self, client: Client, method: str, page: int) -> None:
        began = time.monotonic()
        try:
            status, headers, body = await client.ask(method, f"/pages/{page}")
        except (OSError, EOFError) as error:
            self.seen.errors.append(f"{method} /pages/{page}: {error!r}")
            return
        number, version, *_ = body.split(b" ", 2)
        if status != 200 or int(number) != page:
            self.seen.errors.append(f"{method} /pages/{page}: {status}, {body[:40]!r}")
        elif method == "PUT":
            self.seen.writes += 1
            known = self._acknowledged[page]
            if not known or known[-1][1] < int(version):
                known.append((time.monotonic(), int(version)))
        else:
            self.seen.reads += 1
            self.seen.hits += b"hit" in headers.get(b"cache-status", b"")
            self._check(page, began, int(version))

    def _check(self, page: int, began: float, version: int) -> None:
        for at, newer in reversed(self._acknowledged[page]):
            if at < began:
                if newer > version:
                    late = f"{newer} was acknowledged {began - at:.3f} s before"
                    self.seen.stale.append(f"page {page} showed version {version}; {late}")
                return

    async def _disturb(self, workers: Sequence[Worker], server: RedisServer) -> None:
        """Restart a worker, then Redis, and so on, at equal distances."""
        pause = self._seconds / (2 * self._restarts + 1)
        for number in range(self._restarts):
            await asyncio.sleep(pause)
            # The first worker lives for the whole run.
            worker = workers[1 + number % (len(workers) - 1)]
            # As a load balancer does: it gets no request any more, then it ends.
            self._away.add(worker)
            while self._under_way[worker]:  # noqa: ASYNC110 - counted, and soon over
                await asyncio.sleep(0.01)
            await asyncio.to_thread(worker.terminate)
            for client in self._clients[worker]:
                client.hang_up()
            await asyncio.to_thread(worker.launch)
            self._away.discard(worker)
            await asyncio.sleep(pause)
            await asyncio.to_thread(server.restart, keep_data=False)

    async def _watch(self, workers: Sequence[Worker], server: RedisServer) -> None:
        """Read memory and descriptors once a second, and tell of them once a minute."""
        told = began = time.monotonic()
        while (now := time.monotonic()) < self._ends:
            named = [(f"worker {number}", one) for number, one in enumerate(workers)]
            for name, process in [*named, ("Redis", server)]:
                if process.running and process not in self._away:
                    self._read(name, process.pid, now)
            if now - told > 60:
                told = now
                out(f"{(now - began) / 60:.0f} min: {self.seen}; {self.state()}")
            await asyncio.sleep(1.0)

    def _read(self, name: str, pid: int, now: float) -> None:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return
        usage = self.usages.setdefault(pid, Usage(name=f"{name} ({pid})", began=now))
        usage.seconds.append(now)
        usage.memory.append(int(text.partition("VmRSS:")[2].split()[0]) * 1024)
        usage.descriptors.append(descriptors)

    def state(self) -> str:
        """Return what each process takes, and by how much its memory has grown."""
        told: list[str] = []
        for usage in self.usages.values():
            grown = usage.growth(self._settling)
            share = "" if grown is None else f" {grown[0]:+.1%}"
            told.append(
                f"{usage.name} {usage.memory[-1] / 1e6:.0f} MB{share} {usage.descriptors[-1]} fds"
            )
        return ", ".join(told)


def out(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run, tell of it, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(prog="poe soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maxage-soak-") as folder:
        soak = Soak(Path(folder), options.minutes * 60, seed=options.seed, workers=options.workers)
        asyncio.run(soak.run())
    wrong = soak.verdict()
    out(f"{soak.seen}; {soak.state()}")
    out("Wrong: " + "; ".join(wrong) if wrong else "Nothing is wrong.")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
