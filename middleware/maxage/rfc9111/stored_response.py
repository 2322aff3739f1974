"""The stored form of a response: its headers and its numbers (RFC 9111 section 3.1)."""

from collections.abc import Container
from typing import Final

from maxage.rfc9111.age import corrected_initial_age
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.dates import format_http_date, parse_http_date
from maxage.rfc9111.directives import OWN_TARGET, Control, Directives
from maxage.rfc9111.field_list import lower_names
from maxage.rfc9111.freshness import Lifetime
from maxage.rfc9111.message import HeaderList, Headers, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.vary import distinguishing_names, selecting_values

_HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"trailers",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip

COOKIES: Final = frozenset({b"set-cookie"})
_DATE: Final = frozenset({b"date"})


def hop_by_hop(headers: Headers) -> frozenset[bytes]:
    """Return the lower-case names of the fields that belong to one connection or one proxy."""
    # Section 3.1: "The Connection header field and fields whose names are listed in it are required
    # by Section 7.6.1 of [HTTP] to be removed before forwarding the message. [...] Header fields
    # that are specific to the proxy that a cache uses when forwarding a request MUST NOT be
    # stored".
    named = headers.get_all(b"connection")
    return _HOP_BY_HOP | lower_names(named) if named else _HOP_BY_HOP


def dropped_fields(headers: Headers, directives: Directives, policy: Policy) -> frozenset[bytes]:
    """Return the lower-case names of the fields that are not stored."""
    # Section 5.2.2.7: "If a qualified private response directive is present, with an argument that
    # lists one or more field names, then only the listed header fields are limited to a single
    # user: a shared cache MUST NOT store the listed header fields if they are present in the
    # original response but MAY store the remainder of the response message".
    dropped = hop_by_hop(headers) | policy.exchange_fields
    dropped |= {b"age", *directives.field_names("private")}  # Age is computed on every use
    return dropped | COOKIES.intersection(directives.field_names("no-cache"))


def recorded_date(names: Container[bytes], policy: Policy, response_time: float) -> HeaderList:
    """Return the Date line that a stored response gets, if none of its fields is a Date."""
    if not policy.append_date or b"date" in names:
        return ()
    # RFC 9110 section 6.6.1: "A recipient with a clock that receives a response message without a
    # Date header field MUST record the time it was received and append a corresponding Date header
    # field to the message's header section if it is cached or forwarded downstream. A recipient
    # [...] that receives a response with an invalid Date header field value MAY replace that value
    # with the time that response was received."
    return ((b"date", format_http_date(response_time)),)


def _has_bad_date(headers: Headers, response_time: float) -> bool:
    line = headers.first(b"date")
    return line is not None and parse_http_date(line, now=response_time) is None


def as_stored(arrival: Arrival, control: Control, lifetime: Lifetime) -> StoredResponse:
    """Return the response in its stored form, without the body and without a Date of ours."""
    response, policy, directives = arrival.response, arrival.policy, control.directives
    names = distinguishing_names(response.headers, policy)
    dropped = dropped_fields(response.headers, directives, policy)
    if policy.append_date and _has_bad_date(response.headers, arrival.response_time):
        dropped |= _DATE
    return StoredResponse(
        status=response.status,
        headers=response.headers.without(dropped),
        body=b"",
        request_time=arrival.request_time,
        response_time=arrival.response_time,
        freshness_lifetime=lifetime.seconds,
        corrected_initial_age=corrected_initial_age(
            response.headers,
            request_time=arrival.request_time,
            response_time=arrival.response_time,
        ),
        lifetime_is_ours=lifetime.source == "configured",
        always_validate=directives.unqualified("no-cache"),
        no_cache_fields=_withheld(response.headers, directives),
        never_stale=is_never_stale(directives),
        stale_while_revalidate=_stale_while_revalidate(directives, policy),
        stale_if_error=directives.seconds("stale-if-error"),
        shareable=is_shareable(directives),
        vary_names=names,
        selecting=selecting_values(names, arrival.request.headers, policy),
    )


def _stale_while_revalidate(directives: Directives, policy: Policy) -> float:
    if is_never_stale(directives) or directives.unqualified("no-cache"):
        return 0.0
    said = directives.seconds("stale-while-revalidate")
    return policy.stale_while_revalidate if said is None else float(said)


def _withheld(headers: Headers, directives: Directives) -> tuple[bytes, ...]:
    # RFC 9213 section 2.2 leaves it to the cache whether a targeted field goes downstream. The own
    # one does not. It stays in the store, since a 304 may come without it.
    own = (OWN_TARGET,) if OWN_TARGET in headers else ()
    if directives.unqualified("no-cache"):
        return own
    return (*directives.field_names("no-cache"), *own)


def is_never_stale(directives: Directives) -> bool:
    """Return whether the response forbids every use after its lifetime."""
    # Section 5.2.2.2: "once the response has become stale, a cache MUST NOT reuse that response to
    # satisfy another request until it has been successfully validated by the origin"; 5.2.2.8:
    # proxy-revalidate "is analogous to must-revalidate", for shared caches; 5.2.2.10: s-maxage
    # "incorporates the semantics of the proxy-revalidate response directive".
    return any(name in directives for name in ("must-revalidate", "proxy-revalidate", "s-maxage"))


def is_shareable(directives: Directives) -> bool:
    """Return whether a shared cache may use the response for requests with credentials."""
    # Section 3.5: "In this specification, the following response directives have such an effect:
    # must-revalidate (Section 5.2.2.2), public (Section 5.2.2.9), and s-maxage (Section 5.2.2.10)."
    named = "public" in directives or "must-revalidate" in directives
    return directives.well_formed and (named or directives.is_number("s-maxage"))
