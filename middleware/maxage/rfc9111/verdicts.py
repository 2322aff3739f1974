"""The verdicts whether a response may be stored."""

from enum import Enum

from msgspec import Struct

from maxage.observe.words import Reason
from maxage.rfc9111.message import StoredResponse


class MayStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response may be stored. `stored` is its stored form, without the body."""

    stored: StoredResponse
    keep_for: float
    """Seconds for which it is useful, stale uses and validation included."""


class MayNotStore(Struct, frozen=True, kw_only=True, gc=False):
    """The response must not be stored, or storing it is useless."""

    reason: Reason
    freshened: StoredResponse | None = None
    """After a 304 that forbids storing: the response for this one request."""


class NotFreshened(Enum):
    """Why a 304 or a HEAD does not update the stored response."""

    MISMATCH = "it is about another response"
    NO_VALIDATOR = "it has no validator, so that nothing proves that it is about this response"
