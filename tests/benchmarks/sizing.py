"""What one stored response, token, copy and worker take: `poe sizing` prints the table of the docs.

Everything is measured from outside: Redis tells its memory and its clients, the system that of the
worker.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Final

import httpx

from maxage.redis_store.leases.registry import registry_key
from maxage.store.tokens import token_prefix
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import Worker

URLS: Final = 2000
COPIES: Final = 8000
SIZES: Final = {"1 KB": 1024, "32 KB": 32 * 1024}
NEAR: Final = {"CACHE_NEAR_BYTES": str(1024 * 1024 * 1024)}
PATIENT: Final = {"CACHE_READ_BUDGET": "5", "CACHE_WRITE_BUDGET": "5"}
"""On a busy machine a response that is asked for once would else not be stored."""
TOKENS: Final = token_prefix("maxage")
REGISTRY: Final = registry_key("maxage")
LASTING: Final = 5000
"""Milliseconds that responses and tokens live, and the claims of fills do not."""
SOURCE: Final = """
from fastapi import FastAPI, Response
from maxage import CacheMiddleware
app = FastAPI()
app.add_middleware(CacheMiddleware)
@app.get("/{size}/pages/{page}")
async def read(size: int, page: int) -> Response:
    return Response(bytes([page % 251]) * size, media_type="text/plain")
@app.put("/writes")
async def write() -> None:
    pass
"""


def main() -> int:
    """Measure, and print a Markdown table."""
    sys.stdout.write("| what | takes |\n| --- | --- |\n")
    for name, size in SIZES.items():
        with served() as (redis, worker, client):
            memory(redis, client, name, size)
            del worker
    for name, size in SIZES.items():
        with served(**NEAR) as (_, worker, client):
            row(
                f"near copy of {name} in a process, all included",
                copies(worker, client, size),
            )
    with served() as (redis, worker, _):
        row("process of uvicorn and FastAPI with an empty cache", f"{resident(worker) >> 20} MB")
        row("connections of a process to Redis, idle", f"{clients(redis)}")
    with served(**NEAR) as (redis, _, _):
        row("the same with a near cache", f"{clients(redis)}")
    return 0


def row(what: str, takes: str) -> None:
    """Print a line of the table."""
    sys.stdout.write(f"| {what} | {takes} |\n")
    sys.stdout.flush()


@contextmanager
def served(**env: str) -> Iterator[tuple[RedisServer, Worker, httpx.Client]]:
    """Serve the application on an empty Redis; one request has been answered."""
    folder = Path(tempfile.mkdtemp(prefix="maxage-sizing-"))
    with RedisServer.start() as redis:
        env = {"REDIS_URL": redis.url, **PATIENT, **env}
        worker = Worker.start(SOURCE, tmp_path=folder, env=env)
        try:
            with httpx.Client(base_url=worker.url, timeout=30) as client:
                client.get("/1/pages/0")
                wait_until(lambda: bool(keys(redis)), "the response is stored")
                yield redis, worker, client
        finally:
            worker.close()
            shutil.rmtree(folder, ignore_errors=True)


def keys(redis: RedisServer) -> list[bytes]:
    """All keys of the cache."""
    with redis.client() as client:
        found: list[bytes] = client.call("KEYS", "maxage:*")
        return [key for key in found if client.call("PTTL", key) > LASTING]


def stored_by_now(redis: RedisServer) -> int:
    """The responses in Redis."""
    others = {REGISTRY, *filter(is_token, keys(redis))}
    return len(set(keys(redis)) - others)


def is_token(key: bytes) -> bool:
    """Whether a key is that of a token."""
    return key.startswith(TOKENS)


def fill(client: httpx.Client, size: int, urls: int = URLS) -> None:
    """Ask for all URLs once."""
    for page in range(urls):
        client.get(f"/{size}/pages/{page}").raise_for_status()


def memory(redis: RedisServer, client: httpx.Client, name: str, size: int) -> None:
    """Print what the responses of one size take in Redis."""
    before, known = int(redis.info("memory")["used_memory"]), set(keys(redis))
    fill(client, size)
    wait_until(lambda: stored_by_now(redis) == URLS + 1, "all are stored")
    new = set(keys(redis)) - known
    tokens = list(filter(is_token, new))
    entries = new - set(tokens)
    whole = int(redis.info("memory")["used_memory"]) - before
    row(f"response of {name} in Redis", f"{used(redis, entries)} bytes")
    if size == SIZES["1 KB"]:
        row("token in Redis", f"{used(redis, tokens)} bytes")
        row("tokens for each URL", f"{len(tokens) / URLS:.2g}")
        client.put("/writes")
        row("registry of one writing process in Redis", f"{used(redis, [REGISTRY])} bytes")
    row(f"URL of {name} in Redis, all included", f"{whole // URLS} bytes")


def used(redis: RedisServer, keys: "set[bytes] | list[bytes]") -> int:
    """The mean of what Redis says that the keys take."""
    with redis.client() as client:
        return round(fmean(client.call("MEMORY", "USAGE", key) for key in keys))


def copies(worker: Worker, client: httpx.Client, size: int) -> str:
    """Return what the copies of one size take in the process.

    Other URLs come first, so that the process remembers as many as it does in any case.
    """
    for _ in range(2):
        fill(client, 1)
    before = resident(worker)
    for _ in range(3):
        fill(client, size, COPIES)
    return f"{(resident(worker) - before) // COPIES} bytes"


def resident(worker: Worker) -> int:
    """The bytes of memory that the process has (VmRSS)."""
    text = Path(f"/proc/{worker.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def clients(redis: RedisServer) -> int:
    """The connections to Redis without the one that asks."""
    return int(redis.info("clients")["connected_clients"]) - 1


if __name__ == "__main__":
    raise SystemExit(main())
