"""Storing responses (RFC 9111 section 3)."""

from dataclasses import replace
from enum import StrEnum
from typing import Final

from maxage.message import HeaderList, Headers, Request, Response, StoredResponse
from maxage.rfc9111.answers import MayNotStore, MayStore
from maxage.rfc9111.dates import format_http_date, parse_http_date
from maxage.rfc9111.directives import OWN_TARGET, Control, Directives, governing
from maxage.rfc9111.fieldlist import lower_names
from maxage.rfc9111.freshness import (
    NO_LIFETIME,
    ONE_DAY,
    Lifetime,
    corrected_initial_age,
    freshness_lifetime,
)
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.validation import compare_validators, has_validator
from maxage.rfc9111.vary import selecting_values, vary_names


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
    NO_LIFETIME = "no lifetime"
    USELESS = "never usable"
    MISMATCH = "validator mismatch"
    NO_VALIDATOR = "no validator"


WINDOW: Final = 60.0
"""How long a stale response is kept at least, for max-stale, HEAD and validation, in seconds."""

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
    }
)

_VALIDATORS: Final = (b"etag", b"last-modified")

_COOKIES: Final = frozenset({b"set-cookie", b"set-cookie2"})

_NOT_UPDATED: Final = frozenset({b"content-encoding", b"content-length", b"content-range"})

# RFC 6585: "Responses with the 428 [429, 431, 511] status code MUST NOT be stored by a cache."
_NEVER_STORED: Final = frozenset({428, 429, 431, 511})

_UNDERSTOOD: Final = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308}
    | {
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        408,
        409,
        410,
        411,
        413,
        414,
        415,
        417,
        421,
        422,
        426,
    }
    | {451, 500, 501, 502, 503, 504, 505}
)
"""Statuses whose caching requirements are kept here (RFC 9110 section 15, RFC 7725)."""


def may_store(
    request: Request,
    response: Response,
    *,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> MayStore | MayNotStore:
    """Say whether the response may be stored, and as what."""
    # RFC 9111 section 3: "A cache MUST NOT store a response to a request unless: the request method
    # is understood by the cache".
    if request.method != "GET":
        return MayNotStore(reason=Reason.METHOD)
    stored, lifetime = _build(
        request, response, request_time=request_time, response_time=response_time, policy=policy
    )
    return _verdict(request, response, stored, lifetime, policy)


def freshen(
    stored: StoredResponse,
    not_modified: Response,
    *,
    request: Request,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> MayStore | MayNotStore:
    """Update a stored response from the 304 that validated it (section 4.3.4).

    When the 304 ends the storing (it says no-store, for instance), the answer still carries the
    updated response, for this one request. When the 304 is about something else it does not: the
    application is then to be asked again without conditions.
    """
    # Deviation: section 4.3.4 lets a 304 without any validator update only a stored response that
    # has none. Ours went out with the validators of this one stored response, so that the answer
    # can be about nothing else; many applications leave the validators out of a 304.
    if compare_validators(stored.headers, not_modified.headers) == "mismatch":
        return MayNotStore(reason=Reason.MISMATCH)
    return _updated(
        stored,
        not_modified.headers,
        request=request,
        request_time=request_time,
        response_time=response_time,
        policy=policy,
    )


def freshen_from_head(
    stored: StoredResponse,
    head: Response,
    *,
    request: Request,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> MayStore | MayNotStore:
    """Update a stored response from a 200 to HEAD (section 4.3.5).

    `Reason.MISMATCH` means that the stored response is no longer what the application would send;
    the other reasons say nothing about it.
    """
    # Section 4.3.5: "When a cache makes an inbound HEAD request for a target URI and receives a 200
    # (OK) response, the cache SHOULD update or invalidate each of its stored GET responses that
    # could have been chosen for that request".
    if head.status != 200 or stored.status != 200:
        return MayNotStore(reason=Reason.STATUS)
    if not (_same_validators(stored, head.headers) and _same_length(stored, head.headers)):
        return MayNotStore(reason=Reason.MISMATCH)
    # Deviation: section 4.3.5 would update also when the HEAD response has no validator at all.
    # Nothing shows then that the stored content is still the current one.
    if not any(name in head.headers for name in _VALIDATORS):
        return MayNotStore(reason=Reason.NO_VALIDATOR)
    return _updated(
        stored,
        head.headers,
        request=request,
        request_time=request_time,
        response_time=response_time,
        policy=policy,
    )


def _same_validators(stored: StoredResponse, head: Headers) -> bool:
    # Section 4.3.5: "if the stored response and HEAD response have matching values for any received
    # validator fields (ETag and Last-Modified)".
    received = [name for name in _VALIDATORS if name in head]
    return all(head.first(name) == stored.headers.first(name) for name in received)


def _same_length(stored: StoredResponse, head: Headers) -> bool:
    # Section 4.3.5: "if the HEAD response has a Content-Length header field, the value of
    # Content-Length matches that of the stored response".
    length = head.first(b"content-length")
    return length is None or length.strip() == b"%d" % len(stored.body)


# --- Updating stored header fields (section 3.2) ------------------------------------------------


def _updated(
    stored: StoredResponse,
    update: Headers,
    *,
    request: Request,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> MayStore | MayNotStore:
    response = Response(status=stored.status, headers=merged(stored.headers, update))
    built, lifetime = _build(
        request, response, request_time=request_time, response_time=response_time, policy=policy
    )
    built = replace(built, body=stored.body)
    verdict = _verdict(request, response, built, lifetime, policy)
    return replace(verdict, freshened=built) if isinstance(verdict, MayNotStore) else verdict


def merged(stored: Headers, update: Headers) -> Headers:
    """Return the stored lines with those of the update in the place of their namesakes."""
    # Section 3.2: "the cache MUST add each header field in the provided response to the stored
    # response, replacing field values that are already present, with the following exceptions:
    # Header fields excepted from storage in Section 3.1, Header fields that the cache's stored
    # response depends upon [...], and The Content-Length header field." The content codings of the
    # stored body are such a dependency. Age and Date describe the update, or nothing.
    fresh = update.without(_NOT_UPDATED | hop_by_hop(update))
    lines: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for name, value in fresh:
        lines.setdefault(name.lower(), []).append((name, value))
    result: list[tuple[bytes, bytes]] = []
    for name, value in stored:
        lower = name.lower()
        if lower in fresh:
            result.extend(lines.pop(lower, ()))
        elif lower not in (b"age", b"date"):
            result.append((name, value))
    return Headers(result + [line for group in lines.values() for line in group])


# --- What is stored (section 3.1) ---------------------------------------------------------------


def hop_by_hop(headers: Headers) -> frozenset[bytes]:
    """Return the lower-case names of the fields that belong to one connection or one proxy."""
    # Section 3.1: "The Connection header field and fields whose names are listed in it are required
    # by Section 7.6.1 of [HTTP] to be removed before forwarding the message. [...] Header fields
    # that are specific to the proxy that a cache uses when forwarding a request MUST NOT be
    # stored".
    return _HOP_BY_HOP | lower_names(headers.get_all(b"connection"))


def _kept_headers(
    headers: Headers, directives: Directives, policy: Policy, response_time: float
) -> Headers:
    # Section 5.2.2.7: "If a qualified private response directive is present, with an argument that
    # lists one or more field names, then only the listed header fields are limited to a single
    # user: a shared cache MUST NOT store the listed header fields if they are present in the
    # original response but MAY store the remainder of the response message".
    dropped = hop_by_hop(headers) | policy.exchange_fields
    dropped |= frozenset(directives.field_names("private"))
    dropped |= _COOKIES & frozenset(directives.field_names("no-cache"))
    # Age is written anew on every use.
    lines = headers.without(dropped | {b"age"}).raw
    return Headers(_dated(lines, response_time) if policy.append_date else lines)


def _dated(lines: HeaderList, response_time: float) -> HeaderList:
    # RFC 9110 section 6.6.1: "A recipient with a clock that receives a response message without a
    # Date header field MUST record the time it was received and append a corresponding Date header
    # field to the message's header section if it is cached or forwarded downstream. A recipient
    # [...] that receives a response with an invalid Date header field value MAY replace that value
    # with the time that response was received."
    headers = Headers(lines)
    line = headers.first(b"date")
    if line is not None and parse_http_date(line, now=response_time) is not None:
        return lines
    return (*headers.without({b"date"}).raw, (b"date", format_http_date(response_time)))


def _build(
    request: Request,
    response: Response,
    *,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> tuple[StoredResponse, Lifetime]:
    control = governing(response.headers, policy.cache_targets)
    directives = control.directives
    lifetime, is_ours = _lifetime(request, response, control, response_time, policy)
    never_stale = is_never_stale(directives)
    always_validate = directives.unqualified("no-cache")
    names = vary_names(response.headers) or ()
    stored = StoredResponse(
        status=response.status,
        headers=_kept_headers(response.headers, directives, policy, response_time),
        body=b"",
        request_time=request_time,
        response_time=response_time,
        freshness_lifetime=lifetime.seconds,
        corrected_initial_age=corrected_initial_age(
            response.headers, request_time=request_time, response_time=response_time
        ),
        lifetime_is_ours=is_ours,
        always_validate=always_validate,
        no_cache_fields=_withheld(response.headers, directives),
        never_stale=never_stale,
        stale_while_revalidate=(
            0.0
            if never_stale or always_validate
            else _seconds(directives, "stale-while-revalidate", policy.stale_while_revalidate)
        ),
        stale_if_error=_optional_seconds(directives, "stale-if-error"),
        shareable=is_shareable(directives),
        vary_names=names,
        selecting=selecting_values(names, request.headers, policy),
    )
    return stored, lifetime


def _seconds(directives: Directives, name: str, default: float) -> float:
    said = directives.seconds(name)
    return default if said is None else float(said)


def _optional_seconds(directives: Directives, name: str) -> float | None:
    said = directives.seconds(name)
    return None if said is None else float(said)


def _withheld(headers: Headers, directives: Directives) -> tuple[bytes, ...]:
    # RFC 9213 section 2.2 leaves it to the cache whether a targeted field goes downstream. Our own
    # is addressed to us alone; it stays in the store, since a 304 may come without it.
    own = (OWN_TARGET,) if OWN_TARGET in headers else ()
    if directives.unqualified("no-cache"):
        return own
    return (*directives.field_names("no-cache"), *own)


def is_never_stale(directives: Directives) -> bool:
    """Say whether the response forbids every use after its lifetime."""
    # Section 5.2.2.2: "once the response has become stale, a cache MUST NOT reuse that response to
    # satisfy another request until it has been successfully validated by the origin"; 5.2.2.8:
    # proxy-revalidate "is analogous to must-revalidate", for shared caches; 5.2.2.10: s-maxage
    # "incorporates the semantics of the proxy-revalidate response directive".
    return any(name in directives for name in ("must-revalidate", "proxy-revalidate", "s-maxage"))


def is_shareable(directives: Directives) -> bool:
    """Say whether the response allows a shared cache to use it for requests with credentials."""
    # Section 3.5: "In this specification, the following response directives have such an effect:
    # must-revalidate (Section 5.2.2.2), public (Section 5.2.2.9), and s-maxage (Section 5.2.2.10)."
    named = "public" in directives or "must-revalidate" in directives
    return directives.well_formed and (named or directives.is_number("s-maxage"))


# --- Whether it is stored -----------------------------------------------------------------------


def _lifetime(
    request: Request, response: Response, control: Control, response_time: float, policy: Policy
) -> tuple[Lifetime, bool]:
    """Return the lifetime, and whether it is the configured one."""
    lifetime = freshness_lifetime(
        response.status,
        response.headers,
        control,
        response_time=response_time,
        fraction=policy.heuristic_fraction,
    )
    if lifetime.source == "none" and _takes_default(request, response, control, policy):
        return replace(NO_LIFETIME, seconds=policy.default_lifetime), True
    return lifetime, False


def _takes_default(request: Request, response: Response, control: Control, policy: Policy) -> bool:
    headers = response.headers
    # With a targeted field that gives no lifetime, only a response that says nothing else either
    # is without freshness information. Pragma binds nobody in a response (section 5.4), but who
    # sends `no-cache` there expects anything but a lifetime of our choice.
    says_more = control.targeted and (b"cache-control" in headers or b"expires" in headers)
    refuses = b"no-cache" in lower_names(headers.get_all(b"pragma"))
    return (
        policy.default_lifetime > 0
        and response.status == 200
        and not request.carries_credentials
        and not control.directives.unqualified("no-cache")
        and not says_more
        and not refuses
    )


def _verdict(
    request: Request,
    response: Response,
    stored: StoredResponse,
    lifetime: Lifetime,
    policy: Policy,
) -> MayStore | MayNotStore:
    control = governing(response.headers, policy.cache_targets)
    reason = (
        _unfit_status(response.status)
        or _forbidden_by_request(request, stored, policy)
        or _forbidden_by_response(response, control.directives)
        or _forbidden_by_policy(response, control.directives, lifetime, policy)
        or _not_worth_it(stored, lifetime, policy)
    )
    if reason is not None:
        return MayNotStore(reason=reason)
    return MayStore(stored=stored, keep_for=_keep_for(stored, lifetime, policy))


def _unfit_status(status: int) -> Reason | None:
    # Section 3: "the response status code is final", and "if the response status code is 206 or
    # 304, [...] the cache understands the response status code".
    if status in (206, 416):
        return Reason.PARTIAL
    # A 304 or a 412 answers the conditions of one request.
    if status in (304, 412):
        return Reason.CONDITIONAL
    if not 200 <= status <= 599 or status in _NEVER_STORED:
        return Reason.STATUS
    return None


def _forbidden_by_request(
    request: Request, stored: StoredResponse, policy: Policy
) -> Reason | None:
    # Section 5.2.1.5: "The no-store request directive indicates that a cache MUST NOT store any
    # part of either this request or any response to it."
    if policy.obey_request_directives and b"cache-control" in request.headers:
        directives = governing(request.headers, ()).directives
        if "no-store" in directives or not directives.well_formed:
            return Reason.REQUEST_NO_STORE
    # Section 3: "if the cache is shared: the Authorization header field is not present in the
    # request [...] or a response directive is present that explicitly allows shared caching".
    # Here every kind of credentials counts.
    if request.carries_credentials and not stored.shareable:
        return Reason.CREDENTIALS
    return None


def _forbidden_by_response(response: Response, directives: Directives) -> Reason | None:
    # Section 5.2.2.3: "When a cache that implements the must-understand directive receives a
    # response that includes it, the cache SHOULD ignore the no-store directive if it understands
    # and implements the status code's caching requirements."
    understood = response.status in _UNDERSTOOD
    if "must-understand" in directives:
        if not understood:
            return Reason.STATUS
    elif "no-store" in directives:
        # Section 3: "the no-store cache directive is not present in the response".
        return Reason.NO_STORE
    # "if the cache is shared: the private response directive is either not present or allows a
    # shared cache to store a modified response".
    if directives.unqualified("private"):
        return Reason.PRIVATE
    if vary_names(response.headers) is None:
        return Reason.VARY
    return _forbidden_by_type(response.headers)


def _forbidden_by_type(headers: Headers) -> Reason | None:
    kind = headers.first(b"content-type") or b""
    if kind.partition(b";")[0].strip().lower() == b"text/event-stream":
        return Reason.EVENT_STREAM
    return None


def _forbidden_by_policy(
    response: Response, directives: Directives, lifetime: Lifetime, policy: Policy
) -> Reason | None:
    # Deviation: section 7.3 of the RFC leaves Set-Cookie to the origin's other directives. A cookie
    # that one user was given must not reach another by an oversight.
    listed = {*directives.field_names("private"), *directives.field_names("no-cache")}
    has_cookie = any(name in response.headers for name in _COOKIES - listed)
    if has_cookie and not (policy.store_set_cookie and lifetime.source == "explicit"):
        return Reason.SET_COOKIE
    if response.status >= 500 and not policy.store_server_errors:
        return Reason.SERVER_ERROR
    # Other statuses than 200 are stored only with freshness of their own.
    if response.status != 200 and lifetime.source == "none":
        return Reason.NO_LIFETIME
    return None


def _not_worth_it(stored: StoredResponse, lifetime: Lifetime, policy: Policy) -> Reason | None:
    # Section 3: "some caches will not store a response that has neither a cache validator nor an
    # explicit expiration time, as such responses are not usually useful to store."
    validates = stored.status == 200 and has_validator(stored.headers, now=stored.response_time)
    if validates or (stored.freshness_lifetime > 0 and not stored.always_validate):
        return None
    if _stale_windows(stored, policy) > 0:
        return None
    return Reason.NO_LIFETIME if lifetime.source == "none" else Reason.USELESS


def _stale_windows(stored: StoredResponse, policy: Policy) -> float:
    """Return for how long after its lifetime the response may be used without validation."""
    if stored.never_stale or stored.always_validate:
        return 0.0
    on_error = stored.stale_if_error
    if on_error is None:
        on_error = policy.stale_if_error
    return max(stored.stale_while_revalidate, on_error)


def _keep_for(stored: StoredResponse, lifetime: Lifetime, policy: Policy) -> float:
    fresh = max(0.0, stored.freshness_lifetime - stored.corrected_initial_age)
    window = _stale_windows(stored, policy)
    validates = stored.status == 200 and has_validator(stored.headers, now=stored.response_time)
    useful = window
    if validates:
        useful = max(window, stored.freshness_lifetime, WINDOW)
    elif policy.obey_request_directives and not (stored.never_stale or stored.always_validate):
        useful = max(window, WINDOW)  # for max-stale
    # What is our choice ends after a day; what the response asks for itself does not.
    own = fresh + window if lifetime.source == "explicit" else 0.0
    return max(own, min(fresh + useful, ONE_DAY))
