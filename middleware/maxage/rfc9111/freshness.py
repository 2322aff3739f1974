"""Freshness lifetime: explicit, heuristic or configured (RFC 9111 section 4.2)."""

import re
from typing import Final, Literal, final

from msgspec import Struct
from msgspec.structs import replace

from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.dates import date_value, parse_http_date
from maxage.rfc9111.directives import Control
from maxage.rfc9111.field_list import lower_names
from maxage.rfc9111.message import Headers

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


def lifetime_of(arrival: Arrival, control: Control) -> Lifetime:
    """Return the lifetime that the response has, or the configured one where that applies."""
    response, policy = arrival.response, arrival.policy
    lifetime = freshness_lifetime(
        response.status,
        response.headers,
        control,
        response_time=arrival.response_time,
        fraction=policy.heuristic_fraction,
    )
    if lifetime.source == "none" and _takes_default(arrival, control):
        return replace(lifetime, seconds=policy.default_lifetime, source="configured")
    return lifetime


def _takes_default(arrival: Arrival, control: Control) -> bool:
    response, policy = arrival.response, arrival.policy
    headers = response.headers
    # A targeted field without a lifetime beside Cache-Control or Expires is freshness information.
    # Pragma in a response has no meaning (section 5.4), but an application that sends `no-cache`
    # there expects no configured lifetime.
    says_more = control.targeted and (b"cache-control" in headers or b"expires" in headers)
    refuses = b"no-cache" in lower_names(headers.get_all(b"pragma"))
    return (
        policy.default_lifetime > 0
        and response.status == 200
        and not arrival.request.carries_credentials
        and not control.directives.unqualified("no-cache")
        and not says_more
        and not refuses
        and (policy.lifetime_is_declared or not _is_made_for_one(headers))
    )


def _is_made_for_one(headers: Headers) -> bool:
    """Return whether the response is a download, a stream or the metrics of this moment."""
    disposition = headers.first(b"content-disposition") or b""
    kind = media_type(headers)
    return (
        kind in _RECORD_STREAMS
        or kind.endswith(b"+json-seq")
        or _METRICS.match(headers.first(b"content-type") or b"") is not None
        or disposition.partition(b";")[0].strip().lower() == b"attachment"
        or b"no" in lower_names(headers.get_all(b"x-accel-buffering"))
    )


_RECORD_STREAMS: Final = frozenset({
    b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonl",
    b"application/jsonlines", b"application/x-jsonlines", b"application/json-seq",
    b"application/stream+json", b"application/x-json-stream", b"text/x-ndjson",
})  # fmt: skip
"""Media types of responses that come record by record."""
_METRICS: Final = re.compile(
    rb"(?i)\s*(?:application/openmetrics-text|text/plain\s*;\s*version=[01]\.0\.[0-9]"
    rb"|application/vnd\.google\.protobuf\s*;\s*proto=io\.prometheus\.)"
)
"""Content types of what a Prometheus server reads."""


def media_type(headers: Headers) -> bytes:
    """Return the media type of a response, lower case, without parameters."""
    return (headers.first(b"content-type") or b"").partition(b";")[0].strip().lower()
