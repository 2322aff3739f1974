"""`maxage simulate`: what the cache would have answered of the requests of a log or of workers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maxage.cli.load import load
from maxage.cli.output import AsJson, complain, print_json, print_table, print_text
from maxage.cli.server import Namespace, RedisUrl, settings_for
from maxage.cli.stats import NO_WORKER
from maxage.cli.usage import UsageError
from maxage.insight.recent import read_requests
from maxage.insight.units import counted, duration, share
from maxage.insight.units import size as in_bytes
from maxage.settings import CacheSettings
from maxage.simulate.outcome import Outcome, RouteOutcome
from maxage.simulate.plot import plot
from maxage.simulate.reading import LogReader
from maxage.simulate.recorded import logged
from maxage.simulate.simulation import LIFETIMES, SIZES, Simulation

_SIZE: Final = TypeAdapter(ByteSize)
_SHOWN: Final = 20
"""Routes of a table, unless more are asked for."""
_FORMATS: Final = (
    "it takes the common or combined format (nginx, Apache, gunicorn), or JSON with time, method, "
    "uri, status, size and duration"
)
_NO_REQUESTS: Final = (
    "the workers have published no requests; they do so every 5 s, as far back as 1 MB for each "
    "worker goes."
)
_OF_A_LOG: Final = (
    "A log tells neither cookies nor what answers say themselves (Cache-Control, Vary, "
    "Set-Cookie): where they matter, fewer requests are hits."
)
_OF_WORKERS: Final = (
    "The first request for each URL counts as a miss, also where its response was stored before. "
    "Header fields of requests are not recorded: where answers vary by them, fewer are hits."
)

Logs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOG...]",
        help="Access logs, the oldest first, also gzipped; - is stdin. None: what the running "
        "workers have recorded (CACHE_INSIGHT).",
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


@dataclass(frozen=True, slots=True)
class _Played:
    """What was played, besides the outcome."""

    facts: Mapping[str, object]
    """For JSON."""
    told: str = ""
    limits: str = _OF_A_LOG
    complaints: Sequence[str] = ()


def simulate(
    log: Logs = None,
    *,
    app: OwnApp = None,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    ttl: Lifetimes = None,
    size: Sizes = None,
    top: Annotated[int, typer.Option(min=1, help="Routes that are shown.")] = _SHOWN,
    svg: Plot = None,
    as_json: AsJson = False,
) -> int:
    """Say what the cache would have answered of the requests in an access log, or of workers.

    Exit code 1: no log is named, and no worker has published its requests (CACHE_INSIGHT).
    """
    simulation = Simulation(
        None if app is None else load(app),
        lifetimes=sorted(set(ttl or LIFETIMES)),
        sizes=sorted({_bytes(one) for one in size}) if size else SIZES,
    )
    if log:
        played = _play_log(log, simulation)
    else:
        played = _play_workers(_server(redis_url, namespace, app), simulation)
    if not simulation.played:
        complain(played.told)
        return 1
    outcome = simulation.outcome()
    if svg is not None:
        _write(svg, plot(outcome, top))
    if as_json:
        print_json({**outcome.as_dict(), **played.facts})
    else:
        _show(outcome, top, played)
    for complaint in played.complaints:
        complain(complaint)
    if outcome.forgotten:
        complain(
            f"More URLs are named than fit into memory ({outcome.forgotten:,} were forgotten): "
            "hit rates may be too low."
        )
    return 0


def _bytes(text: str) -> int:
    try:
        return _SIZE.validate_python(text)
    except ValidationError:
        raise UsageError(
            f"--size got {text!r}; it takes bytes, or a number with KB, MB or GB."
        ) from None


def _server(redis_url: str | None, namespace: str | None, app: str | None) -> CacheSettings:
    try:
        return settings_for(redis_url, namespace, app)
    except UsageError as error:
        raise UsageError(
            f"{error} Or name an access log; maxage simulate --help shows what it takes."
        ) from None


def _play_workers(settings: CacheSettings, simulation: Simulation) -> _Played:
    """Play what the running workers have recorded."""
    recent = read_requests(settings)
    simulation.run(logged(recent.requests))
    if not recent.requests:
        return _Played({}, _NO_REQUESTS if recent.workers else NO_WORKER)
    return _Played(
        {"workers": recent.workers, "measured_hit_rate": recent.hit_rate},
        f"Recorded by {counted(recent.workers, 'worker')}; the cache answered "
        f"{share(recent.hit_rate, 1)} of the reads.",
        _OF_WORKERS,
    )


def _play_log(names: Sequence[str], simulation: Simulation) -> _Played:
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
    facts = {"lines": reader.lines, "malformed": reader.malformed}
    return _Played(facts, complaints=list(_complaints(reader)))


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{name!r} cannot be written: {error.strerror}.") from None


def _show(outcome: Outcome, top: int, played: _Played) -> None:
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
    print_text("\n".join(_told(outcome, top, played)))


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


def _told(outcome: Outcome, top: int, played: _Played) -> list[str]:
    """Return what was played, what to paste, and what is not known."""
    number = outcome.requests + outcome.writes + outcome.others
    first, last = _utc(outcome.begins), _utc(outcome.begins + outcome.seconds)
    lines = [f"{counted(number, 'request')} from {first} to {last} UTC.", played.told, ""]
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
    lines.append(played.limits)
    if not outcome.has_routes:
        lines.append("Routes, rules and decorators are known with --app MODULE:APP.")
    return lines


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _complaints(reader: LogReader) -> Iterator[str]:
    for lack, count in reader.malformed.items():
        place = reader.examples[lack]
        yield f"left out, {lack}: {counted(count, 'line')} of {reader.lines:,}, first {place}."
    for name in reader.cut:
        yield f"{name}: the end cannot be read; what comes before it counts."
