"""The workers of one run, each behind a fault proxy of its own, and what can go wrong with them."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.closing import Closing
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker, Workers

ORIGIN = (Path(__file__).parent / "origin.py").read_text()


class Scene(Closing):
    """Some workers over one Redis server; the rows lie beside the proxies, where nothing fails."""

    def __init__(
        self,
        folder: Path,
        server: RedisServer,
        count: int,
        env: dict[str, str] | None = None,
        origin: str = ORIGIN,
    ) -> None:
        self.proxies: list[FaultProxy] = []
        self.workers: list[Worker] = []
        self._server = server
        self._count = count
        self._env = env or {}
        self._origin = origin
        self._started = Workers(folder)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._started.close)
        for _ in range(self._count):
            proxy = self._stack.enter_context(FaultProxy(self._server.port))
            env = {"REDIS_URL": proxy.url, "ROWS_URL": f"{self._server.url}/1", **self._env}
            self.proxies.append(proxy)
            self.workers.append(self._started.start(self._origin, env=env))
        # The workers end before their proxies, so that they can sign off.
        self._stack.callback(self._started.close)
        return self

    def close(self) -> None:
        """End the workers and their proxies."""
        self._stack.close()

    def log(self) -> str:
        """What all workers have said."""
        return "".join(worker.log() for worker in self.workers)

    def heal(self) -> None:
        """End every fault."""
        for proxy in self.proxies:
            proxy.pass_through()

    # what can go wrong, one at a time

    async def cut_off(self, chance: random.Random) -> None:
        """Let one worker, or all of them, lose Redis for a while in one way or another."""
        await asyncio.sleep(chance.random() * 0.6)
        hit = self.proxies if chance.random() < 0.3 else [chance.choice(self.proxies)]
        fault = chance.choice(("refuse", "hang", "reset", "cut", "slow", "full"))
        for proxy in hit:
            await asyncio.to_thread(_faults(proxy)[fault])
        await asyncio.sleep(chance.choice((0.2, 0.8, 2.0, 7.0)) * chance.random())
        for proxy in hit:
            await asyncio.to_thread(proxy.pass_through)

    async def lose_redis(self, chance: random.Random) -> None:
        """Let one worker lose Redis, or all, by refusal or silence."""
        await asyncio.sleep(chance.random() * 0.6)
        hit = self.proxies if chance.random() < 0.5 else [chance.choice(self.proxies)]
        fault = chance.choice(("refuse", "hang"))
        for proxy in hit:
            await asyncio.to_thread(_faults(proxy)[fault])
        await asyncio.sleep(chance.random() * 1.5)
        for proxy in hit:
            await asyncio.to_thread(proxy.pass_through)

    async def kill(self, chance: random.Random) -> None:
        """Kill one worker, often while it is cut off and owes purges, and start it again."""
        victim = chance.randrange(len(self.workers))
        await asyncio.sleep(chance.random() * 2)
        if chance.random() < 0.7:
            await asyncio.to_thread(self.proxies[victim].refuse)
            await asyncio.sleep(chance.random() * 0.3)
        await asyncio.to_thread(self.workers[victim].kill)
        await asyncio.to_thread(self.proxies[victim].pass_through)
        await asyncio.sleep(chance.random())
        await asyncio.to_thread(self.workers[victim].launch)

    async def anything(self, chance: random.Random) -> None:
        """Cut off or kill."""
        await chance.choice((self.cut_off, self.cut_off, self.kill))(chance)


def _faults(proxy: FaultProxy) -> dict[str, Callable[[], None]]:
    return {
        "refuse": proxy.refuse,
        "hang": proxy.hang,
        "reset": proxy.reset,
        "cut": proxy.cut,
        "slow": lambda: proxy.delay(0.02, "reply"),
        "full": lambda: proxy.error("OOM", commands=_WRITES),
    }


_WRITES: Sequence[str] = ("SET",)
