"""Labels of URLs, for people: without secrets, and bounded in length."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from maxage.routing.default_lifetime import SecretNames
from maxage.settings import CacheSettings

LONGEST_VALUE: Final = 40
"""Bytes of a query's value that are shown."""
LONGEST_LABEL: Final = 200
"""Characters of a label."""
_CUT: Final = b"..."
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]+")


def hidden_names(settings: CacheSettings) -> SecretNames:
    """Return the query parameters whose values are hidden: also those called as credentials are."""
    return SecretNames((*settings.cache_credential_query, *settings.cache_credential_headers))


def label_of(scope: Mapping[str, Any], secrets: SecretNames) -> str:
    """Return method, path and query of a request, with hidden secrets; HEAD counts as GET."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    target = target_of(scope, secrets, lambda _: b"***", LONGEST_VALUE)
    shown = _UNSAFE.sub("_", target.decode("latin-1"))
    if len(shown) > LONGEST_LABEL:
        shown = shown[:LONGEST_LABEL] + _CUT.decode()
    return f"{method} {shown}"


def target_of(
    scope: Mapping[str, Any],
    secrets: SecretNames,
    hide: Callable[[bytes], bytes],
    longest: int,
) -> bytes:
    """Return path and query of a request.

    Args:
        scope: of the request.
        secrets: as for `label_of`.
        hide: returns the substitute for a secret.
        longest: bytes of any other value that are kept.
    """
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    query: bytes = scope.get("query_string", b"")
    if not query:
        return path
    hides_code = secrets.are_in(query)

    def shown(piece: bytes) -> bytes:
        name, equals, value = piece.partition(b"=")
        if not equals:
            return _cut(name, longest)
        is_code = hides_code and unquote_to_bytes(name) == b"code"
        if is_code or secrets.are_in(piece):
            return name + equals + hide(value)
        return name + equals + _cut(value, longest)

    pieces = re.split(rb"([&;])", query)
    return path + b"?" + b"".join(one if one in (b"&", b";") else shown(one) for one in pieces)


def _cut(value: bytes, longest: int) -> bytes:
    return value if len(value) <= longest else value[:longest] + _CUT
