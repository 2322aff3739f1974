"""Interleaved rounds of one workload: every candidate in turn, several times."""

import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.candidates import CANDIDATES
from tests.benchmarks.load import Driver, ask_each, with_python
from tests.benchmarks.servers import Server
from tests.benchmarks.workloads import Workload

_WARM_UP_SECONDS = 0.3
"""For so long each server is asked before it is measured."""
_LONG_WARM_UP_SECONDS = 10.0
"""The same where there are more keys than room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One candidate in one round."""

    cpu_us: float
    """CPU time of the server per request, in microseconds."""
    per_second: float


Samples = Mapping[str, Sequence[Sample]]
"""By candidate, one for each round."""


def measure(
    workload: Workload,
    names: Sequence[str],
    redis_url: str,
    driver: Driver,
    *,
    rounds: int,
    seconds: float,
) -> Samples:
    """Measure the candidates against each other.

    Each round asks every candidate in turn, in an order of its own, so that whatever else the
    machine does meets all of them; ratios are taken within a round.
    """
    servers: dict[str, Server] = {}
    samples: dict[str, list[Sample]] = {}
    try:
        for name in names:
            try:
                first = all(CANDIDATES[other].kind == "floor" for other in servers)
                servers[name] = _ready(workload, name, redis_url, driver, fills=first)
            except RuntimeError as error:
                if CANDIDATES[name].kind != "peer":
                    raise
                # Not every peer runs on what its requirements allow.
                sys.stderr.write(f"Left out: {str(error).strip().splitlines()[-1]}\n")
        for number in range(rounds):
            for name in random.Random(number).sample(list(servers), len(servers)):
                samples.setdefault(name, []).append(
                    _sample(servers[name], workload, driver, seconds)
                )
    finally:
        for server in servers.values():
            server.close()
    return samples


def _ready(workload: Workload, name: str, redis_url: str, driver: Driver, *, fills: bool) -> Server:
    """Start a server, and let it fill what it will answer from.

    What takes long to fill is filled by one server, and found in Redis by the others.
    """
    namespace = workload.name if workload.fill else None
    server = Server(CANDIDATES[name], redis_url, namespace=namespace)
    paths = list(workload.paths())
    if workload.fill and server.candidate.kind != "floor":
        if fills:
            ask_each(server.port, workload, sorted(set(paths)))
        # Where there is not room for all keys, it takes a while until those are kept that are worth
        # it.
        driver(server.port, workload, paths, _LONG_WARM_UP_SECONDS)
    # Stored responses are written in the background, and caches have counters to warm up.
    with_python(server.port, workload, paths, _WARM_UP_SECONDS)
    return server


def _sample(server: Server, workload: Workload, driver: Driver, seconds: float) -> Sample:
    paths = list(workload.paths())
    server.check(workload, paths[0])
    before = server.cpu_seconds()
    load = driver(server.port, workload, paths, seconds)
    used = server.cpu_seconds() - before
    server.check(workload, paths[0])
    cpu_us = used / load.requests * 1e6
    sys.stderr.write(
        f"  {workload.name:9} {server.candidate.name:20} {cpu_us:8.1f} us"
        f" {load.requests / load.seconds:8.0f}/s\n"
    )
    return Sample(cpu_us=cpu_us, per_second=load.requests / load.seconds)


def ratio(samples: Samples, name: str, against: str) -> float | None:
    """Return the median of the rounds' ratios of CPU time per request; None where one is absent."""
    one, other = samples.get(name), samples.get(against)
    if not one or not other:
        return None
    return statistics.median(a.cpu_us / b.cpu_us for a, b in zip(one, other, strict=True))
