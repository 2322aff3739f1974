"""Whether a response may be stored: the verdicts, and the reasons against it."""

from enum import StrEnum

from msgspec import Struct

from maxage.rfc9111.message import StoredResponse


class MayStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response may be stored; `stored` lacks only the body that is still to come."""

    stored: StoredResponse
    keep_for: float
    """How long it can be of use, stale uses and validation included; the store adds nothing."""


class MayNotStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response must not or need not be stored."""

    reason: str
    """One or two words, from a fixed vocabulary (`storing.Reason`)."""
    freshened: StoredResponse | None = None
    """After a 304 that ends the storing: what answers this one request and is then forgotten."""


class Reason(StrEnum):
    """Why a response is not stored."""

    METHOD = "method"
    STATUS = "status"
    PARTIAL = "partial"
    CONDITIONAL = "conditional"
    REQUEST_NO_STORE = "request no-store"
    NO_STORE = "no-store"
    PRIVATE = "private"
    CREDENTIALS = "credentials"
    VARY = "vary"
    SET_COOKIE = "set-cookie"
    EVENT_STREAM = "event stream"
    SERVER_ERROR = "server error"
    CLIENT_ERROR = "client error"
    NO_LIFETIME = "no lifetime"
    USELESS = "never usable"
    MISMATCH = "validator mismatch"
    NO_VALIDATOR = "no validator"
