"""Random clients against real workers, and the history that their reads are checked against.

A row's version only grows, and a write's answer names the version that it made; so a read that
began after that answer must show that version or a later one.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.support.workers import Worker

ROWS = 8
CLIENTS = 12
SUMS = ("/rows", "/total")
"""Reads that show the sum of all rows; the second one shares no path with their writes."""

Disturb = Callable[[random.Random], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A read that showed less than had been acknowledged when it began."""

    path: str
    shown: int
    acknowledged: int
    seconds: float
    """For how long that had been acknowledged."""


@dataclass(kw_only=True)
class History:
    """What was acknowledged when, and what reads showed."""

    acknowledged: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """For each path versions that only grow, with the moment of their answer."""
    stale: list[Stale] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Bodies that belong to another path, or to none."""
    reads: int = 0
    hits: int = 0
    writes: int = 0
    refused: int = 0
    failed: int = 0
    """Requests that were not answered: their worker was killed."""

    def __str__(self) -> str:
        oldest = max((found.seconds for found in self.stale), default=0.0)
        return (
            f"{self.operations} operations, {self.reads} reads, {self.hits} hits, "
            f"{self.writes} writes, {self.refused} refused, {self.failed} unanswered, "
            f"{len(self.stale)} stale, the oldest by {oldest:.3f} s, {len(self.wrong)} wrong bodies"
        )

    @property
    def operations(self) -> int:
        """How many requests were answered."""
        return self.reads + self.writes + self.refused

    def older_than(self, seconds: float) -> list[Stale]:
        """Return the reads that were stale by more than this."""
        return [found for found in self.stale if found.seconds > seconds]

    def acknowledge(self, path: str, version: int) -> None:
        """Note a write's answer."""
        self.writes += 1
        known = self.acknowledged.setdefault(path, [])
        if not known or known[-1][1] < version:
            known.append((time.monotonic(), version))

    def check(self, path: str, began: float, version: int) -> None:
        """Compare a read with what had been acknowledged when it began."""
        for at, newer in self.acknowledged.get(path, ()):
            if at < began and newer > version:
                self.stale.append(
                    Stale(path=path, shown=version, acknowledged=newer, seconds=began - at)
                )
                return

    def check_sum(self, path: str, began: float, version: int) -> None:
        """Compare a read of all rows with the sum of what had been acknowledged."""
        events = sorted(
            (at, path, newer)
            for path, known in self.acknowledged.items()
            for at, newer in known
            if at < began
        )
        latest: dict[str, int] = {}
        for at, path, newer in events:
            latest[path] = newer
            if sum(latest.values()) > version:
                total = sum(latest.values())
                self.stale.append(
                    Stale(path=path, shown=version, acknowledged=total, seconds=began - at)
                )
                return


class Client:
    """One keep-alive connection to one worker; it may hang up at any time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send a request and return status, headers and body."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: oracle\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        except BaseException:
            self.hang_up()
            raise
        return int(first.split()[1]), headers, body

    def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


class Player:
    """Lets random clients read and write until the time is over or all operations are done.

    Args:
        workers: the servers that they ask.
        seed: what they do hangs on it.
        seconds: how long at most.
        operations: how many at most.
        pause: seconds that a client waits at most between two requests.
        elsewhere: whether some writes go to a path of another tree; reads are purged by those only
            with `CACHE_PURGE=unproven`.
        disturb: what goes wrong meanwhile.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        seed: int,
        *,
        seconds: float,
        operations: int = 10**9,
        pause: float = 0.0,
        disturb: Disturb | None = None,
        elsewhere: bool = False,
    ) -> None:
        self.history = History()
        self._ports = [worker.port for worker in workers]
        self._seed = seed
        self._ends = time.monotonic() + seconds
        self._left = iter(range(operations))
        self._pause = pause
        self._disturb = disturb
        self._elsewhere = elsewhere

    async def play(self) -> History:
        """Run to the end and return what was seen."""
        disturbing = asyncio.create_task(self._disturbed(self._disturb)) if self._disturb else None
        await asyncio.gather(*(self._one(random.Random(self._seed * 1000 + n))
                               for n in range(CLIENTS)))  # fmt: skip
        if disturbing is not None:
            if disturbing.done():
                disturbing.result()
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)
        return self.history

    async def _disturbed(self, disturb: Disturb) -> None:
        chance = random.Random(self._seed)
        for _ in count():
            await disturb(chance)

    async def _one(self, chance: random.Random) -> None:
        clients = [Client(port) for port in self._ports]
        while time.monotonic() < self._ends and next(self._left, None) is not None:
            try:
                await self._act(chance.choice(clients), chance)
            except (OSError, EOFError):
                self.history.failed += 1
                await asyncio.sleep(0.05)
            if self._pause:
                await asyncio.sleep(chance.random() * self._pause)
        for client in clients:
            client.hang_up()

    async def _act(self, client: Client, chance: random.Random) -> None:
        number = chance.randrange(ROWS)
        row = f"/rows/{number}"
        dice = chance.random()
        if dice < 0.1:
            elsewhere = self._elsewhere and chance.random() < 0.5
            await self._write(client, row, f"/totals/{number}" if elsewhere else row)
        elif dice < 0.12:
            await client.ask("PATCH", row)
            self.history.writes += 1
        elif dice < 0.15:
            await self._abandon(client, chance, row)
        else:
            sums = chance.random() < 0.15
            await self._read(client, chance.choice(SUMS) if sums else row)

    async def _write(self, client: Client, row: str, path: str) -> None:
        status, _, body = await client.ask("PUT", path)
        if status == 200:
            self.history.acknowledge(row, json.loads(body)["version"])
        else:
            assert status == 503, status
            self.history.refused += 1

    async def _read(self, client: Client, path: str) -> None:
        began = time.monotonic()
        status, headers, body = await client.ask("GET", path)
        assert status == 200, status
        history, shown = self.history, json.loads(body)
        history.reads += 1
        history.hits += b"hit" in headers.get(b"cache-status", b"")
        if shown.get("path") != path:
            history.wrong.append(f"{path}: {body!r}")
        elif path in SUMS:
            history.check_sum(path, began, shown["version"])
        else:
            history.check(path, began, shown["version"])

    async def _abandon(self, client: Client, chance: random.Random, path: str) -> None:
        """Begin a read or a write and hang up before it is answered."""
        self.history.reads += 1
        try:
            async with asyncio.timeout(chance.random() * 0.01):
                await client.ask(chance.choice(("GET", "PUT")), path)
        except TimeoutError:
            client.hang_up()
