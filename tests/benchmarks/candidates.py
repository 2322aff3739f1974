"""What is compared: each candidate, and how its server is started. Imports nothing heavy."""

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers"
"""One virtual environment for each peer: their requirements contradict each other."""

Kind = Literal["floor", "ours", "proxy", "peer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to answer the same requests."""

    name: str
    kind: Kind
    title: str
    app: str
    """The factory in `apps` or `peers`; of a proxy, the application behind it."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    http: str = "httptools"
    """uvicorn's protocol."""
    packages: tuple[str, ...] = ()
    """What a peer needs from a package index."""
    on_redis: bool = True
    """Whether a peer keeps its responses there."""

    def missing(self) -> str | None:
        """Say in one sentence what it needs and does not find here; None: it can run."""
        if self.kind == "proxy" and program(self.name) is None:
            return f"{self.name} is not installed."
        if self.kind == "peer" and not self.python.exists():
            return f"{self.name} is not installed: poe bench --install-peers."
        if ":" in self.http and importlib.util.find_spec(self.http.partition(":")[0]) is None:
            return f"{self.http} does not exist in this version."
        return None

    @property
    def python(self) -> Path:
        """The interpreter of a peer."""
        return PEERS / self.name / "bin" / "python"


def program(name: str) -> str | None:
    """Return the path of a proxy's program."""
    name = {"varnish": "varnishd"}.get(name, name)
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _near(mode: str) -> dict[str, str]:
    return {"CACHE_NEAR_BYTES": str(64 * 1024 * 1024), "CACHE_NEAR": mode}


def _peer(name: str, *packages: str) -> Candidate:
    app = name.replace("-", "_")
    return Candidate(name=name, kind="peer", title=name, app=app, packages=packages or (name,))


CANDIDATES = {
    one.name: one
    for one in (
        Candidate(name="raw", kind="floor", title="raw ASGI, a constant", app="raw"),
        Candidate(
            name="raw-like-a-hit",
            kind="floor",
            title="raw ASGI, a constant with the headers of a hit",
            app="raw_like_a_hit",
        ),
        Candidate(
            name="raw-added",
            kind="floor",
            title="a constant, `add_middleware`",
            app="raw_added",
        ),
        Candidate(name="dict", kind="floor", title="raw ASGI, a dictionary", app="in_dictionary"),
        Candidate(
            name="redis-get",
            kind="floor",
            title="raw ASGI, one `await redis.get()`",
            app="redis_get",
        ),
        Candidate(name="fastapi", kind="floor", title="FastAPI, no cache", app="bare"),
        Candidate(
            name="fastapi-plain",
            kind="floor",
            title="FastAPI, no cache, no `response_model`",
            app="bare_plain",
        ),
        Candidate(
            name="fastapi-trees",
            kind="floor",
            title="FastAPI with 50 more resources, no cache",
            app="bare_trees",
        ),
        Candidate(
            name="maxage-trees",
            kind="ours",
            title="maxage on Redis, 50 more resources, `CACHE_PURGE=unproven`",
            app="wrapped_trees",
            env={"CACHE_PURGE": "unproven"},
        ),
        Candidate(name="maxage-redis", kind="ours", title="maxage on Redis", app="wrapped"),
        Candidate(
            name="maxage-compress",
            kind="ours",
            title="maxage on Redis, `CACHE_COMPRESS`",
            app="wrapped",
            env={"CACHE_COMPRESS": "true"},
        ),
        Candidate(
            name="maxage-added",
            kind="ours",
            title="maxage on Redis, `add_middleware`",
            app="added",
        ),
        Candidate(
            name="maxage-memory",
            kind="ours",
            title="maxage, embedded store",
            app="wrapped",
            env={"REDIS_URL": ""},
        ),
        Candidate(
            name="maxage-exact",
            kind="ours",
            title="maxage, near cache `exact`",
            app="wrapped",
            env=_near("exact"),
        ),
        Candidate(
            name="maxage-prompt",
            kind="ours",
            title="maxage, near cache `prompt`",
            app="wrapped",
            env=_near("prompt"),
        ),
        Candidate(
            name="maxage-prompt-added",
            kind="ours",
            title="maxage, near cache `prompt`, `add_middleware`",
            app="added",
            env=_near("prompt"),
        ),
        Candidate(
            name="maxage-fast",
            kind="ours",
            title="maxage, fast lane",
            app="wrapped",
            env=_near("prompt"),
            http="maxage.uvicorn:FastLaneProtocol",
        ),
        Candidate(
            name="maxage-off",
            kind="ours",
            title="maxage, switched off",
            app="wrapped",
            env={"USE_REDIS_CACHE": "false"},
        ),
        Candidate(name="nginx", kind="proxy", title="nginx `proxy_cache`", app="bare"),
        Candidate(name="varnish", kind="proxy", title="Varnish", app="bare"),
        _peer("starlette-caches", "starlette-caches[redis]"),
        _peer("fastapi-cache2", "fastapi-cache2[redis]", "jinja2"),
        _peer("cashews", "cashews[redis]"),
        _peer("aiocache", "aiocache[redis]"),
        Candidate(
            name="hishel",
            kind="peer",
            title="hishel, on SQLite",
            app="hishel",
            packages=("hishel[async]",),
            on_redis=False,
        ),
    )
}

# What the servers need besides the peer itself.
SERVER_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools")
