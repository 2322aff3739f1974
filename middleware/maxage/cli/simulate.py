"""`maxage simulate`: what the cache would have answered of the requests in an access log."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maxage.cli.load import load
from maxage.cli.output import AsJson, complain, print_json, print_table, print_text
from maxage.cli.usage import UsageError
from maxage.insight.units import counted, duration, share
from maxage.insight.units import size as in_bytes
from maxage.simulate import LIFETIMES, SIZES, LogReader, Outcome, RouteOutcome, Simulation
from maxage.simulate.plot import plot

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|m|g)b?", re.IGNORECASE)
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SHOWN: Final = 20
"""Routes of a table, unless more are asked for."""
_FORMATS: Final = (
    "it takes the common or combined format (nginx, Apache, gunicorn), or JSON with time, method, "
    "uri, status, size and duration"
)
_NO_LOG: Final = (
    "no log is named. The figures that workers publish (CACHE_INSIGHT) hold counts and not the "
    "order of the requests, which a prediction needs: give an access log, of the proxy, of "
    "gunicorn (--access-logfile), or - for stdin"
)

Logs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LOG...", help="Access logs, the oldest first, also gzipped; - is stdin."
    ),
]
OwnApp = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="The application, for its routes and rules."),
]
Lifetimes = Annotated[
    list[float] | None,
    typer.Option("--ttl", metavar="SECONDS", min=1, help="A lifetime to try. Repeatable."),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="SIZE", help="A size of the store: 64MB. Repeatable."),
]
Plot = Annotated[
    str | None, typer.Option("--svg", metavar="FILE", help="Write a plot of the hit rates.")
]


def simulate(
    log: Logs = None,
    *,
    app: OwnApp = None,
    ttl: Lifetimes = None,
    size: Sizes = None,
    top: Annotated[int, typer.Option(min=1, help="Routes that are shown.")] = _SHOWN,
    svg: Plot = None,
    as_json: AsJson = False,
) -> int:
    """Say what the cache would have answered of the requests in an access log."""
    if not log:
        raise UsageError(f"{_NO_LOG}; maxage simulate --help shows what it takes.")
    simulation = Simulation(
        None if app is None else load(app),
        lifetimes=sorted(set(ttl or LIFETIMES)),
        sizes=sorted({_bytes(one) for one in size}) if size else SIZES,
    )
    reader = _read(log, simulation)
    outcome = simulation.outcome()
    if svg is not None:
        _write(svg, plot(outcome, top))
    if as_json:
        print_json(outcome.as_dict() | {"lines": reader.lines, "malformed": reader.malformed})
    else:
        _show(outcome, top)
    _complain_of(reader, outcome)
    return 0


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--size got {text!r}; it takes bytes, or a number with KB, MB or GB.")
    return int(float(found[1]) * _FACTORS[found[2].lower()])


def _read(names: Sequence[str], simulation: Simulation) -> LogReader:
    """Play the logs, with a bar on a terminal.

    Raises:
        UsageError: no line tells of a request.
    """
    console = Console(stderr=True)
    shown = (TextColumn("Reading"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(
        *shown, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        reader = LogReader(list(names), lambda done: bar.update(task, completed=done))
        task = bar.add_task("", total=reader.size)
        simulation.run(reader)
    if not simulation.played:
        lacks = next(iter(reader.malformed), "no lines")
        raise UsageError(f"{', '.join(names)}: no line tells of a request ({lacks}); {_FORMATS}.")
    return reader


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{name!r} cannot be written: {error.strerror}.") from None


def _show(outcome: Outcome, top: int) -> None:
    columns = ["route", "requests", "now", *map(duration, outcome.lifetimes), "bytes", "time"]
    shown = [outcome.total, *outcome.routes[:top]]
    title = f"Hit rate by lifetime, over {duration(outcome.seconds)}; bytes and time saved as now"
    print_table(columns, map(_row, shown), title=title, right=len(columns) - 1)
    if outcome.sizes and outcome.bytes_in_process > min(outcome.sizes):
        print_table(
            ["size", "now", *map(duration, outcome.lifetimes)],
            _size_rows(outcome),
            title="Hit rate of all routes by the size of the store",
            right=1 + len(outcome.lifetimes),
        )
    print_text("\n".join(_told(outcome, top)))


def _row(one: RouteOutcome) -> list[str]:
    rates = [share(cell.hit_rate, 1) for cell in (one.now, *one.lifetimes)]
    spared = one.now.saved_seconds
    saved = [in_bytes(one.now.saved_bytes), "?" if spared is None else duration(spared)]
    return [one.route, f"{one.requests:,}", *rates, *saved]


def _size_rows(outcome: Outcome) -> list[list[str]]:
    total = outcome.total
    rows = [
        [f"{in_bytes(size)} of {where}", *(share(rate, 1) for rate in rates)]
        for where, grid in (("Redis", total.in_redis), ("a process", total.in_process))
        for size, rates in zip(outcome.sizes, grid, strict=True)
    ]
    whole = (total.now, *total.lifetimes)
    return [*rows, ["no limit", *(share(cell.hit_rate, 1) for cell in whole)]]


def _told(outcome: Outcome, top: int) -> list[str]:
    """Return what to paste, and what a log does not tell."""
    lines: list[str] = []
    if len(outcome.routes) > top:
        lines.append(f"Not shown: {counted(len(outcome.routes) - top, 'route')}; see --top.\n")
    if outcome.proposals:
        lines += [
            "rules=[",
            *(f"    {one.rule},  # {one.reason}" for one in outcome.proposals),
            "]",
        ]
    lines += [*outcome.settings, ""]
    for one in outcome.routes[:top]:
        said = ", ".join(f"{word} {count:,}" for word, count in one.not_stored.items())
        lines += [f"Not stored on {one.route}: {said}."] if said else ()
        if one.at_most:
            lines.append(f"At most on {one.route}: vary_by= and declared headers are not in a log.")
    lines.append(
        "A log tells neither cookies nor what answers say themselves (Cache-Control, Vary, "
        "Set-Cookie): where they matter, fewer requests are hits."
    )
    if not outcome.has_routes:
        lines.append("Routes, rules and decorators are known with --app MODULE:APP.")
    return lines


def _complain_of(reader: LogReader, outcome: Outcome) -> None:
    for lack, count in reader.malformed.items():
        place = reader.examples[lack]
        complain(f"left out, {lack}: {counted(count, 'line')} of {reader.lines:,}, first {place}.")
    for name in reader.cut:
        complain(f"{name}: the end cannot be read; what comes before it counts.")
    if outcome.forgotten:
        complain(
            f"The log names more URLs than fit into memory ({outcome.forgotten:,} were forgotten): "
            "hit rates may be too low."
        )
