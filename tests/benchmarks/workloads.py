"""What is asked of the candidates, and the budgets of the design."""

import bisect
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.benchmarks.content import ITEMS_BODY, LARGE

OURS = ("maxage-fast", "maxage-prompt", "maxage-prompt-added", "maxage-exact", "maxage-memory",
        "maxage-redis", "maxage-added")  # fmt: skip
PEERS = ("starlette-caches", "fastapi-cache2", "cashews", "aiocache", "hishel")
ZIPF_KEYS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of request, and who takes part."""

    name: str
    title: str
    candidates: tuple[str, ...]
    baseline: str
    """Whose CPU time is 1."""
    paths: Callable[[], Iterable[str]]
    """The paths that are asked for, again and again in this order."""
    connections: int = 32
    method: str = "GET"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    status: int = 200
    size: int | None = None
    """Bytes of each answer's body, where every candidate sends the same."""
    hit: bool = False
    """Whether ours must answer from the store."""
    fill: bool = False
    """Whether each path is asked for once before anything is measured."""


def _always(path: str) -> Callable[[], Iterable[str]]:
    return lambda: [path]


def _unseen() -> Iterable[str]:
    """Return paths that were not requested before."""
    start = next(_runs) * 1_000_000
    return (f"/items/{start + n}" for n in range(100_000))


_runs = itertools.count(1)


def zipf(keys: int = ZIPF_KEYS, draws: int = 200_000, seed: int = 6) -> list[str]:
    """Return paths drawn with a frequency that falls as 1/rank."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    chance = random.Random(seed)
    return [
        f"/items/{bisect.bisect_left(weights, chance.random() * weights[-1])}" for _ in range(draws)
    ]


_NEW_ITEM = (
    b'{"id":1,"name":"Item 1","description":"A thing that is kept in a database.","price":1.5}'
)

WORKLOADS = {
    one.name: one
    for one in (
        Workload(
            name="hit-1k",
            title="Hits of 1 KB, 32 connections",
            candidates=(
                "raw",
                "raw-like-a-hit",
                "raw-added",
                "dict",
                "redis-get",
                "fastapi",
                "fastapi-plain",
                *OURS,
                "nginx",
                "varnish",
                *PEERS,
            ),
            baseline="raw",
            paths=_always("/items"),
            size=len(ITEMS_BODY),
            hit=True,
        ),
        Workload(
            name="hit-1k-1",
            title="Hits of 1 KB, one connection",
            candidates=("redis-get", "raw", "maxage-redis", "maxage-exact", "maxage-prompt"),
            baseline="redis-get",
            paths=_always("/items"),
            connections=1,
            size=len(ITEMS_BODY),
            hit=True,
        ),
        Workload(
            name="hit-32k",
            title="Hits of 32 KB, 32 connections",
            candidates=("redis-get", "raw", "dict", *OURS, "nginx", "varnish"),
            baseline="redis-get",
            paths=_always("/body/32k"),
            size=len(LARGE["/body/32k"]),
            hit=True,
        ),
        Workload(
            name="hit-1m",
            title="Hits of 1 MB, 8 connections",
            candidates=("redis-get", "raw", *OURS, "nginx", "varnish"),
            baseline="redis-get",
            paths=_always("/body/1m"),
            connections=8,
            size=len(LARGE["/body/1m"]),
            hit=True,
        ),
        Workload(
            name="zipf",
            title="Hits of 1 KB, 100,000 keys (Zipf), 32 connections",
            candidates=("raw", "maxage-fast", "maxage-prompt", "maxage-redis"),
            baseline="raw",
            paths=zipf,
            # One name for all servers, which share what lies in Redis.
            headers={"Host": "bench"},
            hit=True,
            fill=True,
        ),
        *(
            Workload(
                name=f"page-{coding}",
                title=f"Hits of a JSON page of 32 KB, `Accept-Encoding: {coding}`, 32 connections",
                candidates=("maxage-redis", "maxage-compress"),
                baseline="maxage-redis",
                paths=_always("/page/1"),
                headers={"accept-encoding": coding},
                hit=True,
            )
            for coding in ("zstd", "gzip")
        ),
        Workload(
            name="304",
            title="Answers 304 to If-None-Match, 32 connections",
            candidates=("raw", *OURS),
            baseline="raw",
            paths=_always("/items"),
            headers={"if-none-match": "*"},
            status=304,
            hit=True,
        ),
        Workload(
            name="miss",
            title="Misses, each of another URL, 32 connections",
            candidates=(
                "fastapi",
                "fastapi-plain",
                "maxage-redis",
                "maxage-memory",
                "maxage-exact",
                "maxage-off",
            ),
            baseline="fastapi",
            paths=_unseen,
        ),
        Workload(
            name="no-store",
            title="A route that says no-store, 32 connections",
            candidates=("fastapi", "maxage-redis", "maxage-memory", "maxage-off"),
            baseline="fastapi",
            paths=_always("/no-store"),
        ),
        Workload(
            name="post",
            title="POST with its purges, 32 connections",
            candidates=("fastapi", "maxage-redis", "maxage-memory", "maxage-off"),
            baseline="fastapi",
            paths=_always("/items"),
            method="POST",
            body=_NEW_ITEM,
            headers={"content-type": "application/json"},
        ),
        Workload(
            name="post-trees",
            title="POST with its purges, 50 more resources, 32 connections",
            candidates=("fastapi-trees", "maxage-trees"),
            baseline="fastapi-trees",
            paths=_always("/items"),
            method="POST",
            body=_NEW_ITEM,
            headers={"content-type": "application/json"},
        ),
        Workload(
            name="options",
            title="OPTIONS, which purges nothing, 32 connections",
            candidates=("fastapi", "maxage-redis", "maxage-off"),
            baseline="fastapi",
            paths=_always("/items"),
            method="OPTIONS",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget of the design: the CPU time per request of one candidate against another's."""

    workload: str
    candidate: str
    against: str
    at_most: float


BUDGETS = (
    Budget(workload="hit-1k", candidate="maxage-fast", against="raw", at_most=0.50),
    Budget(workload="hit-1k", candidate="maxage-fast", against="nginx", at_most=0.90),
    Budget(workload="hit-1k", candidate="maxage-prompt", against="raw-like-a-hit", at_most=1.08),
    Budget(workload="hit-1k", candidate="maxage-prompt-added", against="raw", at_most=1.45),
    Budget(workload="hit-1k", candidate="maxage-exact", against="raw-like-a-hit", at_most=1.25),
    Budget(workload="hit-1k", candidate="maxage-redis", against="redis-get", at_most=0.55),
    Budget(workload="hit-1k-1", candidate="maxage-redis", against="redis-get", at_most=1.15),
    Budget(workload="page-zstd", candidate="maxage-compress", against="maxage-redis", at_most=1.00),
    Budget(workload="hit-1m", candidate="maxage-redis", against="redis-get", at_most=1.10),
    Budget(workload="options", candidate="maxage-redis", against="fastapi", at_most=1.03),
    Budget(workload="post", candidate="maxage-redis", against="fastapi", at_most=1.30),
    Budget(workload="post-trees", candidate="maxage-trees", against="fastapi-trees", at_most=1.35),
    Budget(workload="no-store", candidate="maxage-redis", against="fastapi", at_most=1.08),
    Budget(workload="miss", candidate="maxage-redis", against="fastapi", at_most=1.40),
    Budget(workload="miss", candidate="maxage-off", against="fastapi", at_most=1.01),
)
