"""An explanation as text for people."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from maxage.explain.explanation import Explanation, GroupState, StoredShown

_WIDTH: Final = 100


def text_of(known: Explanation) -> str:
    """Return the explanation in lines of about 100 characters."""
    return "\n".join(_lines(known))


def _lines(known: Explanation) -> Iterator[str]:
    yield known.request
    word = known.outcome.upper() + (f" ({known.reason})" if known.outcome == "miss" else "")
    yield textwrap.fill(f"{word}: {known.because}", _WIDTH)
    yield ""
    yield from _columns(_facts(known))
    if known.groups and known.outcome != "bypass":
        yield from ("", "Groups, with the token that is stored and the current one")
        yield from _columns(map(_group, known.groups))
    if known.stored is not None:
        yield from ("", "Stored response")
        yield from _columns(_stored(known.stored))
    if known.prospects:
        yield from ("", "If the application answered now with")
        yield from _columns(
            (one.response, f"stored, fresh for {one.stored_for:g} s" if one.stored_for is not None
             else f"not stored: {one.reason}") for one in known.prospects
        )  # fmt: skip
    if known.outcome == "write":
        yield from ("", "Purged groups")
        yield from _columns((p.name, p.value, p.source) for p in known.purges)
        yield from ("", "Purged reads: " + (", ".join(known.purged_reads) or "none known"))
    if known.changes:
        yield from ("", "To know" if known.outcome in {"hit", "write"} else "To make it a hit")
        for change in known.changes:
            yield textwrap.fill(change, _WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _facts(known: Explanation) -> Iterator[Sequence[str]]:
    route = known.route
    if route is None:
        yield "route", "none is known for this path"
    else:
        methods = ", ".join(route.methods) or "any method"
        place = f"{route.endpoint} ({route.source})" if route.source else route.endpoint
        yield "route", f"{methods} {route.template}", place
    yield from ((part.name, part.value, part.source) for part in known.policy)
    if known.key:
        yield "key", known.key
    yield from ((f"key: {part.name}", part.value, part.source) for part in known.key_parts)
    if known.credentials:
        yield "credentials", known.credentials


def _group(state: GroupState) -> Sequence[str]:
    said = "" if state.stored is None else "current" if state.fits else "purged since"
    return state.group, state.stored or "-", state.current or "none yet", said


def _stored(stored: StoredShown) -> Iterator[Sequence[str]]:
    yield "status", str(stored.status)
    left = f"{stored.ttl:.0f} s left" if stored.ttl > 0 else f"stale for {-stored.ttl:.0f} s"
    lifetime = f"lifetime {stored.lifetime:g} s by the {stored.lifetime_from}"
    yield "age", f"{stored.age:.0f} s, {lifetime}, {left}"
    yield "bytes", str(stored.body_bytes)
    if stored.vary:
        yield "vary", f"{', '.join(stored.vary)} ({stored.variants or 1} variants)"
    yield from ((f"{name}:", value) for name, value in stored.headers)


def _columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    table = [tuple(row) for row in rows]
    widths = [
        max((len(row[n]) for row in table if len(row) > n + 1 or n < 1), default=0)
        for n in range(4)
    ]
    for row in table:
        padded = (cell.ljust(widths[n]) for n, cell in enumerate(row))
        yield ("  " + "  ".join(padded)).rstrip()
