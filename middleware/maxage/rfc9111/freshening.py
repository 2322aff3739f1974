"""Updating stored responses: after a 304 and after HEAD (sections 3.2, 4.3.4 and 4.3.5)."""

from itertools import chain
from typing import Final

from msgspec.structs import replace

from maxage.observe.words import Reason
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.content_coding import still_coded
from maxage.rfc9111.directives import governing
from maxage.rfc9111.freshness import lifetime_of
from maxage.rfc9111.message import Headers, Response, StoredResponse
from maxage.rfc9111.stored_response import as_stored, hop_by_hop, recorded_date
from maxage.rfc9111.storing import objection, verdict
from maxage.rfc9111.validation import is_about_another
from maxage.rfc9111.verdicts import MayNotStore, MayStore, NotFreshened
from maxage.zstd import DamagedBodyError

_VALIDATORS: Final = (b"etag", b"last-modified")

_NOT_UPDATED: Final = frozenset({b"content-encoding", b"content-length", b"content-range"})


def freshen(stored: StoredResponse, not_modified: Arrival) -> MayStore | MayNotStore | NotFreshened:
    """Update a stored response from the 304 that validated it (section 4.3.4).

    A 304 that forbids storing (by no-store, for instance) still gives the updated response, for
    this one request. With `MISMATCH` the 304 is about another response: ask the application
    again without conditions.
    """
    # Deviation: section 4.3.4 lets a 304 without any validator update only a stored response that
    # has none. Here the request carried the validators of this one stored response, so that the 304
    # can mean no other one. Many applications leave the validators out of a 304.
    if is_about_another(stored.headers, not_modified.response.headers):
        return NotFreshened.MISMATCH
    return _updated(stored, not_modified)


def freshen_from_head(
    stored: StoredResponse, arrival: Arrival
) -> MayStore | MayNotStore | NotFreshened:
    """Update a stored response from a 200 to HEAD (section 4.3.5).

    `MISMATCH`: the application would send another response now. All other reasons say
    nothing about the stored response.
    """
    head = arrival.response
    # Section 4.3.5: "When a cache makes an inbound HEAD request for a target URI and receives a 200
    # (OK) response, the cache SHOULD update or invalidate each of its stored GET responses that
    # could have been chosen for that request".
    if head.status != 200 or stored.status != 200:
        return MayNotStore(reason=Reason.STATUS)
    if not (_same_validators(stored, head.headers) and _same_length(stored, head.headers)):
        return NotFreshened.MISMATCH
    # Deviation: section 4.3.5 would update also when the HEAD response has no validator at all.
    # Nothing proves then that the stored content is still current.
    if not any(name in head.headers for name in _VALIDATORS):
        return NotFreshened.NO_VALIDATOR
    return _updated(stored, arrival)


def _same_validators(stored: StoredResponse, head: Headers) -> bool:
    # Section 4.3.5: "if the stored response and HEAD response have matching values for any received
    # validator fields (ETag and Last-Modified)".
    received = [name for name in _VALIDATORS if name in head]
    return all(head.first(name) == stored.headers.first(name) for name in received)


def _same_length(stored: StoredResponse, head: Headers) -> bool:
    # Section 4.3.5: "if the HEAD response has a Content-Length header field, the value of
    # Content-Length matches that of the stored response".
    length = head.first(b"content-length")
    return length is None or length.strip() == b"%d" % stored.length


# --- Updating stored header fields (section 3.2) ------------------------------------------------


def _updated(stored: StoredResponse, update: Arrival) -> MayStore | MayNotStore | NotFreshened:
    headers = merged(stored.headers, update.response.headers)
    arrival = replace(update, response=Response(status=stored.status, headers=headers))
    control = governing(headers, arrival.policy.cache_targets)
    lifetime = lifetime_of(arrival, control)
    kept = as_stored(arrival, control, lifetime)
    dated = recorded_date(kept.headers, arrival.policy, arrival.response_time)
    freshened = replace(
        kept, headers=kept.headers.adding(dated), body=stored.body,
        plain_length=stored.plain_length,
    )  # fmt: skip
    try:
        freshened = still_coded(freshened)
    except DamagedBodyError:
        return NotFreshened.MISMATCH
    reason = objection(arrival, control, lifetime)
    if reason is not None:
        return MayNotStore(reason=reason, freshened=freshened)
    outcome = verdict(freshened, lifetime, control.directives, arrival.policy)
    return replace(outcome, freshened=freshened) if isinstance(outcome, MayNotStore) else outcome


def merged(stored: Headers, update: Headers) -> Headers:
    """Return the stored lines, each replaced by the update's lines of the same name."""
    # Section 3.2: "the cache MUST add each header field in the provided response to the stored
    # response, replacing field values that are already present, with the following exceptions:
    # Header fields excepted from storage in Section 3.1, Header fields that the cache's stored
    # response depends upon [...], and The Content-Length header field." The stored body depends on
    # its content codings. Stored Age and Date go: they describe an earlier response.
    # Deviation: another media type is not taken over, and browsers do the same. The body is still
    # of the stored one, and frameworks give an empty 304 their default type.
    kept = _NOT_UPDATED if _same_type(stored, update) else _NOT_UPDATED | {b"content-type"}
    fresh = update.without(kept | hop_by_hop(update))
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
    return Headers((*result, *chain.from_iterable(lines.values())))


def _same_type(stored: Headers, update: Headers) -> bool:
    """Return whether both name one media type, whatever its parameters are."""
    old, new = (
        (headers.first(b"content-type") or b"").partition(b";")[0].strip().lower()
        for headers in (stored, update)
    )
    return old == new
