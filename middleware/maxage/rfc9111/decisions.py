"""What `decide` returns: serve, forward, or 504. Each decision carries the next step."""

from typing import Literal

from msgspec import Struct

from maxage.rfc9111.message import HeaderList

ForwardReason = Literal[
    "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"
]
"""The words of RFC 9211 section 2.2."""


class Serve(Struct, frozen=True, kw_only=True, gc=False):
    """The stored response answers."""

    status: int
    headers: HeaderList
    """All header fields to send, except Cache-Status."""
    body: bytes
    ttl: int
    """Freshness lifetime minus current age, in seconds; negative when stale (RFC 9211 2.4)."""
    stale: bool = False
    refresh: bool = False
    """Refresh in the background (stale-while-revalidate, RFC 5861 section 3)."""
    lifetime_is_ours: bool = False
    """The lifetime is the configured one: the response states none."""


class Forward(Struct, frozen=True, kw_only=True, gc=False):
    """The application answers."""

    reason: ForwardReason
    conditional: HeaderList = ()
    """Validators of the stored response, which replace the client's own; empty: none."""
    completing: HeaderList = ()
    """Fields of a range request that completes a stored part (section 3.3); empty: none."""
    stale_if_error: bool = False
    """The stored response may answer if the application fails (RFC 5861 section 4)."""


class OnlyIfCached(Struct, frozen=True, kw_only=True, gc=False):
    """No stored response fits, and the client accepts no other one: 504 (section 5.2.1.7)."""


Decision = Serve | Forward | OnlyIfCached
