"""The application of the soak: pages whose version only grows, of one to eight KB.

The rows lie on a Redis of their own, which nothing happens to.
"""

import os

import redis.asyncio
from fastapi import FastAPI, Response

from maxage import CacheMiddleware, CacheSettings

rows = redis.asyncio.Redis.from_url(os.environ["ROWS_URL"], decode_responses=True)
app = FastAPI()


@app.get("/pages/{page}")
async def read(page: int) -> Response:
    """Read a page: its number and version, then what fills it."""
    version = int(await rows.get(f"page:{page}") or 0)
    body = b"%d %d " % (page, version)
    return Response(body + b"x" * (1024 * (1 + page % 8)), media_type="text/plain")


@app.put("/pages/{page}")
async def write(page: int) -> Response:
    """Change a page."""
    version = int(await rows.incr(f"page:{page}"))
    return Response(b"%d %d " % (page, version), media_type="text/plain")


app.add_middleware(CacheMiddleware, settings=CacheSettings())
