"""Cache-Control for clients where only the cache gave the lifetime."""

from msgspec.structs import replace

from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.message import Request, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.verdicts import MayStore


def has_our_lifetime(request: Request, response: Response, *, now: float, policy: Policy) -> bool:
    """Return whether a response of the application is fresh by our setting alone.

    HEAD is judged as GET; 206 and 304 are judged as the 200 that they stand for. All of these send
    the same header (RFC 9110 sections 9.3.2, 15.3.7 and 15.4.5).
    """
    status = 200 if response.status in (206, 304) else response.status
    arrival = Arrival(
        request=replace(request, method="GET"), response=replace(response, status=status),
        request_time=now, response_time=now, policy=policy,
    )  # fmt: skip
    verdict = memoised_may_store(arrival)
    return isinstance(verdict, MayStore) and verdict.stored.lifetime_is_ours
