"""Verdicts on kinds of responses: what was decided about one need not be decided again.

An application answers with few kinds of heads. What is decided about one does not depend on the
fields that differ from response to response, such as Content-Length.
"""

from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from maxage.rfc9111.directives import OWN_TARGET, governing
from maxage.rfc9111.message import Headers, Request, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import dropped_fields, kept_headers
from maxage.rfc9111.storing import may_store_alone
from maxage.rfc9111.vary import selecting_values
from maxage.rfc9111.verdicts import MayNotStore, MayStore, Reason

_TELLING_TIME: Final = frozenset({b"age", b"date", b"expires", b"last-modified"})
"""Fields by which a verdict depends on when the response came."""
_DECIDING: Final = frozenset({
    b"access-control-allow-origin", b"cache-control", b"connection", b"content-type", b"etag",
    OWN_TARGET, b"pragma", b"set-cookie", b"vary",
})  # fmt: skip
"""All other fields that a verdict depends on, targeted ones apart. No rule sees more of a kind."""
_PRESENT: Final = frozenset({b"etag", b"set-cookie"})
"""Those of which only this counts, that they are there and not empty."""
_REMEMBERED: Final = 512
"""Kinds."""

_Fields = tuple[tuple[bytes, tuple[bytes, ...]], ...]
"""Names in lower case, each with the values of its lines."""


def may_store(
    request: Request,
    response: Response,
    *,
    request_time: float,
    response_time: float,
    policy: Policy,
) -> MayStore | MayNotStore:
    """Say whether the response may be stored, and as what."""
    fields = _deciding_fields(request, response, policy)
    if fields is None:
        return may_store_alone(
            request,
            response,
            request_time=request_time,
            response_time=response_time,
            policy=policy,
        )
    kind, dropped = _of_kind(response.status, fields, policy)
    # Without Date and Age its age is the time that it took.
    age = max(0.0, response_time - request_time)
    if isinstance(kind, MayNotStore):
        return kind
    if kind.keep_for <= age:
        return MayNotStore(reason=Reason.USELESS)
    stored = replace(
        kind.stored,
        headers=kept_headers(response.headers, dropped, policy, response_time),
        request_time=request_time,
        response_time=response_time,
        corrected_initial_age=age,
        selecting=selecting_values(kind.stored.vary_names, request.headers, policy),
    )
    return MayStore(stored=stored, keep_for=kind.keep_for - age)


def _deciding_fields(request: Request, response: Response, policy: Policy) -> _Fields | None:
    """Return the fields by which a response is of its kind; None where more than they decides."""
    headers = response.headers
    if (
        request.method != "GET"
        or request.carries_credentials
        or b"cache-control" in request.headers
        or response.status == 206
        or headers.has_any(_TELLING_TIME)
    ):
        return None
    targets = policy.cache_targets
    return tuple(
        [
            (name, tuple([value and b"*" for value in values]) if name in _PRESENT else values)
            for name, values in headers.fields()
            if name in _DECIDING or name in targets
        ]
    )


@lru_cache(maxsize=_REMEMBERED)
def _of_kind(
    status: int, fields: _Fields, policy: Policy
) -> tuple[MayStore | MayNotStore, frozenset[bytes]]:
    """Return the verdict on a response that takes no time, and the fields that are not kept."""
    lines = tuple((name, value) for name, values in fields for value in values)
    response = Response(status=status, headers=Headers.of(lines))
    dropped = dropped_fields(
        response.headers, governing(response.headers, policy.cache_targets).directives, policy
    )
    kind = may_store_alone(
        Request(method="GET"), response, request_time=0, response_time=0, policy=policy
    )
    return kind, dropped
