"""A response as it arrives: all that the rules for storing it depend on, in one value."""

from typing import final

from msgspec import Struct

from maxage.rfc9111.message import Request, Response
from maxage.rfc9111.policy import Policy


@final
class Arrival(Struct, frozen=True, kw_only=True, gc=False):
    """A response with the request that it answers, and the policy for it; POSIX seconds."""

    request: Request
    response: Response
    request_time: float
    """When the request was forwarded."""
    response_time: float
    policy: Policy
