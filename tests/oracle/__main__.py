"""The oracle at length: `poe oracle`, with many seeds, workers killed, and each near cache mode.

It says what it saw for each seed, and ends with an error where the contract was broken.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from tests.oracle import tables
from tests.oracle.play import History, Player
from tests.oracle.scene import Scene
from tests.support.redis_server import RedisServer

MODES = ("healthy", "faults", "refuse")
BOUNDS = {"healthy": 0.0, "faults": 5.0, "refuse": 0.0}
"""Seconds by which a read may be older than an acknowledged write."""
PROMPT = 0.1
"""The same where the near cache runs with `CACHE_NEAR=prompt`."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="poe oracle", description=__doc__)
    parser.add_argument("--mode", choices=MODES, default="healthy")
    parser.add_argument(
        "--tables", action="store_true", help="reads that share tables with writes, and no paths"
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000, help="for each seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--near", choices=("off", "exact", "prompt"), default="off")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each seed, at most")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two requests")
    return parser.parse_args()


async def one(options: argparse.Namespace, seed: int, server: RedisServer) -> History:
    """Run one seed."""
    # A busy machine is not the fault that is looked for.
    env = {"CACHE_READ_BUDGET": "2", "CACHE_WRITE_BUDGET": "2"}
    if options.near != "off":
        env |= {"CACHE_NEAR_BYTES": "10000000", "CACHE_NEAR": options.near}
    if options.mode != "healthy":
        env |= {"CACHE_READ_BUDGET": "0.05", "CACHE_WRITE_BUDGET": "0.1"}
    if options.mode == "refuse":
        env |= {"CACHE_ON_LOST_PURGE": "refuse"}
    play = of_tables if options.tables else of_paths
    with tempfile.TemporaryDirectory() as folder:
        server.flush()
        # What the workers have logged is shown by the tests, not here.
        with redirect_stdout(StringIO()):
            return await play(options, seed, server, Path(folder), env)


def terms(options: argparse.Namespace, scene: Scene) -> dict[str, Any]:
    """Return how long a player plays, and what goes wrong."""
    return {
        "seconds": options.seconds,
        "operations": options.operations,
        "pause": options.pause,
        "disturb": None if options.mode == "healthy" else scene.anything,
    }


async def of_paths(
    options: argparse.Namespace, seed: int, server: RedisServer, folder: Path, env: dict[str, str]
) -> History:
    """Play with reads that writes purge by their paths."""
    with Scene(folder, server, options.workers, env) as scene:
        history = await Player(scene.workers, seed, **terms(options, scene)).play()
        scene.heal()
    return history


async def of_tables(
    options: argparse.Namespace, seed: int, server: RedisServer, folder: Path, env: dict[str, str]
) -> History:
    """Play with reads that commits purge by their tables; a script writes too."""
    env = tables.environment(folder, **env)
    script = tables.Script({**env, "REDIS_URL": server.url})
    await script.prepare()
    with Scene(folder, server, options.workers, env, tables.ORIGIN) as scene:
        async with script:
            player = tables.TablesPlayer(scene.workers, script, seed, **terms(options, scene))
            history = await player.play()
        scene.heal()
    return history


def main() -> int:
    """Run all seeds; return 1 where one of them broke the contract."""
    options = arguments()
    bound = max(BOUNDS[options.mode], PROMPT if options.near == "prompt" else 0.0)
    broken = operations = 0
    with RedisServer.start() as server:
        for seed in range(options.first, options.first + options.seeds):
            history = asyncio.run(one(options, seed, server))
            bad = bool(history.older_than(bound) or history.wrong)
            broken += bad
            operations += history.operations
            print(f"{'BROKEN ' if bad else ''}seed {seed}: {history}", flush=True)
            for found in history.older_than(bound)[:5]:
                print(f"  {found}")
    print(f"{operations} operations, {options.seeds} seeds, {broken} of them broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
