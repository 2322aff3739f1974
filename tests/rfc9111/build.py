"""Requests, responses and stored responses for the tests of the rules, all at one made-up time."""

from email.utils import formatdate

from msgspec.structs import replace

from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request, Response, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import recorded_date
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.verdicts import MayNotStore, MayStore, NotFreshened

NOW = 1_800_000_000.0
"""Friday, 15 January 2027, 08:00:00 GMT."""

BODY = b"0123456789"


def date(offset: float = 0.0) -> str:
    """An HTTP date `offset` seconds from NOW."""
    return formatdate(NOW + offset, usegmt=True)


def lines(*texts: str) -> Headers:
    """Header lines written as in a message: `Name: value`."""
    return Headers.copied(
        (name.encode("latin-1"), value.strip().encode("latin-1"))
        for name, _, value in (text.partition(":") for text in texts)
    )


def get(*texts: str, credentials: bool = False, method: str = "GET") -> Request:
    return Request(method=method, headers=lines(*texts), carries_credentials=credentials)


def head(*texts: str) -> Request:
    return get(*texts, method="HEAD")


def reply(*texts: str, status: int = 200) -> Response:
    return Response(status=status, headers=lines(*texts))


def storing(
    *texts: str,
    status: int = 200,
    request: Request | None = None,
    policy: Policy | None = None,
    delay: float = 0.0,
) -> MayStore | MayNotStore:
    """Ask whether a response that arrives at NOW may be stored."""
    return memoised_may_store(
        Arrival(
            request=request or get(), response=reply(*texts, status=status),
            request_time=NOW - delay, response_time=NOW, policy=policy or Policy(),
        )
    )  # fmt: skip


def stored(
    *texts: str,
    status: int = 200,
    request: Request | None = None,
    policy: Policy | None = None,
    delay: float = 0.0,
    body: bytes = BODY,
) -> StoredResponse:
    """Store a response that arrives at NOW; fails when it may not be stored."""
    answer = storing(*texts, status=status, request=request, policy=policy, delay=delay)
    assert isinstance(answer, MayStore), answer
    kept = answer.stored
    dated = recorded_date(kept.headers, policy or Policy(), kept.response_time)
    return replace(kept, headers=kept.headers.adding(dated), body=body)


def refusal(answer: MayStore | MayNotStore | NotFreshened) -> str:
    """The reason why it may not be stored; fails when it may."""
    if isinstance(answer, NotFreshened):
        return answer.name
    assert isinstance(answer, MayNotStore), answer
    return answer.reason


def values(headers: Headers | Serve | MayStore | StoredResponse, name: str) -> list[str]:
    """The values of all lines of that name, whatever holds them."""
    if isinstance(headers, MayStore):
        headers = headers.stored
    raw = headers if isinstance(headers, Headers) else Headers.copied(headers.headers)
    return [value.decode("latin-1") for value in raw.get_all(name.encode())]
