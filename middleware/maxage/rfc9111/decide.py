"""May a stored response answer this request? (RFC 9111 section 4)"""

import math
from collections.abc import Iterable
from typing import Final, final

from msgspec import Struct

from maxage.rfc9111.age import Aged, age_line, current_age, headers_with_age
from maxage.rfc9111.combining import completing_fields
from maxage.rfc9111.content_coding import represented
from maxage.rfc9111.credentials import bypasses
from maxage.rfc9111.decisions import Decision, Forward, ForwardReason, OnlyIfCached, Serve
from maxage.rfc9111.directives import Directives, parse_cache_control
from maxage.rfc9111.field_list import lower_names
from maxage.rfc9111.message import Headers, Request, StoredResponse
from maxage.rfc9111.partial import part_within
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.ranges import partial_response
from maxage.rfc9111.validation import conditional_fields, is_not_modified, not_modified_headers


@final
class _Wishes(Struct, frozen=True, kw_only=True):
    """The request directives (RFC 9111 section 5.2.1)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float = math.inf
    min_fresh: float = 0.0
    max_stale: float | None = None
    stale_if_error: float = 0.0


_NO_WISHES: Final = _Wishes()

_CONDITIONS_FOR_ORIGINS: Final = frozenset({b"if-match", b"if-unmodified-since"})
_CONDITIONS_AND_RANGES: Final = frozenset({b"if-none-match", b"if-modified-since", b"range"})
_WISHES: Final = frozenset({b"cache-control", b"pragma"})


def decide(
    request: Request,
    stored: StoredResponse | None,
    *,
    now: float,
    policy: Policy,
    vary_miss: bool = False,
) -> Decision:
    """Return what answers a GET or HEAD: the stored response, the application, or neither."""
    headers = request.headers
    wishes = _NO_WISHES
    if policy.obey_request_directives and headers.has_any(_WISHES):
        wishes = _wishes(headers)
    if stored is None:
        return _forward("vary-miss" if vary_miss else "uri-miss", wishes)
    if bypasses(request, stored, policy):
        return _forward("bypass", wishes)
    # Section 5.2.1.5 lets a stored response answer all the same. A client that wants nothing to be
    # stored expects the application's own answer, as long as there is one.
    if wishes.no_store and not wishes.only_if_cached:
        age = current_age(stored, now=now)
        instead = _may_answer_for_error(stored, wishes, age, policy)
        return Forward(reason="request", stale_if_error=instead)
    # RFC 9110 sections 13.1.1 and 13.1.4, RFC 9111 section 4.3.2: "A cache MUST NOT evaluate
    # conditional header fields that only apply to an origin server".
    if headers.has_any(_CONDITIONS_FOR_ORIGINS):
        return _forward("request", wishes)
    if stored.status == 206:
        return _reuse_part(request, stored, wishes, now=now)
    return _reuse(request, stored, wishes, now=now, policy=policy)


def answers_plainly(stored: StoredResponse) -> bool:
    """Return whether, while it is fresh, it answers every plain GET as it is, with its Age.

    A plain GET has no condition, range, directive or credential. `plain_hit` is its answer.
    """
    return not (
        stored.always_validate
        or stored.anonymous
        or stored.no_cache_fields
        or stored.vary_names
        or stored.plain_length is not None
        or stored.status == 206
    )


def plain_hit(
    stored: StoredResponse, own: Aged, lines: Iterable[tuple[bytes, bytes]], body: bytes, now: float
) -> Serve | None:
    """Return the answer to a plain GET, as `decide` gives it; None: it is not fresh.

    Args:
        stored: a response that `answers_plainly`, or what many such responses have in common.
        own: the response, or the instants of it.
        lines: its header lines.
        body: its body.
        now: POSIX seconds.
    """
    age = current_age(own, now=now)
    left = stored.freshness_lifetime - age
    if left <= 0:
        return None
    return Serve(
        status=stored.status,
        headers=(*lines, age_line(age)),
        body=body,
        ttl=math.floor(left),
        lifetime_is_ours=stored.lifetime_is_ours,
    )


def answer(
    request: Request, stored: StoredResponse, *, now: float, validated: bool = False
) -> Serve:
    """Return the answer from a stored response whose use was decided: after a 304, or an error."""
    age = current_age(stored, now=now)
    return _serve(
        request,
        stored,
        age,
        stale=age >= stored.freshness_lifetime and not validated,
        validated=validated,
    )


def _wishes(headers: Headers) -> _Wishes:
    lines = headers.get_all(b"cache-control")
    if not lines:
        # RFC 9111 section 5.4 deprecates Pragma; RFC 7234 section 5.4: "When the Cache-Control
        # header field is not present in a request, caches MUST consider the no-cache request
        # pragma-directive as having the same effect".
        asked = b"no-cache" in lower_names(headers.get_all(b"pragma"))
        return _Wishes(no_cache=True) if asked else _NO_WISHES
    directives = parse_cache_control(lines)
    max_age = directives.seconds("max-age")
    return _Wishes(
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        only_if_cached="only-if-cached" in directives,
        max_age=math.inf if max_age is None else max_age,
        min_fresh=directives.seconds("min-fresh") or 0,
        max_stale=_max_stale(directives),
        stale_if_error=directives.seconds("stale-if-error") or 0,
    )


def _max_stale(directives: Directives) -> float | None:
    # Section 5.2.1.2: "If no value is assigned to max-stale, then the client will accept a stale
    # response of any age." An invalid value permits nothing.
    if directives.arguments.get("max-stale", (b"",))[0] is None:
        return math.inf
    return directives.seconds("max-stale") if directives.is_number("max-stale") else None


# --- Constructing responses from caches (section 4) ---------------------------------------------


def _reuse(
    request: Request, stored: StoredResponse, wishes: _Wishes, *, now: float, policy: Policy
) -> Decision:
    age = current_age(stored, now=now)
    # Section 4.2: "response_is_fresh = (freshness_lifetime > current_age)".
    fresh = stored.freshness_lifetime > age
    # Section 4: "the stored response does not contain the no-cache directive (Section 5.2.2.4),
    # unless it is successfully validated".
    if stored.always_validate:
        return _validate("stale", stored, wishes, age, policy)
    if not fresh:
        if _may_be_stale(stored, wishes, age):
            # RFC 5861 section 3: "caches MAY serve the response in which it appears after it
            # becomes stale, up to the indicated number of seconds", and "SHOULD attempt to
            # revalidate it while still serving stale responses".
            return _serve(request, stored, age, stale=True, refresh=_may_revalidate(stored, age))
        return _validate("stale", stored, wishes, age, policy)
    if wishes is not _NO_WISHES and not _suits(stored, wishes, age):
        return _validate("request", stored, wishes, age, policy)
    return _serve(request, stored, age)


def _suits(stored: StoredResponse, wishes: _Wishes, age: float) -> bool:
    # Section 5.2.1.4: "The no-cache request directive indicates that the client prefers a stored
    # response not be used to satisfy the request without successful validation on the origin
    # server." 5.2.1.1: max-age "indicates that the client prefers a response whose age is less than
    # or equal to the specified number of seconds." 5.2.1.3: min-fresh "indicates that the client
    # prefers a response whose freshness lifetime is no less than its current age plus the specified
    # time in seconds."
    if wishes.no_cache or age > wishes.max_age:
        return False
    return stored.freshness_lifetime >= age + wishes.min_fresh or not wishes.min_fresh


def _may_be_stale(stored: StoredResponse, wishes: _Wishes, age: float) -> bool:
    # Section 4.2.4: "A cache MUST NOT generate a stale response if it is prohibited by an explicit
    # in-protocol directive".
    if stored.never_stale or not _suits(stored, wishes, age):
        return False
    # Section 5.2.1.2: "If a value is present, then the client is willing to accept a response that
    # has exceeded its freshness lifetime by no more than the specified number of seconds."
    if wishes.max_stale is not None:
        return age - stored.freshness_lifetime <= wishes.max_stale
    # Section 5.2.1.1: "Unless the max-stale request directive is also present, the client does not
    # wish to receive a stale response."
    return wishes.max_age == math.inf and _may_revalidate(stored, age)


def _may_revalidate(stored: StoredResponse, age: float) -> bool:
    window = stored.stale_while_revalidate
    return window > 0 and age - stored.freshness_lifetime <= window


def _reuse_part(
    request: Request, stored: StoredResponse, wishes: _Wishes, *, now: float
) -> Decision:
    age = current_age(stored, now=now)
    fresh = stored.freshness_lifetime > age and not stored.always_validate
    usable = fresh and _suits(stored, wishes, age)
    headers = headers_with_age(stored, age, validated=False)
    part = part_within(request, stored, headers, now=stored.response_time) if usable else None
    if part is not None:
        ttl = math.floor(stored.freshness_lifetime - age)
        return Serve(status=part.status, headers=part.headers, body=part.body, ttl=ttl)
    if wishes.only_if_cached:
        return OnlyIfCached()
    if not usable:
        # A part is never validated: a new response replaces it.
        return Forward(reason="request" if fresh else "stale")
    return Forward(reason="partial", completing=completing_fields(request, stored))


# --- Asking the application ---------------------------------------------------------------------


def _forward(reason: ForwardReason, wishes: _Wishes) -> Forward | OnlyIfCached:
    # Section 5.2.1.7: "Caches that honor this request directive SHOULD, upon receiving it, respond
    # with either a stored response consistent with the other constraints of the request or a 504
    # (Gateway Timeout) status code."
    return OnlyIfCached() if wishes.only_if_cached else Forward(reason=reason)


def _validate(
    reason: ForwardReason, stored: StoredResponse, wishes: _Wishes, age: float, policy: Policy
) -> Forward | OnlyIfCached:
    if wishes.only_if_cached:
        return OnlyIfCached()
    return Forward(
        reason=reason,
        conditional=conditional_fields(stored),
        stale_if_error=_may_answer_for_error(stored, wishes, age, policy),
    )


def _may_answer_for_error(
    stored: StoredResponse, wishes: _Wishes, age: float, policy: Policy
) -> bool:
    # RFC 5861 section 4: "when an error is encountered, a cached stale response MAY be used to
    # satisfy the request, regardless of other freshness information". Stronger are must-revalidate
    # and similar directives (RFC 9111 section 4.2.4), and a client's no-cache.
    if stored.never_stale or stored.always_validate or wishes.no_cache:
        return False
    window = policy.stale_if_error if stored.stale_if_error is None else stored.stale_if_error
    window = max(window, wishes.stale_if_error)
    return window > 0 and age - stored.freshness_lifetime <= window


# --- Serving ------------------------------------------------------------------------------------


def _serve(
    request: Request,
    stored: StoredResponse,
    age: float,
    *,
    stale: bool = False,
    refresh: bool = False,
    validated: bool = False,
) -> Serve:
    status, body, asked = stored.status, stored.body, request.headers
    headers = headers_with_age(stored, age, validated=validated)
    is_special = status == 200 and asked.has_any(_CONDITIONS_AND_RANGES)
    unmodified = (
        is_special
        and (b"if-none-match" in asked or b"if-modified-since" in asked)
        and is_not_modified(request, stored.headers, response_time=stored.response_time)
    )
    if stored.plain_length is not None:
        sends_body = not unmodified and request.method != "HEAD"
        headers, body = represented(request, stored, headers, sends_body=sends_body)
    if unmodified:
        status, headers, body = 304, not_modified_headers(Headers(tuple(headers))), b""
    elif is_special and b"range" in asked and request.method == "GET":
        # RFC 9110 section 14.2: "A server MUST ignore a Range header field received with a
        # request method that is unrecognized or for which range handling is not defined. For
        # this specification, GET is the only method for which range handling is defined."
        part = partial_response(asked, headers, body, now=stored.response_time)
        if part is not None:
            status, headers, body = part.status, part.headers, part.body
    return Serve(
        status=status,
        headers=headers,
        # RFC 9110 section 9.3.2: HEAD "is identical to GET except that the server MUST NOT send
        # content in the response."
        body=b"" if request.method == "HEAD" else body,
        ttl=math.floor(stored.freshness_lifetime - age),
        stale=stale,
        refresh=refresh,
        lifetime_is_ours=stored.lifetime_is_ours,
    )
