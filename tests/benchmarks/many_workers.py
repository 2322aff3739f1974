"""What each further worker costs one server: `poe many-workers` prints the table of the docs.

The workers are simulated: each has a connection of its own, and sends once a second what the
library sends for a worker that holds a lease, and reads the answers. One of them is the library
itself: it is the watcher. Redis tells its processor time, its commands and the bytes in and out.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from maxage.redis_store.leases.lease import LOOK_INTERVAL, leased
from maxage.redis_store.leases.process_identity import process_identity
from maxage.redis_store.leases.registry import WATCH_FIELD, Registry, registry_key
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.shared_state import RedisState
from maxage.store.tokens import NAMESPACE_GROUP, fresh_token, token_key, token_prefix
from tests.support.redis_server import RedisServer

NAMESPACE: Final = "maxage"
NUMBERS: Final = (10, 100, 1000, 5000)
PURGES: Final = 200
"""Purges whose messages are counted."""
CONNECTING: Final = 200
"""Connections that are opened at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a server did."""

    processor: float
    """Seconds of processor time."""
    commands: int
    sent: int
    received: int


class Meter:
    """Reads the counts of a server, and takes off what it costs to ask."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        first = self._totals()
        self._own = [after - before for before, after in zip(first, self._totals(), strict=True)]
        self._began = self._totals()

    def _totals(self) -> list[float]:
        stats, cpu = self._server.info("stats"), self._server.info("cpu")
        used = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
        names = ("total_commands_processed", "total_net_output_bytes", "total_net_input_bytes")
        return [used, *(float(stats[name]) for name in names)]

    def cost(self) -> Cost:
        """Return the cost since the meter was made."""
        ends = self._totals()
        used, commands, sent, received = (
            after - before - own
            for before, after, own in zip(self._began, ends, self._own, strict=True)
        )
        return Cost(
            processor=used, commands=round(commands), sent=round(sent), received=round(received)
        )


class Client(asyncio.Protocol):
    """A connection that counts the answers it gets."""

    def __init__(self) -> None:
        self.received = b""
        self._transport: asyncio.Transport | None = None
        self._whole: asyncio.Future[bytes] | None = None
        self._lines = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if (
            self._whole is not None
            and not self._whole.done()
            and self.received.count(b"\r\n") >= self._lines
        ):
            self._whole.set_result(self.received)

    async def ask(self, packed: bytes, lines: int) -> bytes:
        """Send commands; return the answers, which end with so many lines."""
        self.received, self._lines = b"", lines
        self._whole = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(packed)
        return await self._whole

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def packed(commands: Sequence[Command]) -> bytes:
    """Return the bytes of commands."""
    parts: list[bytes] = []
    for words in commands:
        parts.append(b"*%d\r\n" % len(words))
        for word in words:
            value = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


class SimulatedWorker:
    """Sends what the library sends for a worker that follows the watch and holds a lease."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = process_identity()
        self.looks = 0
        self._sent: list[Sequence[Command]] = []
        self._registry = Registry(NAMESPACE, self._record)

    def _record(self, commands: Sequence[Command]) -> list[Any]:
        self._sent.append(commands)
        return [None, [b"0", b"0"]]

    async def look(self) -> None:
        """Look once, and renew the lease."""
        self._registry.glance()
        answer = await self._client.ask(packed(self._sent.pop()), 7)
        # The last lines are those of TIME: two numbers, each behind its length.
        seconds, microseconds = answer.split(b"\r\n")[-4:-1:2]
        now = int(seconds) * 1000 + int(microseconds) // 1000
        self._registry.write({self._name: leased(now)}, extends=False)
        await self._client.ask(packed(self._sent.pop()), 1)
        self.looks += 1


async def looks(server: RedisServer, number: int, seconds: float) -> tuple[Cost, float]:
    """Return what so many workers cost, of which the library is one, and how often they looked."""
    state = RedisState(server.url, NAMESPACE)
    manager = state.lease_manager
    manager.lease.begin_mutation()
    await asyncio.wrap_future(manager.join())
    clients = await connected(server, number - 1)
    ends = asyncio.Event()
    workers = [SimulatedWorker(client) for client in clients]
    tasks = [asyncio.create_task(_life(worker, ends)) for worker in workers]
    await asyncio.sleep(2 * LOOK_INTERVAL)
    meter, before = Meter(server), sum(worker.looks for worker in workers)
    await asyncio.sleep(seconds)
    cost = meter.cost()
    made = sum(worker.looks for worker in workers) - before + seconds / LOOK_INTERVAL
    ends.set()
    await asyncio.gather(*tasks)
    manager.lease.end_mutation()
    await asyncio.to_thread(state.close)
    for client in clients:
        client.close()
    return cost, made


async def _life(worker: SimulatedWorker, ends: asyncio.Event) -> None:
    await asyncio.sleep(Random().random() * LOOK_INTERVAL)  # their phases differ
    due = time.monotonic()
    while not ends.is_set():
        await worker.look()
        due += LOOK_INTERVAL
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def connected(server: RedisServer, number: int) -> list[Client]:
    """Open connections."""
    loop, made = asyncio.get_running_loop(), list[Client]()
    for first in range(0, number, CONNECTING):
        opening = [
            loop.create_connection(Client, "127.0.0.1", server.port)
            for _ in range(min(CONNECTING, number - first))
        ]
        made += [client for _, client in await asyncio.gather(*opening)]
    return made


async def messages(server: RedisServer, number: int) -> Cost:
    """Return what purges cost with so many near caches."""
    clients = await connected(server, number)
    prefix = token_prefix(NAMESPACE)
    tracking = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
    for client in clients:
        await client.ask(packed([("HELLO", 3), tracking]), 15)
    key = token_key(NAMESPACE, NAMESPACE_GROUP)
    meter = Meter(server)
    for _ in range(PURGES):
        await asyncio.to_thread(server.call, "SET", key, fresh_token(b"0123456789ab"))
    await asyncio.sleep(LOOK_INTERVAL)
    cost = meter.cost()
    for client in clients:
        client.close()
    return cost


async def run(numbers: Sequence[int], seconds: float) -> None:
    """Measure, and print two Markdown tables."""
    out("| workers | bytes of a look | commands of a look | MB/s | of a core of Redis |")
    out("| ---: | ---: | ---: | ---: | ---: |")
    for number in numbers:
        with RedisServer.start(args=ROOM) as server:
            cost, made = await looks(server, number, seconds)
            registry = server.call("HLEN", registry_key(NAMESPACE)) - 1
            assert registry >= number, f"{registry} leases of {number} workers"
            assert server.call("HGET", registry_key(NAMESPACE), WATCH_FIELD)
        # A busy machine may not get as far as one look of each a second: this is what they cost.
        size, processor = (cost.sent + cost.received) / made, cost.processor / made
        out(
            f"| {number:,} | {size:.0f} | {cost.commands / made:.1f} "
            f"| {size * number / 1e6:.2f} | {processor * number:.1%} |"
        )
    out("")
    out("| near caches | bytes a purged group | microseconds of Redis a purged group |")
    out("| ---: | ---: | ---: |")
    for number in numbers:
        with RedisServer.start(args=ROOM) as server:
            cost = await messages(server, number)
        out(f"| {number:,} | {cost.sent / PURGES:,.0f} | {cost.processor / PURGES * 1e6:,.0f} |")


ROOM: Final = ("--maxclients", "12000")


def out(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(prog="poe many-workers", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=NUMBERS)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number")
    options = parser.parse_args()
    os.chdir(tempfile.gettempdir())
    asyncio.run(run(options.workers, options.seconds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
