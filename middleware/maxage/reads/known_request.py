"""A request that an earlier identical request made known: its target and key."""

from typing import Final, final

from maxage.asgi.responder import pair
from maxage.asgi.types import Scope
from maxage.cache.key import variant_key
from maxage.cache.target import Target
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import selecting_values
from maxage.store.prepared import Form

Line = tuple[bytes, bytes]

_FORMS: Final[dict[str, Form]] = {method: (method, None) for method in ("GET", "HEAD")}
_NO_KEYS: Final[dict[tuple[Line, ...], bytes]] = {}
"""Never changed: a request with selecting fields gets a dictionary of its own."""
_MOST_VARIANTS: Final = 16
"""Values of the selecting fields of one URL whose key is remembered."""
_LONGEST_VALUES: Final = 1024
"""Bytes of the values of such fields."""


@final
class KnownRequest:
    """Target and key of all requests with the same method, URL and If-None-Match, and all
    with or all without an Origin."""

    __slots__ = (
        "_keys", "_names", "form", "key", "key_parts", "path", "root_path", "scheme", "target",
        "variance",
    )  # fmt: skip

    def __init__(
        self, scope: Scope, target: Target, condition: bytes | None, key_parts: tuple[bytes, ...]
    ) -> None:
        self.target: Final = target
        self.key_parts: Final = key_parts
        self.key: Final = target.key(key_parts)
        """The primary key."""
        self.variance: Final = target.search.variance
        """The No-Vary-Search by which the key was made."""
        method = scope["method"]
        self.form: Final[Form] = _FORMS[method] if condition is None else (method, condition)
        self.path: Final[str] = scope["path"]
        self.scheme: Final[str] = scope.get("scheme", "http")
        self.root_path: Final[str] = scope.get("root_path", "")
        self._names: tuple[bytes, ...] = ()
        self._keys: dict[tuple[Line, ...], bytes] = _NO_KEYS

    def variant(self, headers: list[Line]) -> bytes:
        """Return the key of the variant that the request chooses."""
        names = self.target.vary_names
        if names is not self._names:
            self._names, self._keys = names, {}
        # Pairs that are no tuples have no hash.
        lines = tuple(pair(line) for line in headers if line[0].lower() in names)
        key = self._keys.get(lines)
        if key is None:
            values = selecting_values(names, Headers.of(lines), self.target.rules)
            key = variant_key(self.key, names, values)
            if sum(len(value) for _, value in lines) <= _LONGEST_VALUES:
                if len(self._keys) >= _MOST_VARIANTS:
                    self._keys.clear()
                self._keys[lines] = key
        return key
