"""Where the URLs to warm come from: a file, a sitemap, an OpenAPI document, the most asked ones."""

import gzip
import html
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from maxage.cli.usage import UsageError
from maxage.insight.overview import Overview

Fetch = Callable[[str], bytes]
"""Returns the body of a URL of the server that is warmed."""

_LOCATION: Final = re.compile(rb"<(?:\w+:)?loc>\s*(?:<!\[CDATA\[)?([^<\]]*)")
_INDEX: Final = re.compile(rb"<(?:\w+:)?sitemapindex[\s>]")
_MOST_SITEMAPS: Final = 1000
"""Sitemaps that an index may name."""


def from_file(name: str) -> list[str]:
    """Return the lines of a file, `-` for stdin, without blank ones and comments.

    Raises:
        UsageError: it cannot be read.
    """
    text = sys.stdin.read() if name == "-" else _read(name).decode("utf-8", "replace")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def from_sitemap(name: str, fetch: Fetch) -> list[str]:
    """Return the URLs of a sitemap, or of all sitemaps that an index names.

    Args:
        name: a URL, or a file.
        fetch: gets a URL.
    """
    found = _document(name, fetch)
    locations = _locations(found)
    if not _INDEX.search(found):
        return locations
    parts = (_document(one, fetch) for one in locations[:_MOST_SITEMAPS])
    return [url for part in parts for url in _locations(part)]


def from_openapi(name: str, fetch: Fetch) -> list[str]:
    """Return the paths of all GET operations that need neither parameters nor credentials.

    Args:
        name: a URL, a path of the server, or a file.
        fetch: gets a URL.

    Raises:
        UsageError: it is no OpenAPI document.
    """
    try:
        return _bare_gets(json.loads(_document(name, fetch)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{name!r} is no OpenAPI document in JSON.") from None


def _bare_gets(document: dict[str, Any]) -> list[str]:
    servers: list[dict[str, Any]] = document.get("servers") or [{}]
    prefix = urlsplit(str(servers[0].get("url", ""))).path.rstrip("/")
    everywhere = document.get("security")
    paths: dict[str, Any] = document["paths"]
    return [
        prefix + path
        for path, item in paths.items()
        if "{" not in path
        and "get" in item
        and not _needs_more(item["get"], item.get("parameters", ()), everywhere)
    ]


def from_top(told: Overview, count: int) -> list[str]:
    """Return the most asked URLs that are published whole.

    Raises:
        UsageError: none are published.
    """
    asked = (top.url.partition(" ") for top in told.asked)
    found = [
        target
        for method, _, target in asked
        if method == "GET" and "***" not in target and "..." not in target
    ]
    if not found:
        raise UsageError("no worker has published its most asked URLs; set CACHE_INSIGHT=true.")
    return found[:count]


def _needs_more(operation: dict[str, Any], shared: Iterable[Any], everywhere: Any) -> bool:
    parameters = [*shared, *operation.get("parameters", ())]
    required = any(one.get("required") for one in parameters)
    return required or bool(operation.get("security", everywhere))


def _document(name: str, fetch: Fetch) -> bytes:
    is_remote = name.startswith(("http://", "https://")) or (
        name.startswith("/") and not Path(name).is_file()
    )
    found = fetch(name) if is_remote else _read(name)
    return gzip.decompress(found) if found[:2] == b"\x1f\x8b" else found


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name!r} cannot be read: {error.strerror}.") from None


def _locations(document: bytes) -> list[str]:
    found = (html.unescape(one.decode("utf-8", "replace")) for one in _LOCATION.findall(document))
    return [one.strip() for one in found if one.strip()]
