"""Default lifetime: the URLs that `CACHE_EXPIRATION` does not apply to.

A probe asks for the state of this moment, and a secret in a query makes the URL one client's own. A
lifetime that the response, a decorator or a rule states holds for them too.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_PROBE: Final = re.compile(
    r"(?:^|/)(?:health|healthz|healthcheck|health-check|health_check|healthchecks"
    r"|livez|liveness|readyz|readiness|metrics|ping)/*\Z"
    r"|(?:^/*|(?:^|/)health[^/]*/)(?:live|ready)/*\Z"
)
"""Lower-case paths by whose last segment orchestrators, load balancers and monitors ask. `live` and
`ready` are ordinary words, but at the root and beneath `/health`."""
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
    return not (_PROBE.search(path.lower()) or (query and carries_secret(query)))


def carries_secret(query: bytes) -> bool:
    """Return whether a query has a parameter that carries a secret."""
    if b"%" in query:
        query = unquote_to_bytes(query)
    return _SECRET.search(query) is not None or (
        _CODE.search(query) is not None and _STATE.search(query) is not None
    )
