"""What the rules need to know of the settings and of the route."""

from msgspec import Struct


class Policy(Struct, frozen=True, kw_only=True, cache_hash=True):
    """What the rules need to know of the settings and of the route; durations in seconds."""

    default_lifetime: float = 0.0
    """Lifetime of a plain 200 without freshness information; 0: not stored."""
    heuristic_fraction: float = 0.0
    """Share of the time since Last-Modified that counts as fresh (section 4.2.2); 0: none."""
    obey_request_directives: bool = True
    cache_targets: tuple[bytes, ...] = (b"maxage-cache-control", b"cdn-cache-control")
    """Targeted fields (RFC 9213) that are ours, the most specific first, lower case."""
    store_set_cookie: bool = False
    store_server_errors: bool = False
    store_client_errors: bool = False
    """Whether a 4xx may be stored whose cause may lie elsewhere than in the URL."""
    stale_if_error: float = 0.0
    """Configured default for responses which do not say stale-if-error; 0: never."""
    stale_while_revalidate: float = 0.0
    """Configured default for responses which do not say stale-while-revalidate; 0: never."""
    exchange_fields: frozenset[bytes] = frozenset()
    """Lower-case header names which belong to one exchange and are never stored."""
    store_partial: bool = False
    """Parts (206) are stored, answer the ranges that they hold, and are completed (section 3.3)."""
    language_order: bool = False
    """A variant may be chosen by Accept-Language whatever the order of its members."""
    language_select: bool = False
    """A variant may be chosen because its Content-Language is what the request prefers."""
    append_date: bool = True
    """Give a response without a valid Date the time it arrived, as RFC 9110 section 6.6.1 asks."""
