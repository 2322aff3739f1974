"""Random clients of the application of tables, and a script that writes to the same file."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.oracle.play import ROWS, Client, Player
from tests.support.workers import Worker

ROOT = Path(__file__).parents[2]
ORIGIN = "tests.oracle.tables_origin:app"
READS = ("profile", "wallet", "statement")
"""Reads of one row, by the first part of their paths."""
WRITES = ("pay", "adjust", "nested")
UNANSWERED = ("late", "undone")
"""Writes whose answer tells no version."""
WAYS = ("update", "update", "flush", "text")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return what the application and the script need."""
    roots = os.pathsep.join((str(ROOT / "middleware"), str(ROOT)))
    return {"TABLES_FILE": str(folder / "tables.db"), "PYTHONPATH": roots, **settings}


class Script:
    """The script that writes, as a process; one write at a time.

    Args:
        env: its environment, besides that of the tests.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = {**os.environ, **env}
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await self._started()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def prepare(self) -> None:
        """Make the file with its rows."""
        process = await self._started("prepare")
        await process.communicate(b"")
        assert process.returncode == 0

    async def write(self, row: int) -> int:
        """Raise the version of a row, and return it once it is committed and purged."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._turn:
            process.stdin.write(b"%d\n" % row)
            return int(await process.stdout.readline())

    async def _started(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.oracle.tables_script", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=self._env, cwd=ROOT,
        )  # fmt: skip


class TablesPlayer(Player):
    """Lets random clients read and write tables; some writes are the script's."""

    def __init__(self, workers: Sequence[Worker], script: Script, seed: int, **more: Any) -> None:
        super().__init__(workers, seed, **more)
        self._script = script

    async def _act(self, client: Client, chance: random.Random) -> None:
        row, dice = chance.randrange(ROWS), chance.random()
        way = chance.choice(WAYS)
        if dice < 0.06:
            await self._write(client, str(row), f"/{chance.choice(WRITES)}/{row}/{way}")
        elif dice < 0.09:
            self.history.acknowledge(str(row), await self._script.write(row))
        elif dice < 0.11:
            await client.ask("PATCH", f"/{chance.choice(UNANSWERED)}/{row}/{way}")
            self.history.writes += 1
        elif dice < 0.14:
            write = ("PUT", f"/{chance.choice(WRITES)}/{row}/{way}")
            await self._hang_up(client, chance, *chance.choice((("GET", f"/wallet/{row}"), write)))
        else:
            await self._read_row(client, chance, row)

    async def _read_row(self, client: Client, chance: random.Random, row: int) -> None:
        is_sum = chance.random() < 0.15
        path = "/dashboard" if is_sum else f"/{chance.choice(READS)}/{row}"
        began, shown = await self._shown(client, path)
        if is_sum:
            self.history.check_sum(path, began, shown)
        else:
            self.history.check(str(row), began, shown)

    async def _shown(self, client: Client, path: str) -> tuple[float, int]:
        """Return when a read began, and the version that it showed."""
        began = time.monotonic()
        status, headers, body = await client.ask("GET", path)
        assert status == 200, status
        history, shown = self.history, json.loads(body)
        history.reads += 1
        history.hits += b"hit" in headers.get(b"cache-status", b"")
        if shown.get("path") != path:
            history.wrong.append(f"{path}: {body!r}")
        return began, int(shown["version"])

    async def _hang_up(self, client: Client, chance: random.Random, method: str, path: str) -> None:
        """Begin a read or a write and hang up before it is answered."""
        self.history.reads += 1
        try:
            async with asyncio.timeout(chance.random() * 0.01):
                await client.ask(method, path)
        except TimeoutError:
            client.hang_up()
