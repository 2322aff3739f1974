"""`maxage inspect`: what is stored for a URL."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated

import typer

from maxage.cli.output import AsJson, print_json, print_text, waiting
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.explain.stored import StoredEntry, shelf_of, stored_at
from maxage.insight.units import counted


def inspect(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="A path, for all hosts, or a whole URL. Without query: all queries."
        ),
    ],
    *,
    limit: Annotated[int, typer.Option(min=1, help="Most responses that are shown.")] = 20,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Show the responses that are stored for a URL: headers, tokens, variants, bytes.

    Exit code 1: nothing is stored.
    """
    settings = settings_for(redis_url, namespace, app)
    with waiting("Looking through the keys ..."):
        found = list(islice(stored_at(shelf_of(settings), settings, url), limit + 1))
    shown = found[:limit]
    if as_json:
        print_json([entry.as_dict() for entry in shown])
    else:
        print_text("\n".join(_lines(url, shown, more=len(found) > limit)))
    return int(not found)


def _lines(url: str, entries: Sequence[StoredEntry], *, more: bool) -> Iterator[str]:
    if not entries:
        yield f"Nothing is stored for {url}."
    for entry in entries:
        yield from _entry(entry)
        yield ""
    if entries:
        size = sum(entry.stored_bytes for entry in entries)
        count = f"{counted(len(entries), 'stored response')}, {counted(size, 'byte')}."
        yield count + (" There are more: raise --limit." if more else "")


def _entry(entry: StoredEntry) -> Iterator[str]:
    yield entry.url
    yield f"  key      {entry.key}"
    ends = "never" if entry.ends_in is None else f"in {entry.ends_in:.0f} s"
    yield f"  stored   {counted(entry.stored_bytes, 'byte')}, dropped {ends}"
    if not entry.readable:
        yield "  It cannot be read: it is damaged, or signed with another CACHE_SECRET."
        return
    left = entry.lifetime - entry.age
    fresh = f"fresh for {left:.0f} s" if left > 0 else f"stale for {-left:.0f} s"
    yield f"  age      {entry.age:.0f} s of {entry.lifetime:g} s, {fresh}"
    for name, value in entry.selected_by:
        yield f"  variant  {name}: {'(absent)' if value is None else value}"
    yield f"  status   {entry.status}, body of {counted(entry.body_bytes, 'byte')}"
    yield from (f"  header   {name}: {value}" for name, value in entry.headers)
    for state in entry.groups:
        said = "current" if state.fits else f"purged: now {state.current or 'none'}"
        yield f"  token    {state.group}  {state.stored}  {said}"
