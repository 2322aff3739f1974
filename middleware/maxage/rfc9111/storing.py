"""Storing responses: whether, and for how long (RFC 9111 section 3)."""

from typing import Final

from maxage.observe.words import Reason
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.credentials import forbid_storing
from maxage.rfc9111.directives import Control, Directives, governing, parse_cache_control
from maxage.rfc9111.freshness import ONE_DAY, Lifetime, lifetime_of, media_type
from maxage.rfc9111.message import Headers, Request, Response, StoredResponse
from maxage.rfc9111.partial import may_keep_part
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import COOKIES, as_stored
from maxage.rfc9111.validation import has_validator
from maxage.rfc9111.vary import vary_names
from maxage.rfc9111.verdicts import MayNotStore, MayStore

WINDOW: Final = 60.0
"""Seconds that a stale response is kept at least, for max-stale, HEAD and validation."""
# RFC 6585: "Responses with the 428 [429, 431, 511] status code MUST NOT be stored by a cache."
_NEVER_STORED: Final = frozenset({428, 429, 431, 511})
_UNDERSTOOD_METHODS: Final = frozenset({"GET", "QUERY"})
"""QUERY (RFC 10008) comes this far only by a setting; its key includes its content."""
_OF_ONE_REQUEST: Final = frozenset(range(400, 432)) - {404, 405, 410, 414}
"""Client errors that a header field of one request may cause. The other ones depend on the URL, or
are the application's own, such as 499."""
_UNDERSTOOD: Final = (
    frozenset({*range(200, 206), *range(300, 304), 307, 308})
    | frozenset({*range(400, 412), *range(413, 416), 417, 421, 422, 426, 451})
    | frozenset(range(500, 506))
)
"""Statuses whose caching requirements are kept here (RFC 9110 section 15, RFC 7725)."""


def may_store(arrival: Arrival) -> MayStore | MayNotStore:
    """Return whether the response may be stored, and its stored form."""
    # RFC 9111 section 3: "A cache MUST NOT store a response to a request unless: the request method
    # is understood by the cache".
    if arrival.request.method not in _UNDERSTOOD_METHODS:
        return MayNotStore(reason=Reason.METHOD)
    control = governing(arrival.response.headers, arrival.policy.cache_targets)
    lifetime = lifetime_of(arrival, control)
    reason = objection(arrival, control, lifetime)
    if reason is not None:
        return MayNotStore(reason=reason)
    stored = as_stored(arrival, control, lifetime)
    return verdict(stored, lifetime, control.directives, arrival.policy)


def verdict(
    stored: StoredResponse, lifetime: Lifetime, directives: Directives, policy: Policy
) -> MayStore | MayNotStore:
    """Return for how long a response that may be stored is useful."""
    # Section 3: "some caches will not store a response that has neither a cache validator nor an
    # explicit expiration time, as such responses are not usually useful to store."
    if not _is_worth_it(stored, policy):
        unstated = lifetime.source == "none" and not policy.lifetime_is_declared
        return MayNotStore(reason=Reason.NO_LIFETIME if unstated else Reason.LIFETIME_0)
    keep_for = _keep_for(stored, lifetime, directives, policy)
    if keep_for <= 0:
        return MayNotStore(reason=Reason.LIFETIME_0)
    return MayStore(stored=stored, keep_for=keep_for)


def objection(arrival: Arrival, control: Control, lifetime: Lifetime) -> Reason | None:
    """Return the first reason against storing the response, or None."""
    request, response, policy = arrival.request, arrival.response, arrival.policy
    return (
        _unfit_status(request, response, policy)
        or _forbidden_by_request(request, control.directives, policy)
        or _forbidden_by_response(response, control.directives)
        or _forbidden_by_policy(response, control.directives, lifetime, policy)
    )


def _unfit_status(request: Request, response: Response, policy: Policy) -> Reason | None:
    status = response.status
    # Section 3: "the response status code is final", and "if the response status code is 206 or
    # 304, [...] the cache understands the response status code".
    kept_part = status == 206 and policy.store_partial and may_keep_part(request, response)
    if status in (206, 416) and not kept_part:
        return Reason.PARTIAL
    # A 304 or a 412 answers the conditions of one request.
    if status in (304, 412):
        return Reason.CONDITIONAL
    if not 200 <= status <= 599 or status in _NEVER_STORED:
        return Reason.STATUS
    return None


def _forbidden_by_request(
    request: Request, directives: Directives, policy: Policy
) -> Reason | None:
    # Section 5.2.1.5: "The no-store request directive indicates that a cache MUST NOT store any
    # part of either this request or any response to it."
    if policy.obey_request_directives and b"cache-control" in request.headers:
        asked = parse_cache_control(request.headers.get_all(b"cache-control"))
        if "no-store" in asked:
            return Reason.REQUEST_NO_STORE
    if forbid_storing(request, directives):
        return Reason.CREDENTIALS
    return None


def _forbidden_by_response(response: Response, directives: Directives) -> Reason | None:
    # Section 5.2.2.3: "When a cache that implements the must-understand directive receives a
    # response that includes it, the cache SHOULD ignore the no-store directive if it understands
    # and implements the status code's caching requirements."
    must_understand = "must-understand" in directives
    if must_understand and response.status not in _UNDERSTOOD:
        return Reason.STATUS
    # Section 3: "the no-store cache directive is not present in the response".
    if "no-store" in directives and not (must_understand and directives.well_formed):
        return Reason.NO_STORE
    # "if the cache is shared: the private response directive is either not present or allows a
    # shared cache to store a modified response".
    if directives.unqualified("private"):
        return Reason.PRIVATE
    if vary_names(response.headers) is None:
        return Reason.VARY_STAR
    return _forbidden_by_type(response.headers)


_STREAMS: Final = frozenset({b"text/event-stream", b"multipart/x-mixed-replace"})
"""Media types of endless responses."""


def _forbidden_by_type(headers: Headers) -> Reason | None:
    return Reason.STREAM if media_type(headers) in _STREAMS else None


def _forbidden_by_policy(
    response: Response, directives: Directives, lifetime: Lifetime, policy: Policy
) -> Reason | None:
    # Deviation: section 7.3 of the RFC leaves Set-Cookie to the origin's other directives. Here one
    # user's cookie never reaches another user by an oversight.
    listed = {*directives.field_names("private"), *directives.field_names("no-cache")}
    has_cookie = any(name in response.headers for name in COOKIES - listed)
    if has_cookie and not (policy.store_set_cookie and lifetime.source == "explicit"):
        return Reason.SET_COOKIE
    if response.status >= 500 and not policy.store_server_errors:
        return Reason.SERVER_ERROR
    # Other statuses than 200 are stored only with freshness of their own.
    if response.status != 200 and lifetime.source == "none":
        return Reason.NO_LIFETIME
    # Deviation: section 3 lets an explicit lifetime make any final status storable. A client that
    # provokes a 400 by a header field would deny the URL to all others for as long (cache-poisoned
    # denial of service).
    if response.status in _OF_ONE_REQUEST and not policy.store_client_errors:
        return Reason.CLIENT_ERROR
    return None


def _is_worth_it(stored: StoredResponse, policy: Policy) -> bool:
    if _can_be_validated(stored) or _stale_window(stored, policy) > 0:
        return True
    return stored.freshness_lifetime > 0 and not stored.always_validate


def _can_be_validated(stored: StoredResponse) -> bool:
    return stored.status == 200 and has_validator(stored.headers, now=stored.response_time)


def _stale_window(stored: StoredResponse, policy: Policy) -> float:
    """Return for how long after its lifetime the response may be used without validation."""
    if stored.never_stale or stored.always_validate:
        return 0.0
    on_error = policy.stale_if_error if stored.stale_if_error is None else stored.stale_if_error
    return max(stored.stale_while_revalidate, on_error)


def _keep_for(
    stored: StoredResponse, lifetime: Lifetime, directives: Directives, policy: Policy
) -> float:
    fresh = stored.freshness_lifetime - stored.corrected_initial_age
    # The response may ask for any time; all other uses end after a day.
    useful = max(fresh + _stale_window(stored, policy), max(0.0, fresh) + _grace(stored, policy))
    ours = min(useful, ONE_DAY)
    if lifetime.source != "explicit":
        return ours
    return max(fresh + _own_window(stored, directives), ours)


def _grace(stored: StoredResponse, policy: Policy) -> float:
    """Return for how long a stale response is useful for validation and max-stale."""
    if _can_be_validated(stored):
        return max(stored.freshness_lifetime, WINDOW)
    if not policy.obey_request_directives or stored.never_stale or stored.always_validate:
        return 0.0
    return WINDOW  # max-stale


def _own_window(stored: StoredResponse, directives: Directives) -> float:
    if stored.never_stale or stored.always_validate:
        return 0.0
    names = ("stale-while-revalidate", "stale-if-error")
    return float(max(directives.seconds(name) or 0 for name in names))
