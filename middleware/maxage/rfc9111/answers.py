"""The answers to the two questions; each carries what is to be done next."""

from dataclasses import dataclass
from typing import Literal

from maxage.message import HeaderList, StoredResponse

ForwardReason = Literal[
    "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"
]
"""The words of RFC 9211 section 2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The stored response answers."""

    status: int
    headers: HeaderList
    """Everything to be sent but Cache-Status."""
    body: bytes
    ttl: int
    """Freshness lifetime minus current age, in seconds; negative when stale (RFC 9211 2.4)."""
    stale: bool = False
    refresh: bool = False
    """Refresh in the background (stale-while-revalidate, RFC 5861 section 3)."""
    lifetime_is_ours: bool = False
    """The response says nothing of its freshness itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """The application must be asked."""

    reason: ForwardReason
    conditional: HeaderList = ()
    """Validators of the stored response to send instead of the client's own; empty: none."""
    completing: HeaderList = ()
    """Fields of a range request for what a stored part lacks (section 3.3); empty: none."""
    stale_if_error: bool = False
    """The stored response may answer if the application fails (RFC 5861 section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyIfCached:
    """Nothing stored answers and the client wants nothing else: 504 (section 5.2.1.7)."""


Decision = Serve | Forward | OnlyIfCached


@dataclass(frozen=True, slots=True, kw_only=True)
class MayStore:
    """The response may be stored; `stored` lacks only the body that is still to come."""

    stored: StoredResponse
    keep_for: float
    """How long it can be of use, stale uses and validation included; the store adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MayNotStore:
    """The response must not or need not be stored."""

    reason: str
    """One or two words, from a fixed vocabulary (`storing.Reason`)."""
    freshened: StoredResponse | None = None
    """After a 304 that ends the storing: what answers this one request and is then forgotten."""
