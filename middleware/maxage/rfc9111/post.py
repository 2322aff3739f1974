"""Responses to POST that may answer later GETs (RFC 9110 section 9.3.3)."""

from maxage.rfc9111.directives import governing
from maxage.rfc9111.freshness import explicit_lifetime
from maxage.rfc9111.message import Headers, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.unsafe_methods import same_origin_targets


def answers_get(
    response: Response, *, scheme: str, host: str, target: str, response_time: float, policy: Policy
) -> bool:
    """Return whether a response to POST may be stored as the response to GET.

    `target` is the raw path and query of the POST, `host` its authority.
    """
    # RFC 9110 section 9.3.3: "Responses to POST requests are only cacheable when they include
    # explicit freshness information (see Section 4.2.1 of [CACHING]) and a Content-Location header
    # field that has the same value as the POST's target URI (Section 8.7). A cached POST response
    # can be reused to satisfy a later GET or HEAD request."
    locations = response.headers.get_all(b"content-location")
    if response.status != 200 or len(locations) != 1:
        return False
    named = same_origin_targets(
        Headers(((b"content-location", locations[0]),)), scheme=scheme, host=host, path=target
    )
    if named != (target,):
        return False
    control = governing(response.headers, policy.cache_targets)
    lifetime = explicit_lifetime(response.headers, control, response_time=response_time)
    return lifetime is not None and lifetime > 0
