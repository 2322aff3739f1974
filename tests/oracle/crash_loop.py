"""What workers that crash again and again cost the others: `poe crash-loop`.

One worker serves 100 pages, each asked for once a second, while others die without signing off:
none, one every ten seconds that is known to have ended (it ran on the same machine), and one every
ten seconds of which only the lease tells (another machine, another container).
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from maxage.redis_store.leases.lease import leased
from maxage.redis_store.leases.process_identity import process_identity
from maxage.redis_store.leases.registry import registry_key
from tests.support.raw_http import RawConnection
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker

SECONDS = float(os.environ.get("ORACLE_SECONDS", "60"))
EVERY = 10.0
"""Seconds between two crashes."""
PAGES = 100
RATE = 100
"""Requests in a second."""
APP = """
from fastapi import FastAPI
from maxage import CacheMiddleware

app = FastAPI()
app.add_middleware(CacheMiddleware)

@app.get("/pages/{page}")
async def read(page: int) -> int:
    return page
"""


def ended_here() -> str:
    """Return the name of a process of this machine that has ended."""
    show = (
        "from maxage.redis_store.leases import process_identity as p; print(p.process_identity())"
    )
    root = Path(__file__).parents[2] / "middleware"
    env = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, env=env, check=True)
    return run.stdout.decode().strip()


def ended_elsewhere() -> str:
    """Return the name of a process of another machine."""
    return f"{secrets.token_hex(6)}.{process_identity().partition('.')[2]}"


def hit_rate(server: RedisServer, worker: Worker, victim: Callable[[], str] | None) -> float:
    """Return the share of hits while victims take a lease and are never heard of again."""
    began = time.monotonic()
    crash, hits, asked = began, 0, 0
    with RawConnection(worker.port) as connection:
        while (now := time.monotonic()) - began < SECONDS:
            if victim is not None and now >= crash:
                crash += EVERY
                name = victim()
                server_now = int(server.call("TIME")[0]) * 1000
                server.call("HSET", registry_key("maxage"), name, leased(server_now).encode())
            answer = connection.get(f"/pages/{asked % PAGES}")
            hits += b"hit" in (answer.header("cache-status") or b"")
            asked += 1
            time.sleep(max(0.0, began + asked / RATE - time.monotonic()))
    if asked < SECONDS * RATE * 0.95:
        print(f"The machine is too busy: {asked / SECONDS:.0f} requests a second.", flush=True)
    return hits / asked


def main() -> None:
    """Print the share of hits in each case."""
    cases = {
        "no crash": None,
        "one every 10 s, same machine": ended_here,
        "one every 10 s, another machine": ended_elsewhere,
    }
    with tempfile.TemporaryDirectory() as folder, RedisServer.start() as server:
        for name, victim in cases.items():
            server.flush()
            env = {"REDIS_URL": server.url}
            with Worker.start(APP, tmp_path=Path(folder), env=env) as worker:
                print(f"{name}: {hit_rate(server, worker, victim):.1%} hits", flush=True)


if __name__ == "__main__":
    main()
