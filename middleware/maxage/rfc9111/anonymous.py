"""Anonymous responses: the application looked who asks, and the request identified nobody."""

from collections.abc import Collection
from typing import Final

from maxage.rfc9111.message import Headers

_IMPERSONAL: Final = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language access-control-request-headers
    access-control-request-method baggage cache-control cdn-loop cf-connecting-ip cf-ipcountry
    cf-ray cf-visitor connection content-encoding content-language content-length content-type
    cookie device-memory dnt downlink dpr ect expect forwarded front-end-https host if-match
    if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards origin
    pragma priority purpose range referer rtt save-data sec-ch-prefers-color-scheme
    sec-ch-prefers-reduced-motion sec-ch-ua sec-ch-ua-arch sec-ch-ua-bitness
    sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform
    sec-ch-ua-platform-version sec-ch-viewport-width sec-fetch-dest sec-fetch-mode sec-fetch-site
    sec-fetch-user sec-gpc sec-purpose te traceparent tracestate trailer transfer-encoding
    true-client-ip upgrade upgrade-insecure-requests user-agent via viewport-width width
    x-amzn-trace-id x-b3-parentspanid x-b3-sampled x-b3-spanid x-b3-traceid x-client-ip
    x-cloud-trace-context x-cluster-client-ip x-correlation-id x-envoy-attempt-count
    x-envoy-expected-rq-timeout-ms x-envoy-external-address x-forwarded-for x-forwarded-host
    x-forwarded-path x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-scheme
    x-forwarded-server x-forwarded-ssl x-host x-purpose x-real-ip x-request-id x-request-start
    x-requested-with x-scheme x-url-scheme
    """.split()
)
"""Names of request fields that clients and proxies send whether a user is known or not. Cookies and
other credentials that the settings name are looked for before."""


def may_identify(headers: Headers, varied: Collection[bytes]) -> bool:
    """Return whether a request has a field by which the application may know its user.

    Args:
        headers: of the request.
        varied: the fields whose values are known to be those of the stored response's request.
    """
    return not _IMPERSONAL.issuperset({name.lower() for name, _ in headers.raw}.difference(varied))
