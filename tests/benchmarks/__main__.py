"""`poe bench`: measure, compare with the budgets of the design, and write it down.

Every candidate is a real server process (uvicorn, uvloop, httptools, one worker) driven by wrk.
What counts is the CPU time of the server per request, as the operating system accounts for it,
since requests per second also measure whatever else the machine does. Rounds are interleaved, and
ratios are taken within a round.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import occasions, report
from tests.benchmarks.candidates import CANDIDATES, PEERS, ROOT, SERVER_PACKAGES
from tests.benchmarks.load import Driver, find_driver
from tests.benchmarks.rounds import Samples, measure
from tests.benchmarks.workloads import WORKLOADS
from tests.support.redis_server import RedisServer

OCCASIONS = ("stampede", "purge", "calls")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    asked = _parser().parse_args(arguments)
    if asked.install_peers:
        return _install_peers()
    driver = find_driver(asked.driver)
    if isinstance(driver, str):
        sys.stderr.write(driver + "\n")
        return 2
    with RedisServer.start() as redis:
        results = _measured(asked, driver, redis)
        lines = _occasions(asked, redis)
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["poe", "bench", *given])
    if "hit-1k" in results and asked.plot is not None:
        asked.plot.write_text(report.svg(results["hit-1k"]))
    plot = asked.plot.name if asked.plot is not None else "benchmarks.svg"
    text = report.markdown(results, lines, command, plot)
    if asked.output is not None:
        report.write(asked.output, text)
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    docs = ROOT / "docs"
    parser = argparse.ArgumentParser(prog="poe bench", description=__doc__)
    choose = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--candidates", choices=CANDIDATES, help="default: all", **choose)
    parser.add_argument(
        "--workloads",
        choices=[*WORKLOADS, *OCCASIONS],
        default=[*WORKLOADS, *OCCASIONS],
        help="default: all",
        **choose,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each candidate and round")
    parser.add_argument("--keys", type=int, default=1_000_000, help="in Redis during the purge")
    parser.add_argument("--driver", choices=["wrk", "python"], default="wrk")
    parser.add_argument("--output", type=Path, help="a page to put the results into")
    parser.add_argument("--plot", type=Path, help="an SVG file for the plot")
    parser.add_argument(
        "--write-docs",
        action="store_const",
        dest="output",
        const=docs / "benchmarks.md",
        help="the same as --output docs/benchmarks.md",
    )
    parser.add_argument(
        "--install-peers", action="store_true", help=f"into {PEERS.name}, and nothing else"
    )
    return parser


def _measured(asked: argparse.Namespace, driver: Driver, redis: RedisServer) -> dict[str, Samples]:
    results: dict[str, Samples] = {}
    told: set[str] = set()
    for workload in (WORKLOADS[name] for name in asked.workloads if name in WORKLOADS):
        names: list[str] = []
        for name in workload.candidates:
            missing = CANDIDATES[name].missing()
            if asked.candidates and name not in asked.candidates:
                continue
            if missing is None:
                names.append(name)
            elif missing not in told:
                told.add(missing)
                sys.stderr.write(f"Left out: {missing}\n")
        if names:
            redis.flush()
            results[workload.name] = measure(
                workload, names, redis.url, driver, rounds=asked.rounds, seconds=asked.seconds
            )
    return results


def _occasions(asked: argparse.Namespace, redis: RedisServer) -> list[occasions.Line]:
    redis.flush()
    lines: list[occasions.Line] = []
    if "stampede" in asked.workloads:
        lines += [occasions.stampede(redis.url, workers) for workers in (1, 2)]
    if "purge" in asked.workloads:
        lines.append(occasions.purge(redis.url, asked.keys))
        redis.flush()
    if "calls" in asked.workloads:
        for name in ("raw", "redis-get", "maxage-prompt", "maxage-exact", "maxage-redis"):
            if not asked.candidates or name in asked.candidates:
                lines += [occasions.calls(redis.url, name, many) for many in (1, 32)]
    return lines


def _install_peers() -> int:
    """Put each peer into a virtual environment of its own."""
    for candidate in CANDIDATES.values():
        if candidate.packages:
            venv.create(PEERS / candidate.name, with_pip=True)
            command = [candidate.python, "-m", "pip", "install", "--quiet", *SERVER_PACKAGES]
            done = subprocess.run([*command, *candidate.packages], check=False)
            said = "installed" if done.returncode == 0 else "could not be installed"
            print(f"{candidate.name}: {said}")
    return 0


if __name__ == "__main__":
    # So that no server outlives a benchmark that is ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
