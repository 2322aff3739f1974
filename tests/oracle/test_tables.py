"""No stale read where only commits purge: SQLAlchemy in two workers and a script, one SQLite file.

The seed of a run is printed; `ORACLE_SEED` replays it, `ORACLE_SECONDS` makes a run longer, and
`poe oracle --tables` runs many seeds.
"""

import os
import random
from pathlib import Path

import pytest

from tests.oracle import tables
from tests.oracle.play import History
from tests.oracle.scene import Scene
from tests.oracle.tables import Script, TablesPlayer
from tests.support.redis_server import RedisServer
from tests.support.workers import BUDGETS, UNCONFIRMED

pytestmark = pytest.mark.anyio
SECONDS = float(os.environ.get("ORACLE_SECONDS", "5"))
PATIENT = dict.fromkeys(BUDGETS, "2")


async def played(
    folder: Path, server: RedisServer, seed: int, seconds: float, **settings: str
) -> tuple[History, bool]:
    """Play; return the history, and whether a purge was owed."""
    env = tables.environment(folder, **PATIENT, **settings)
    script = Script(env | {"REDIS_URL": server.url})
    await script.prepare()
    server.flush()
    with Scene(folder, server, 2, env, tables.ORIGIN) as scene:
        async with script:
            player = TablesPlayer(scene.workers, script, seed, seconds=seconds)
            history = await player.play()
        owed = UNCONFIRMED in scene.log()
    print(seed, history)
    return history, owed


@pytest.fixture
def seed() -> int:
    """The seed of the run, printed where the test fails."""
    return int(os.environ.get("ORACLE_SEED", random.SystemRandom().randrange(10**6)))


async def test_no_read_is_older_than_a_commit_of_its_tables(
    tmp_path: Path, redis_server: RedisServer, redis_url: str, seed: int
) -> None:
    """Threads and the event loop, sessions, Core and text, savepoints, late commits, the script."""
    history, owed = await played(tmp_path, redis_server, seed, SECONDS / 2)
    assert not history.older_than(5.0 if owed else 0.0), (seed, history.stale[:5])
    assert not history.wrong
    assert history.writes > 5
    assert history.hits > history.reads / 20, "hardly anything was served from the store"


async def test_without_the_hook_reads_are_stale(
    tmp_path: Path, redis_server: RedisServer, redis_url: str, seed: int
) -> None:
    """So the test above can fail: nothing else purges these reads."""
    history, _ = await played(tmp_path, redis_server, seed, 1.0, TABLES_INSTRUMENTED="0")
    assert history.stale
