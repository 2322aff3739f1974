"""Default lifetime: the URLs that `CACHE_EXPIRATION` does not apply to.

A probe asks for the state of this moment, and a secret in a query makes the URL one client's own. A
lifetime that the response, a decorator or a rule states holds for them too.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_PROBES: Final = frozenset({
    "health", "healthz", "healthcheck", "health-check", "health_check", "healthchecks", "livez",
    "liveness", "readyz", "readiness", "metrics", "ping",
})  # fmt: skip
"""Last segments of paths by which orchestrators, load balancers and monitors ask."""
_STATES: Final = frozenset({"live", "ready"})
"""The same at the root and beneath `/health`; elsewhere these are ordinary words."""
_SECRET: Final = re.compile(
    rb"(?i)(?:^|[&;])(?:"
    rb"(?:access|auth|bearer|id|refresh|reset|security|session|sas|x[_-]amz[_-]security)?[_-]?token"
    rb"|(?:x[_-](?:amz|goog)[_-])?signature|sig|hmac|jwt"
    rb"|(?:x[_-])?(?:api|access|secret)[_-]?key|(?:client[_-]?)?secret"
    rb"|password|passwd|passphrase|pwd|otp|totp|ticket|session[_-]?id|authorization"
    rb")=",
)
"""Names of parameters that carry a secret; each is a whole name, so that `zip_code` is none."""
_CODE: Final = re.compile(rb"(?:^|[&;])code=")
_STATE: Final = re.compile(rb"(?:^|[&;])state=")
"""Beside a code: the return from an authorization server (RFC 6749 section 4.1.2)."""


def takes_default(path: str, query: bytes) -> bool:
    """Return whether the default lifetime applies to a URL, by its decoded path and its query."""
    return not (_is_probe(path) or (query and carries_secret(query)))


def _is_probe(path: str) -> bool:
    *front, last = path.strip("/").lower().rsplit("/", 2)
    at_home = not front or front[-1].startswith("health")
    return last in _PROBES or (last in _STATES and at_home)


def carries_secret(query: bytes) -> bool:
    """Return whether a query has a parameter that carries a secret."""
    if b"%" in query:
        query = unquote_to_bytes(query)
    return _SECRET.search(query) is not None or (
        _CODE.search(query) is not None and _STATE.search(query) is not None
    )
