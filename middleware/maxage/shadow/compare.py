"""Compare: the differences between a stored response and the answer of the handler. Pure."""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from maxage.rfc9111.message import Headers

_Object = Mapping[str, Any]

_SHOWN: Final = 5
"""Paths in JSON that are named for one pair of bodies."""
_OF_ONE_ANSWER: Final = frozenset({
    b"age", b"cache-status", b"connection", b"content-length", b"date", b"etag", b"expires",
    b"keep-alive", b"server", b"transfer-encoding", b"via",
})  # fmt: skip
"""Headers that belong to one answer, or follow from its body and the time."""
_NAMES_AN_EXCHANGE: Final = re.compile(
    rb"(request|correlation|trace|span|transaction|invocation)-?id$"
    rb"|(^|-)(time|timing|duration|elapsed|latency|nonce|timestamp|ratelimit|rate-limit)(-|$)"
)
_NUMBER: Final = re.compile(r"[0-9]+|[0-9a-fA-F-]{32,36}")
"""Keys of a JSON object that are ids of something."""


def differences(
    stored: tuple[int, Headers, bytes],
    fresh: tuple[int, Headers, bytes | None],
    ignored: frozenset[bytes],
) -> tuple[str, ...]:
    """Return the differences: `status 200 -> 404`, `header NAME`, `body`, `body $.path`.

    Args:
        stored: status, headers and body of the stored response.
        fresh: those of the handler's answer; a body of None was too long to be kept.
        ignored: names of headers that belong to one exchange, lower case.
    """
    if stored[0] != fresh[0]:
        return (f"status {stored[0]} -> {fresh[0]}",)
    found = [f"header {name.decode('latin-1')}" for name in _headers(stored[1], fresh[1], ignored)]
    return (*found, *_bodies(stored, fresh))


def _headers(stored: Headers, fresh: Headers, ignored: frozenset[bytes]) -> list[bytes]:
    names = {name.lower() for name, _ in (*stored, *fresh)} - _OF_ONE_ANSWER - ignored
    return sorted(
        name
        for name in names
        if stored.get_all(name) != fresh.get_all(name) and not _NAMES_AN_EXCHANGE.search(name)
    )


def _bodies(
    stored: tuple[int, Headers, bytes], fresh: tuple[int, Headers, bytes | None]
) -> tuple[str, ...]:
    if stored[2] == fresh[2]:
        return ()
    before, after = _decoded(stored[1], stored[2]), _decoded(fresh[1], fresh[2])
    if before == after:
        return ()
    if before is None or after is None or b"json" not in (stored[1].first(b"content-type") or b""):
        return ("body",)
    try:
        values = msgspec.json.decode(before), msgspec.json.decode(after)
    except msgspec.MsgspecError:
        return ("body",)
    paths = dict.fromkeys(_paths(*values, "$"))
    return tuple(f"body {path}" for path in [*paths][:_SHOWN])


def _decoded(headers: Headers, body: bytes | None) -> bytes | None:
    """Return a body without gzip, whose header may hold the time."""
    if body is None or headers.first(b"content-encoding") != b"gzip":
        return body
    try:
        return zlib.decompress(body, wbits=31)
    except zlib.error:
        return body


def _paths(before: Any, after: Any, at: str) -> Iterator[str]:
    """Yield the paths at which two JSON values differ; items of a list share one path."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _in_objects(cast("_Object", before), cast("_Object", after), at)
    elif isinstance(before, list) and isinstance(after, list):
        mine, its = cast("Sequence[Any]", before), cast("Sequence[Any]", after)
        if len(mine) != len(its):
            yield f"{at}[*]"
            return
        for one, other in zip(mine, its, strict=True):
            yield from _paths(one, other, f"{at}[*]")
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield at


def _in_objects(before: _Object, after: _Object, at: str) -> Iterator[str]:
    for key in {**before, **after}:
        path = f"{at}.{'*' if _NUMBER.fullmatch(key) else key}"
        if key not in before or key not in after:
            yield path
        else:
            yield from _paths(before[key], after[key], path)
