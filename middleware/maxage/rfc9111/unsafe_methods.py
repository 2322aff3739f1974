"""Unsafe methods: which of their answers invalidate stored responses (RFC 9111 section 4.4)."""

from typing import Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from maxage.rfc9111.message import Headers

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URI_BYTES: Final = "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\""
"""Bytes that are not escaped in a reference; controls, spaces and bytes above 127 are."""


def is_unsafe(method: str) -> bool:
    """Return whether a request with this method may change something."""
    # RFC 9110 section 9.2.1: "Of the request methods defined by this specification, the GET, HEAD,
    # OPTIONS, and TRACE methods are defined to be safe."
    # RFC 10008 section 2.1: "QUERY requests are safe with regard to the target resource".
    # RFC 9111 section 4.4 adds "methods whose safety is unknown". Methods are case-sensitive.
    return method not in _SAFE


def invalidates(status: int, *, errors_purge: bool = True) -> bool:
    """Return whether an unsafe request that was answered with this status invalidates."""
    # RFC 9111 section 4.4: "A cache MUST invalidate the target URI [...] when it receives a
    # non-error status code in response to an unsafe request method (including methods whose safety
    # is unknown)"; 'A "non-error response" is one with a 2xx (Successful) or 3xx (Redirection)
    # status code.'
    if 200 <= status < 400:
        return True
    # Beyond the RFC: a request that ended in 5xx may have made its change.
    return errors_purge and status >= 500


def same_origin_targets(headers: Headers, *, scheme: str, host: str, path: str) -> tuple[str, ...]:
    """Return path and query of the URIs in Location and Content-Location. Never raises.

    `host` is the authority of the request (`example.com:8000`), `path` its raw path. References to
    another origin are left out.
    """
    # RFC 9111 section 4.4: "A cache MAY invalidate other URIs when it receives a non-error status
    # code in response to an unsafe request method [...]. In particular, the URI(s) in the Location
    # and Content-Location response header fields (if present) are candidates for invalidation".
    base = f"{scheme}://{host}{path}"
    lines = (*headers.get_all(b"location"), *headers.get_all(b"content-location"))
    targets = (_target(base, line) for line in lines)
    return tuple(dict.fromkeys(target for target in targets if target is not None))


def _target(base: str, reference: bytes) -> str | None:
    try:
        origin = urlsplit(base)
        resolved = urlsplit(urljoin(base, quote(reference.strip(), safe=_URI_BYTES)))
        same = _origin(origin) == _origin(resolved)
    except ValueError:  # not a URI reference, for instance "http://[" or a port above 65535
        return None
    # "However, a cache MUST NOT trigger an invalidation under these conditions if the origin [...]
    # of the URI to be invalidated differs from that of the target URI".
    if not same:
        return None
    return (resolved.path or "/") + (f"?{resolved.query}" if resolved.query else "")


def _origin(uri: SplitResult) -> tuple[str, str | None, int | None]:
    return uri.scheme, uri.hostname, uri.port or _DEFAULT_PORTS.get(uri.scheme)
