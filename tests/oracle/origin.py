"""The application that the oracle asks: rows whose version only grows, slow reads, late commits.

The rows lie on the Redis server itself, in another database and not behind the fault proxy, so that
every worker sees one truth, whatever the cache's connection goes through.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Annotated

import redis.asyncio
from fastapi import Depends, FastAPI

from maxage import CacheMiddleware, CacheSettings

rows = redis.asyncio.Redis.from_url(os.environ["ROWS_URL"], decode_responses=True)
chance = random.Random(os.getpid())
app = FastAPI()


async def work() -> AsyncIterator[list[str]]:
    """Commit what the handler asks for after the response was sent, as many applications do."""
    commits: list[str] = []
    yield commits
    for row in commits:
        await asyncio.sleep(chance.random() * 0.01)
        await rows.incr(row)


@app.get("/rows/{row}")
async def read(row: str) -> dict[str, int | str]:
    """Read a row, and take a while to answer."""
    version = int(await rows.get(f"row:{row}") or 0)
    await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01)))
    return {"path": f"/rows/{row}", "version": version}


@app.get("/rows")
async def read_all() -> dict[str, int | str]:
    """Read the sum of all versions: it changes with each of them."""
    keys = [f"row:{row}" for row in range(8)]
    version = sum(int(value or 0) for value in await rows.mget(keys))
    await asyncio.sleep(chance.choice((0, 0.003)))
    return {"path": "/rows", "version": version}


@app.get("/total")
async def read_total() -> dict[str, int | str]:
    """Read what `/rows` shows, under a path that no write has anything to do with: an orphan."""
    return {**await read_all(), "path": "/total"}


@app.get("/totals")
@app.put("/totals/{row}")
async def write_elsewhere(row: str = "") -> dict[str, int | str]:
    """Write a row under a path of another tree, which has a read of its own."""
    version = int(await rows.incr(f"row:{row}")) if row else 0
    return {"path": "/totals", "version": version}


@app.put("/rows/{row}")
async def write(row: str) -> dict[str, int]:
    """Commit, then answer."""
    version = int(await rows.incr(f"row:{row}"))
    await asyncio.sleep(chance.choice((0, 0.004)))
    return {"version": version}


@app.patch("/rows/{row}")
async def write_late(row: str, commits: Annotated[list[str], Depends(work)]) -> dict[str, bool]:
    """Answer, then commit."""
    commits.append(f"row:{row}")
    return {"late": True}


app.add_middleware(CacheMiddleware, settings=CacheSettings())
