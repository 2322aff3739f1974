"""Freshness lifetime and age (RFC 9111 section 4.2)."""

import math
from typing import Final, Literal, final

from msgspec import Struct

from maxage.rfc9111.dates import parse_http_date
from maxage.rfc9111.directives import Control, delta_seconds
from maxage.rfc9111.field_list import OWS
from maxage.rfc9111.message import Headers, StoredResponse

ONE_DAY: Final = 86_400.0

HEURISTICALLY_CACHEABLE: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}
)
"""RFC 9110 section 15.1."""


@final
class Lifetime(Struct, frozen=True, kw_only=True, gc=False):
    """A freshness lifetime in seconds, and its source."""

    seconds: float
    source: Literal["explicit", "heuristic", "configured", "none"]


NO_LIFETIME: Final = Lifetime(seconds=0.0, source="none")


def date_value(headers: Headers, *, response_time: float) -> float:
    """Return the instant of the Date field, or of arrival when there is no valid one."""
    # RFC 9110 section 6.6.1: "A recipient with a clock that receives a response message without a
    # Date header field MUST record the time it was received".
    line = headers.first(b"date")
    parsed = None if line is None else parse_http_date(line, now=response_time)
    return response_time if parsed is None else parsed


def age_value(headers: Headers) -> int:
    """Return the Age field in seconds, 0 when there is no valid one."""
    # RFC 9111 section 5.1: "a cache encountering a message with a list-based Age field value SHOULD
    # use the first member of the field value, discarding subsequent ones. If the field value (after
    # discarding additional members, as per above) is invalid (e.g., it contains something other
    # than a non-negative integer), a cache SHOULD ignore the field."
    line = headers.first(b"age")
    if line is None:
        return 0
    return delta_seconds(line.partition(b",")[0].strip(OWS)) or 0


def corrected_initial_age(headers: Headers, *, request_time: float, response_time: float) -> float:
    """Return the age that the response already had when it arrived."""
    # RFC 9111 section 4.2.3 defines "apparent_age = max(0, response_time - date_value);" and
    # "corrected_age_value = age_value + response_delay;". Date has whole seconds, so the arrival is
    # taken in whole seconds too.
    date = date_value(headers, response_time=response_time)
    apparent_age = max(0.0, math.floor(response_time) - date)
    response_delay = max(0.0, response_time - request_time)
    corrected_age_value = age_value(headers) + response_delay
    # The larger of the two is the conservative one.
    return max(apparent_age, corrected_age_value)


def current_age(stored: StoredResponse, *, now: float) -> float:
    """Return the age of a stored response. A clock that is set back never makes it younger."""
    # RFC 9111 section 4.2.3: "resident_time = now - response_time;
    #  current_age = corrected_initial_age + resident_time;"
    resident_time = now - stored.response_time
    return stored.corrected_initial_age + (resident_time if resident_time > 0 else 0.0)


def freshness_lifetime(
    status: int, headers: Headers, control: Control, *, response_time: float, fraction: float
) -> Lifetime:
    """Return the explicit lifetime, or else the heuristic one."""
    explicit = explicit_lifetime(headers, control, response_time=response_time)
    if explicit is not None:
        return Lifetime(seconds=explicit, source="explicit")
    return _heuristic(status, headers, control, response_time=response_time, fraction=fraction)


def explicit_lifetime(headers: Headers, control: Control, *, response_time: float) -> float | None:
    """Return the explicit freshness lifetime (section 4.2.1), or None when there is none."""
    directives = control.directives
    if not directives.well_formed:
        return 0.0
    # "If the cache is shared and the s-maxage response directive is present, use its value, or
    #  If the max-age response directive is present, use its value, or"
    for name in ("s-maxage", "max-age"):
        seconds = directives.seconds(name)
        if seconds is not None:
            return float(seconds)
    # RFC 9213 section 2.2: with a targeted field the cache "MUST ignore the Cache-Control and
    # Expires header fields in that response".
    line = None if control.targeted else headers.first(b"expires")
    if line is None:
        return None
    # "If the Expires response header field is present, use its value minus the value of the Date
    #  response header field".
    # Section 5.3: "A cache recipient MUST interpret invalid date formats, especially the value "0",
    # as representing a time in the past (i.e., "already expired")."
    expires = parse_http_date(line, now=response_time)
    if expires is None:
        return 0.0
    return max(0.0, expires - date_value(headers, response_time=response_time))


def _heuristic(
    status: int, headers: Headers, control: Control, *, response_time: float, fraction: float
) -> Lifetime:
    # Section 4.2.2: "A cache MUST NOT use heuristics to determine freshness when an explicit
    # expiration time is present in the stored response." Heuristics "can only be used on
    # responses without explicit freshness whose status codes are defined as "heuristically
    # cacheable" [...] and on responses without explicit freshness that have been marked as
    # explicitly cacheable (e.g., with a public response directive)."
    modified = last_modified(headers, now=response_time)
    allowed = status in HEURISTICALLY_CACHEABLE or "public" in control.directives
    if fraction <= 0 or modified is None or not allowed:
        return NO_LIFETIME
    # "If the response has a Last-Modified header field [...], caches are encouraged to use a
    # heuristic expiration value that is no more than some fraction of the interval since that
    # time."
    since = date_value(headers, response_time=response_time) - modified
    return Lifetime(seconds=min(max(0.0, since * fraction), ONE_DAY), source="heuristic")


def last_modified(headers: Headers, *, now: float) -> float | None:
    """Return the instant of the Last-Modified field, or None when there is no valid one."""
    line = headers.first(b"last-modified")
    return None if line is None else parse_http_date(line, now=now)
