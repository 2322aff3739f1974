"""Requests as people write them: `GET /items?limit=5`, a path alone, or a whole URL."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from maxage.errors import SettingsError
from maxage.rfc9111.message import HeaderList

DEFAULT_HOST: Final = "localhost"
"""The host of a request that names none."""
_TAKES: Final = "it takes a form such as 'GET /items?limit=5' or 'https://example.org/items'"
_KEPT: Final = "/!$&'()*+,;=:@~%"
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_FIELD: Final = frozenset("!#$%&'*+-.^_`|~")

HeaderInput = Mapping[str, str] | Sequence[tuple[str, str]]


def scope_of_request(request: str, headers: HeaderInput = (), **entries: Any) -> dict[str, Any]:
    """Return the scope that a server would make of a request.

    Args:
        request: method and path or URL; a path alone is a GET.
        headers: names and values; several lines may have one name.
        entries: other entries of the scope.

    Raises:
        SettingsError: it is no request.
    """
    method, _, target = request.strip().rpartition(" ")
    method, parts = method.strip() or "GET", _split(target)
    if not method.isalpha() or parts is None:
        raise SettingsError(f"explain got {request!r}; {_TAKES}.")
    scheme, host, path, query = parts
    raw_path = _quoted(path, _KEPT)
    lines = _lines(headers)
    if not any(name == b"host" for name, _ in lines):
        lines = ((b"host", (host or DEFAULT_HOST).encode("latin-1", "replace")), *lines)
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": method.upper(), "scheme": scheme or "http", "root_path": "",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"), "raw_path": raw_path,
        "query_string": _quoted(query, _KEPT + "?"), "headers": list(lines),
        "client": None, "server": None, "extensions": {}, **entries,
    }  # fmt: skip


def sent_as(target: str) -> bytes:
    """Return path and query as clients send them: all but visible ASCII is percent-encoded."""
    return _quoted(target, _VISIBLE)


def _quoted(text: str, kept: str) -> bytes:
    # Bytes that are no UTF-8 come from the command line as surrogates.
    return quote(text, safe=kept, errors="surrogateescape").encode()


def _split(target: str) -> tuple[str, str, str, str] | None:
    """Return scheme, host, path and query; None: it is neither a path nor a URL."""
    if target.startswith("/"):
        path, _, query = target.partition("#")[0].partition("?")
        return "", "", path, query
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    return parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query


def _lines(headers: HeaderInput) -> HeaderList:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    lines = tuple((name.strip().lower(), value.strip()) for name, value in pairs)
    for name, value in lines:
        if not name or not all(c.isalnum() or c in _FIELD for c in name) or not name.isascii():
            raise SettingsError(f"explain got the header name {name!r}; it takes a token.")
        if "\n" in value or "\r" in value:
            raise SettingsError(f"explain got a line break in the header {name}; it takes none.")
    return tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in lines)


def header_lines(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return names and values of header lines.

    Raises:
        SettingsError: a line has no colon.
    """
    pairs: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise SettingsError(f"the header {line!r} has no colon; it takes 'Name: value'.")
        pairs.append((name, value))
    return pairs
