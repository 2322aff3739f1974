"""The results as a table, as budgets kept and not kept, and as a plot."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from tests.benchmarks.candidates import CANDIDATES, program
from tests.benchmarks.occasions import Line
from tests.benchmarks.rounds import Samples, ratio
from tests.benchmarks.workloads import BUDGETS, WORKLOADS, Workload
from tests.support.redis_server import find_server

BEGIN, END = "<!-- results: written by poe bench -->", "<!-- end of the results -->"
_COLOURS = {"floor": "#8a8f98", "ours": "#2f6fdb", "proxy": "#b58900", "peer": "#c4564a"}
_HEADING = "CPU time of the server per hit of 1 KB, in microseconds (shorter is better)"
_ROW, _LEFT, _WIDTH = 24, 290, 820


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


def budgets(results: Mapping[str, Samples]) -> str:
    """Return which budgets of the design are kept."""
    lines = [
        "### Budgets",
        "",
        "Ratios of CPU time per request, medians over the rounds.",
        "",
        "| workload | of | against | at most | found | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for budget in BUDGETS:
        found = ratio(results.get(budget.workload, {}), budget.candidate, budget.against)
        if found is not None:
            kept = "kept" if found <= budget.at_most else "**not kept**"
            lines.append(
                f"| {budget.workload} | {CANDIDATES[budget.candidate].title}"
                f" | {CANDIDATES[budget.against].title} | {budget.at_most:.2f} | {found:.2f}"
                f" | {kept} |"
            )
    lines += _among_ours(results)
    return "\n".join(lines)


def _among_ours(results: Mapping[str, Samples]) -> Iterable[str]:
    """Return the budgets that are no ratio within one workload."""
    hits = {name: found for name, (_, found) in _sorted(results.get("hit-1k", {}))}
    peers = {name: found for name, found in hits.items() if CANDIDATES[name].kind == "peer"}
    for ours, at_least in (("maxage-redis", 3.5), ("maxage-exact", 5.0)):
        if peers and ours in hits:
            best = max(peers, key=lambda name: peers[name])
            found = hits[ours] / peers[best]
            kept = "kept" if found >= at_least else "**not kept**"
            yield (
                f"| hit-1k, requests/s | {CANDIDATES[ours].title} | the fastest peer, {best}"
                f" | at least {at_least:.1f} | {found:.1f} | {kept} |"
            )
    one, many = (dict(_sorted(results.get(name, {}))) for name in ("hit-1k", "zipf"))
    if "maxage-prompt" in one and "maxage-prompt" in many:
        found = many["maxage-prompt"][0] / one["maxage-prompt"][0]
        kept = "kept" if found <= 1.25 else "**not kept**"
        title = CANDIDATES["maxage-prompt"].title
        yield f"| zipf | {title} | the same with one key | 1.25 | {found:.2f} | {kept} |"


def markdown(
    results: Mapping[str, Samples], occasions: Sequence[Line], command: str, plot: str
) -> str:
    """Return all results as Markdown."""
    parts = [f"Made with `{command}` on: {machine()}"]
    if "hit-1k" in results:
        parts.append(f"![CPU time per hit of 1 KB, by candidate]({plot})")
    parts.append(budgets(results))
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
    height = 50 + _ROW * len(rows)
    bars = (_bar(number, name, found[0], scale) for number, (name, found) in enumerate(rows))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"
  font-family="system-ui, sans-serif" font-size="13">
<title>CPU time of the server per hit of 1 KB</title>
<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>
<text x="12" y="24" font-size="15" fill="#1c1e21">{_HEADING}</text>
{"".join(bars)}</svg>
"""


def _bar(number: int, name: str, cpu_us: float, scale: float) -> str:
    top, width, candidate = 38 + number * _ROW, max(1.0, cpu_us * scale), CANDIDATES[name]
    title, colour = escape(candidate.title.replace("`", "")), _COLOURS[candidate.kind]
    return f"""\
<text x="{_LEFT - 10}" y="{top + 15}" text-anchor="end" fill="#1c1e21">{title}</text>
<rect x="{_LEFT}" y="{top + 2}" width="{width:.1f}" height="{_ROW - 6}" rx="2" fill="{colour}"/>
<text x="{_LEFT + width + 6:.1f}" y="{top + 15}" fill="#4b4f56">{cpu_us:.0f}</text>
"""
