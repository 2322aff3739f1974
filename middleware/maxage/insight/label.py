"""Labels of URLs, for people: without secrets, and bounded in length."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from maxage.routing.default_lifetime import carries_secret

LONGEST_VALUE: Final = 40
"""Bytes of a query's value that are shown."""
LONGEST_LABEL: Final = 200
"""Characters of a label."""
_HIDDEN: Final = b"***"
_CUT: Final = b"..."
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]+")


def label_of(scope: Mapping[str, Any], secret_names: Collection[bytes] = ()) -> str:
    """Return method, path and query of a request.

    Args:
        scope: of the request. HEAD counts as GET.
        secret_names: parameters whose values are hidden too, besides those that every cache takes
            for secrets; lower case, with hyphens.
    """
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    query = scope.get("query_string", b"")
    if query:
        path += b"?" + _shown(query, secret_names)
    shown = _UNSAFE.sub("_", path.decode("latin-1"))
    if len(shown) > LONGEST_LABEL:
        shown = shown[:LONGEST_LABEL] + _CUT.decode()
    return f"{method} {shown}"


def _shown(query: bytes, secret_names: Collection[bytes]) -> bytes:
    pieces = re.split(rb"([&;])", query)
    hides_code = carries_secret(query)
    return b"".join(
        piece if piece in (b"&", b";") else _parameter(piece, secret_names, hides_code)
        for piece in pieces
    )


def _parameter(piece: bytes, secret_names: Collection[bytes], hides_code: bool) -> bytes:
    name, equals, value = piece.partition(b"=")
    plain = unquote_to_bytes(name).lower().replace(b"_", b"-")
    if not equals:
        return name[:LONGEST_VALUE] + (_CUT if len(name) > LONGEST_VALUE else b"")
    if plain in secret_names or carries_secret(piece) or (hides_code and plain == b"code"):
        return name + equals + _HIDDEN
    cut = _CUT if len(value) > LONGEST_VALUE else b""
    return name + equals + value[:LONGEST_VALUE] + cut
