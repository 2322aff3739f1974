"""Updating stored responses: after a 304 and after HEAD (sections 3.2, 4.3.4 and 4.3.5)."""

from typing import Final

from msgspec.structs import replace

from maxage.rfc9111.directives import governing
from maxage.rfc9111.message import Headers, Request, Response, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import as_stored, hop_by_hop
from maxage.rfc9111.storing import lifetime_of, objection, verdict
from maxage.rfc9111.validation import compare_validators
from maxage.rfc9111.verdicts import MayNotStore, MayStore, Reason

_VALIDATORS: Final = (b"etag", b"last-modified")

_NOT_UPDATED: Final = frozenset({b"content-encoding", b"content-length", b"content-range"})


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
    control = governing(response.headers, policy.cache_targets)
    lifetime = lifetime_of(request, response, control, response_time, policy)
    built = as_stored(
        request,
        response,
        control,
        lifetime,
        request_time=request_time,
        response_time=response_time,
        policy=policy,
    )
    built = replace(built, body=stored.body)
    reason = objection(request, response, control, lifetime, policy)
    if reason is not None:
        return MayNotStore(reason=reason, freshened=built)
    outcome = verdict(built, lifetime, control.directives, policy)
    return replace(outcome, freshened=built) if isinstance(outcome, MayNotStore) else outcome


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
