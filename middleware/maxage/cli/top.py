"""`maxage top`: the most asked URLs, and those whose application calls take the most time."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from maxage.cli.output import AsJson, complain, print_json, print_table
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.cli.stats import NO_WORKER
from maxage.insight.overview import read_overview
from maxage.insight.record import TopUrl
from maxage.insight.units import duration, share


def top(
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="URLs of each kind.")] = 20,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Show the most asked URLs, and the most expensive ones, of all workers since they began.

    Exit code 1: no worker publishes its figures (CACHE_INSIGHT).
    """
    told = read_overview(settings_for(redis_url, namespace, app))
    asked, costly = told.asked[:count], told.costly[:count]
    if as_json:
        print_json({"asked": msgspec.to_builtins(asked), "costly": msgspec.to_builtins(costly)})
    elif told.workers:
        print_table(
            ("most asked", "requests", "hits", "calls", "per call"),
            ((*_asked(one), *_calls(one)) for one in asked),
            right=4,
        )
        print_table(
            ("most expensive", "seconds", "calls", "per call"),
            ((one.url, _about(one, f"{one.weight:.3g}"), *_calls(one)) for one in costly),
            right=3,
        )
    else:
        complain(NO_WORKER)
    return int(not told.workers)


def _asked(one: TopUrl) -> Iterable[str]:
    return one.url, _about(one, f"{one.weight:.0f}"), share(one.hits, one.hits + one.calls)


def _calls(one: TopUrl) -> Iterable[str]:
    return str(one.calls), duration(one.seconds / one.calls) if one.calls else "-"


def _about(one: TopUrl, weight: str) -> str:
    """Return a weight; where its error counts, it is an upper bound."""
    return f"<= {weight}" if one.error > one.weight / 100 else weight
