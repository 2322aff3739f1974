"""The verdicts whether a response may be stored, and the reasons against it."""

from enum import StrEnum

from msgspec import Struct

from maxage.rfc9111.message import StoredResponse


class MayStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response may be stored. `stored` is its stored form, without the body."""

    stored: StoredResponse
    keep_for: float
    """Seconds for which it is useful, stale uses and validation included."""


class MayNotStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response must not be stored, or storing it is useless."""

    reason: str
    """One or two words, such as those of `Reason`."""
    freshened: StoredResponse | None = None
    """After a 304 that forbids storing: the response for this one request."""


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
