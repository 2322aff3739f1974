"""The results as a table, as budgets kept and not kept, and as a plot."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from tests.benchmarks.candidates import CANDIDATES, Kind, program
from tests.benchmarks.occasions import Line, called
from tests.benchmarks.rounds import Samples, ratio
from tests.benchmarks.workloads import BUDGETS, WORKLOADS, Workload
from tests.support.redis_server import find_server

BEGIN, END = "<!-- results: written by poe bench -->", "<!-- end of the results -->"
_COLOURS = {"floor": "#8a8f98", "ours": "#2f6fdb", "proxy": "#b58900", "peer": "#c4564a"}
_KINDS: Mapping[Kind, str] = {
    "ours": "maxage",
    "proxy": "proxies",
    "peer": "other Python caches",
    "floor": "floors to compare with",
}
_HEADING = "CPU time of the server per hit of 1 KB, in microseconds (shorter is better)"
_AGAINST_PEERS = (
    ("maxage-redis", 3.5),
    ("maxage-exact", 5.0),
    ("maxage-prompt", 5.0),
    ("maxage-fast", 5.0),
)
"""How many times the requests of the fastest peer on Redis ours are to answer."""
_ROW, _LEFT, _TOP, _WIDTH = 24, 330, 66, 860


def machine() -> str:
    """Return a sentence about what the figures were made on."""
    packages = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "redis", "hiredis")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    others = ", ".join(filter(None, map(_version, ("nginx", "varnish"))))
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, {find_server()}; {versions}"
        f"{'; ' + others if others else ''}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    path = program(name)
    if path is None:
        return None
    said = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).replace("/", " ").replace("-", " ").split()
    return f"{name} {next((word for word in words if word[:1].isdigit()), '')}"


def table(workload: Workload, samples: Samples) -> str:
    """Return one workload's table, cheapest first."""
    against = CANDIDATES[workload.baseline].title
    lines = [
        f"### {workload.title} (`{workload.name}`)",
        "",
        f"| candidate | CPU per request | against {against} | requests/s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in _sorted(samples):
        times = ratio(samples, name, workload.baseline)
        lines.append(
            f"| {CANDIDATES[name].title} | {found[0]:.1f} us"
            f" | {'' if times is None else f'{times:.2f}'} | {found[1]:,.0f} |"
        )
    return "\n".join(lines)


def _sorted(samples: Samples) -> list[tuple[str, tuple[float, float]]]:
    medians = {
        name: (
            statistics.median(sample.cpu_us for sample in found),
            statistics.median(sample.per_second for sample in found),
        )
        for name, found in samples.items()
    }
    return sorted(medians.items(), key=lambda one: one[1])


def budgets(results: Mapping[str, Samples], occasions: Sequence[Line] = ()) -> str:
    """Return which budgets of the design are kept."""
    lines = [
        "### Budgets",
        "",
        "Ratios of CPU time per request where nothing else is said, medians over the rounds.",
        "",
        "| workload | of | against | at most | found | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for budget in BUDGETS:
        found = ratio(results.get(budget.workload, {}), budget.candidate, budget.against)
        if found is not None:
            bound, against = f"{budget.at_most:.2f}", CANDIDATES[budget.against].title
            row = (budget.workload, budget.candidate, against, bound, f"{found:.2f}")
            lines.append(_budget(*row, kept=found <= budget.at_most))
    lines += [*_against_itself(results), *_against_peers(results), *_in_process(occasions)]
    return "\n".join(lines)


def _budget(
    workload: str, candidate: str, against: str, bound: str, found: str, *, kept: bool
) -> str:
    verdict = "kept" if kept else "**not kept**"
    title = CANDIDATES[candidate].title
    return f"| {workload} | {title} | {against} | {bound} | {found} | {verdict} |"


def _against_peers(results: Mapping[str, Samples]) -> Iterable[str]:
    """Return whether ours answer so many times the requests of every peer on Redis."""
    samples = results.get("hit-1k", {})
    hits = {name: found for name, (_, found) in _sorted(samples)}
    peers = [name for name in hits if CANDIDATES[name].kind == "peer" and CANDIDATES[name].on_redis]
    for ours, at_least in _AGAINST_PEERS:
        if peers and ours in hits:
            best = max(peers, key=hits.__getitem__)
            rounds = zip(samples[ours], samples[best], strict=True)
            found = statistics.median(one.per_second / other.per_second for one, other in rounds)
            yield _budget(
                "hit-1k, requests/s", ours, f"the fastest peer on Redis, {best}",
                f"at least {at_least:.1f}", f"{found:.2f}", kept=found >= at_least,
            )  # fmt: skip


def _against_itself(results: Mapping[str, Samples]) -> Iterable[str]:
    """Return whether many keys cost little more than one."""
    one, many = (dict(_sorted(results.get(name, {}))) for name in ("hit-1k", "zipf"))
    name = "maxage-prompt"
    if name in one and name in many:
        found = many[name][0] / one[name][0]
        yield _budget(
            "zipf", name, "the same with one key", "1.35", f"{found:.2f}", kept=found <= 1.35
        )


def _in_process(occasions: Sequence[Line]) -> Iterable[str]:
    """Return whether a near hit costs few microseconds more than the floor, called directly."""
    direct = {line.what: line.microseconds for line in occasions}
    for many in (1, 32):
        floor, ours = (direct.get(called(name, many)) for name in ("raw", "maxage-prompt"))
        if floor is not None and ours is not None:
            more = ours - floor
            yield _budget(
                f"called directly, {many} at a time", "maxage-prompt", CANDIDATES["raw"].title,
                "6 us more", f"{more:.1f} us more", kept=more <= 6,
            )  # fmt: skip


def markdown(
    results: Mapping[str, Samples], occasions: Sequence[Line], command: str, plot: str
) -> str:
    """Return all results as Markdown."""
    parts = [f"Made with `{command}` on: {machine()}"]
    if "hit-1k" in results:
        parts.append(f"![CPU time per hit of 1 KB, by candidate]({plot})")
    parts.append(budgets(results, occasions))
    parts += [table(WORKLOADS[name], samples) for name, samples in results.items()]
    if occasions:
        lines = ["### Occasions", "", "| what | found |", "| --- | --- |"]
        parts.append(
            "\n".join([*lines, *(f"| {line.what} | {line.found} |" for line in occasions)])
        )
    return "\n\n".join(parts)


def write(path: Path, text: str) -> None:
    """Put the results between the marks of a page, or write a page of them."""
    page = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def svg(samples: Samples) -> str:
    """Return a bar chart of the CPU time per request."""
    rows = _sorted(samples)
    scale = (_WIDTH - _LEFT - 90) / max(found[0] for _, found in rows)
    height = _TOP + 12 + _ROW * len(rows)
    bars = (_bar(number, name, found[0], scale) for number, (name, found) in enumerate(rows))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"
  font-family="system-ui, sans-serif" font-size="13">
<title>CPU time of the server per hit of 1 KB</title>
<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>
<text x="12" y="24" font-size="15" fill="#1c1e21">{_HEADING}</text>
{"".join(map(_explained, range(len(_KINDS)), _KINDS))}{"".join(bars)}</svg>
"""


def _explained(number: int, kind: Kind) -> str:
    left = 12 + number * 210
    return f"""\
<circle cx="{left + 6}" cy="46" r="6" fill="{_COLOURS[kind]}"/>
<text x="{left + 18}" y="50" fill="#4b4f56">{_KINDS[kind]}</text>
"""


def _bar(number: int, name: str, cpu_us: float, scale: float) -> str:
    top, width, candidate = _TOP + number * _ROW, max(1.0, cpu_us * scale), CANDIDATES[name]
    title, colour = escape(candidate.title.replace("`", "")), _COLOURS[candidate.kind]
    return f"""\
<text x="{_LEFT - 10}" y="{top + 15}" text-anchor="end" fill="#1c1e21">{title}</text>
<rect x="{_LEFT}" y="{top + 2}" width="{width:.1f}" height="{_ROW - 6}" rx="2" fill="{colour}"/>
<text x="{_LEFT + width + 6:.1f}" y="{top + 15}" fill="#4b4f56">{cpu_us:.0f}</text>
"""
