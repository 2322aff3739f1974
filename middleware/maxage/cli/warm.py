"""`maxage warm`: ask for URLs, so that their responses are stored."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maxage.asgi.cache_status import own_member
from maxage.cli.explain import HeaderLines
from maxage.cli.fetching import Fetched, Fetcher
from maxage.cli.output import AsJson, complain, print_json, print_table
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.cli.usage import UsageError
from maxage.cli.warm_sources import from_file, from_openapi, from_sitemap, from_top
from maxage.explain.request import header_lines
from maxage.insight.overview import read_overview
from maxage.insight.units import counted

_MOST_COMPLAINTS = 5

Base = Annotated[
    str,
    typer.Argument(
        metavar="BASE", help="The server as clients name it, such as https://shop.example."
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="Paths or URLs, one a line; - is stdin."),
]
Sitemaps = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="A sitemap, or an index of sitemaps.")
]
OpenApi = Annotated[
    str | None, typer.Option(metavar="PATH", help="The OpenAPI document, such as /openapi.json.")
]


def warm(
    base: Base,
    *,
    file: Files = None,
    sitemap: Sitemaps = None,
    openapi: OpenApi = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=0, help="The N most asked URLs (CACHE_INSIGHT).")
    ] = 0,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second at most.")] = 20.0,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 4,
    header: HeaderLines = None,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Ask for URLs, so that their responses are stored: of files, sitemaps, OpenAPI, or the top.

    Exit code 1: some were not answered, or with 5xx.
    """
    fetcher = Fetcher(base, header_lines(header or []), rate=rate)
    with closing(fetcher):
        named = [url for name in file or () for url in from_file(name)]
        named += [url for name in sitemap or () for url in from_sitemap(name, fetcher.document)]
        named += from_openapi(openapi, fetcher.document) if openapi else []
        if top:
            named += from_top(read_overview(settings_for(redis_url, namespace, app)), top)
        if not (file or sitemap or openapi or top):
            raise UsageError("no URLs are named; give --file, --sitemap, --openapi or --top.")
        if not named:
            raise UsageError("nothing to ask for: what is given names no URLs.")
        whole = [fetcher.absolute(url) for url in named]
        urls = list(dict.fromkeys(url for url in whole if url is not None))
        fetched = _fetch(fetcher, urls, concurrency)
        return _report(fetched, others=whole.count(None), as_json=as_json)


def _fetch(fetcher: Fetcher, urls: Sequence[str], concurrency: int) -> list[Fetched]:
    console = Console(stderr=True)
    shown = (TextColumn("Warming"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=console, disable=not console.is_terminal) as progress:
        return list(progress.track(fetcher.all(urls, concurrency), total=len(urls)))


def _report(fetched: Sequence[Fetched], *, others: int, as_json: bool) -> int:
    failed = [one for one in fetched if not one.status or one.status >= 500]
    counts = Counter(map(_result, fetched))
    if as_json:
        print_json(
            {
                "results": dict(counts),
                "other_servers": others,
                "failed": [{"url": o.url, "status": o.status, "said": o.said} for o in failed],
            }
        )
        return int(bool(failed))
    rows = ((result, str(count)) for result, count in counts.most_common())
    print_table(("result", "URLs"), rows, right=1)
    if others:
        complain(f"left out, of other servers: {counted(others, 'URL')}.")
    _complain_of(failed)
    return int(bool(failed))


def _complain_of(failed: Sequence[Fetched]) -> None:
    for one in failed[:_MOST_COMPLAINTS]:
        complain(f"{one.url}: {one.status or one.said}")
    if len(failed) > _MOST_COMPLAINTS:
        complain(f"... and {len(failed) - _MOST_COMPLAINTS} more failed.")


def _result(one: Fetched) -> str:
    """Return what became of a URL, by the last cache's member of Cache-Status."""
    if not one.status:
        return "not answered"
    if one.status >= 400:
        return f"answered {one.status}"
    words = own_member(one.said)[1:]
    if "hit" in words or "collapsed" in words:
        return "stored already"
    if "stored" in words:
        return "stored now"
    details = [word.removeprefix("detail=") for word in words if word.startswith("detail=")]
    if not words:
        return "no cache answered"
    return f"not stored: {details[0]}" if details else "not stored"
