"""Request headers by which a request asks for another method or path than its request line."""

from typing import Final

from maxage.asgi.types import Scope

_METHOD_OVERRIDES: Final = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override"}
)
OVERRIDES: Final = _METHOD_OVERRIDES | {
    b"x-original-url", b"x-rewrite-url", b"x-original-uri", b"x-forwarded-uri",
}  # fmt: skip
"""Names (lower case) of the headers that name another method or another path."""


def overrides_method(scope: Scope) -> bool:
    """Return whether a header names a method: the application may change something.

    The value is not read: an application may accept more spellings of a method than the cache.
    """
    names = [name.lower() for name, _ in scope["headers"]]
    return not _METHOD_OVERRIDES.isdisjoint(names)
