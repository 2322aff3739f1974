"""A request that an earlier identical request, or a near copy, made known: its route and key."""

from typing import Final, final

from maxage.asgi.responder import pair
from maxage.asgi.types import Scope
from maxage.cache.key import variant_key
from maxage.cache.target import Target
from maxage.cache.terms import Terms
from maxage.observe.counters import RouteCounts
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import selecting_values
from maxage.routing.route_table import Routed
from maxage.store.near_copy import Copy
from maxage.store.prepared import Form, Owner

Line = tuple[bytes, bytes]
Wishes = tuple[bytes | None, bool] | None
"""If-None-Match, and whether zstd is accepted; None: neither."""
Plain = tuple[bytes, Wishes, tuple[bytes, ...]]
"""Host, wishes and the parts of the key of a plain request (`FastPath.plain`)."""
Identity = tuple[str, str, bytes | None, bytes, str, str, Plain]
"""Method, path, raw path, query, scheme, root path, and the rest of a plain request."""

PLAIN_GET: Final[Form] = ("GET", None, False)
_FORMS: Final[dict[str, Form]] = {"GET": PLAIN_GET, "HEAD": ("HEAD", None, False)}
_NO_KEYS: Final[dict[tuple[Line, ...], bytes]] = {}
"""Never changed: a request with selecting fields gets a dictionary of its own."""
_MOST_VARIANTS: Final = 16
"""Values of the selecting fields of one URL whose key is remembered."""
_LONGEST_VALUES: Final = 1024
"""Bytes of the values of such fields."""


@final
class PlainRoute(Owner):
    """What the plain requests of a route have in common, at one middleware."""

    __slots__ = ("counts", "generation", "terms")

    def __init__(self, terms: Terms, counts: RouteCounts, generation: int) -> None:
        self.terms: Final = terms
        self.counts: Final = counts
        self.generation: Final = generation


@final
class KnownRequest:
    """Route and key of all requests with the same method, URL and wishes, and all with or all
    without an Origin."""

    __slots__ = (
        "_keys", "_names", "copy", "copy_key", "form", "is_remembered", "key", "key_parts",
        "purges", "route", "routed", "target", "variance",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - made for each request
        self,
        method: str,
        route: PlainRoute,
        key: bytes,
        wishes: Wishes,
        key_parts: tuple[bytes, ...],
        target: Target | None,
    ) -> None:
        self.route: Final = route
        self.key: Final = key
        """The primary key. Without a target it is its digest, which is enough for a copy."""
        self.copy_key = key
        """The key by which its copy is sought: a shorter one, once there was a copy."""
        self.purges = 0
        """The purges that this process had made at its last lookup (`Purger.serial`)."""
        self.key_parts: Final = key_parts
        self.target: Final = target
        """None: a near copy answers the request, and nothing else is known of it."""
        self.copy: Copy | None = None
        """The near copy that has just made it known, until that answers."""
        self.is_remembered = True
        """Whether it is kept for the next request like it."""
        self.routed: Routed | None = None
        """What the application's router adds to the scope, where it is remembered."""
        self.variance: Final = None if target is None else target.search.variance
        """The No-Vary-Search by which the key was made."""
        self.form: Final[Form] = _FORMS[method] if wishes is None else (method, *wishes)
        self._names: tuple[bytes, ...] = ()
        self._keys: dict[tuple[Line, ...], bytes] = _NO_KEYS

    def variant(self, target: Target, headers: list[Line]) -> bytes:
        """Return the key of the variant that the request chooses among those of its target."""
        names = target.vary_names
        if names is not self._names:
            self._names, self._keys = names, {}
        # Pairs that are no tuples have no hash.
        lines = tuple(pair(line) for line in headers if line[0].lower() in names)
        key = self._keys.get(lines)
        if key is None:
            values = selecting_values(names, Headers(lines), target.rules)
            key = variant_key(self.key, names, values)
            if sum(len(value) for _, value in lines) <= _LONGEST_VALUES:
                if len(self._keys) >= _MOST_VARIANTS:
                    self._keys.clear()
                self._keys[lines] = key
        return key


def identity_of(scope: Scope, plain: Plain) -> Identity:
    """Return what tells a plain request from others; ASGI lets servers leave out four fields."""
    get = scope.get
    return (
        scope["method"], scope["path"], get("raw_path"), get("query_string", b""),
        get("scheme", "http"), get("root_path", ""), plain,
    )  # fmt: skip
