"""Verdicts of `storing.may_store`, memoised by the header fields that they depend on.

An application sends few combinations of these fields. The fields that differ from response to
response, such as Content-Length, decide nothing.
"""

from functools import lru_cache
from itertools import chain
from typing import Final

from msgspec.structs import replace

from maxage.observe.words import Reason
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.directives import OWN_TARGET, governing
from maxage.rfc9111.message import Headers, Outline, Request, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import dropped_fields
from maxage.rfc9111.storing import may_store
from maxage.rfc9111.vary import selecting_values
from maxage.rfc9111.verdicts import MayNotStore, MayStore

_TELLING_TIME: Final = frozenset({b"age", b"date", b"expires", b"last-modified"})
"""Fields that make a verdict depend on the time of the response."""
_DECIDING: Final = frozenset({
    b"access-control-allow-origin", b"cache-control", b"connection", b"content-disposition",
    b"content-type", OWN_TARGET, b"pragma", b"vary", b"x-accel-buffering",
})  # fmt: skip
"""Fields whose values a verdict depends on, besides targeted ones. Of all others only the presence
counts; of an ETag, that it has a value too."""
_SOME_VALUE: Final = b"*"
_MEMOISED: Final = 512
"""Verdicts."""


def memoised_may_store(arrival: Arrival) -> MayStore | MayNotStore:
    """Return the verdict of `storing.may_store`, from the memo where that is possible."""
    request, response, policy = arrival.request, arrival.response, arrival.policy
    headers = response.headers
    outline = headers.outline()
    deciding = _deciding(outline, policy)
    if (
        deciding is None
        or request.method != "GET"
        or request.carries_credentials
        or (not request.is_bare and b"cache-control" in request.headers)
        or response.status == 206
        or (b"etag" in outline.at and not headers.first(b"etag"))
    ):
        return may_store(arrival)
    raw = headers.raw
    values = tuple([raw[place][1] for place in deciding])
    verdict, dropped = _verdict_on(response.status, outline, values, policy)
    if not isinstance(verdict, MayStore):
        return verdict
    # Without Date and Age its age is the time that it took.
    response_time, stored = arrival.response_time, verdict.stored
    age = response_time - arrival.request_time
    if age < 0:
        age = 0.0
    if verdict.keep_for <= age:
        return MayNotStore(reason=Reason.LIFETIME_0)
    selected_by = stored.vary_names
    stored = replace(
        stored,
        headers=headers.without(dropped) if dropped else headers,
        request_time=arrival.request_time,
        response_time=response_time,
        corrected_initial_age=age,
        selecting=selecting_values(selected_by, request.headers, policy) if selected_by else (),
    )
    return MayStore(stored=stored, keep_for=verdict.keep_for - age)


@lru_cache(maxsize=_MEMOISED)
def _deciding(outline: Outline, policy: Policy) -> tuple[int, ...] | None:
    """Return the places of the lines that a verdict depends on; None: it depends on the time."""
    if not _TELLING_TIME.isdisjoint(outline.at):
        return None
    deciding = _DECIDING.union(policy.cache_targets)
    return tuple(
        chain.from_iterable([places for name, places in outline.at.items() if name in deciding])
    )


@lru_cache(maxsize=_MEMOISED)
def _verdict_on(
    status: int, outline: Outline, values: tuple[bytes, ...], policy: Policy
) -> tuple[MayStore | MayNotStore, frozenset[bytes]]:
    """Return the verdict on a response that took no time, and which of its fields are dropped.

    `values` are those of the deciding lines.
    """
    known = dict(zip(_deciding(outline, policy) or (), values, strict=True))
    lines = [
        (name, known.get(place, _SOME_VALUE))
        for name, places in outline.at.items()
        for place in (places if places[0] in known else places[:1])
    ]
    response = Response(status=status, headers=Headers(tuple(lines)))
    dropped = dropped_fields(
        response.headers, governing(response.headers, policy.cache_targets).directives, policy
    )
    arrival = Arrival(
        request=Request(method="GET"), response=response, request_time=0, response_time=0,
        policy=policy,
    )  # fmt: skip
    return may_store(arrival), dropped.intersection(outline.at)
