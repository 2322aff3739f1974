"""The settings of one route, as the rules of RFC 9111 take them."""

from msgspec import Struct


class Policy(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Settings of one route for the rules; durations in seconds."""

    default_lifetime: float = 0.0
    """Lifetime of a plain 200 without freshness information; 0: not stored."""
    lifetime_is_declared: bool = False
    """Whether the route states `default_lifetime`: then downloads and streams get it too."""
    heuristic_fraction: float = 0.0
    """Share of the time since Last-Modified that counts as fresh (section 4.2.2); 0: none."""
    obey_request_directives: bool = True
    cache_targets: tuple[bytes, ...] = (b"maxage-cache-control", b"cdn-cache-control")
    """Names of the targeted fields (RFC 9213) to obey, the most specific first, lower case."""
    store_set_cookie: bool = False
    store_server_errors: bool = False
    store_client_errors: bool = False
    """Whether a 4xx may be stored that something else than the URL may have caused."""
    stale_if_error: float = 0.0
    """Default for responses without stale-if-error; 0: never."""
    stale_while_revalidate: float = 0.0
    """Default for responses without stale-while-revalidate; 0: never."""
    exchange_fields: frozenset[bytes] = frozenset()
    """Lower-case names of header fields that belong to one exchange and are never stored."""
    store_partial: bool = False
    """Whether parts (206) are stored, answer their ranges, and are completed (section 3.3)."""
    language_order: bool = False
    """Whether the order of the members of Accept-Language is ignored."""
    language_select: bool = False
    """Whether a variant answers if its Content-Language is the one that the request prefers."""
    keyed_fields: tuple[bytes, ...] = ()
    """Lower-case names, sorted, of request fields whose lines are part of the key: the variants of
    one key do not differ in them."""
    append_date: bool = True
    """Whether a response without a valid Date gets the time of its arrival (RFC 9110, 6.6.1)."""
