"""Credentials of a request (RFC 9111 section 3.5): what counts as some, and what follows from them.

A request with a cookie or other credentials bypasses every stored response that its application
did not call shareable (`bypasses`), and its own response is not stored
(`forbid_storing`). A response that is stored as anonymous, because the application looked who asks
and found no user, does not answer a request with a field that may name one (`may_identify`).
"""

import re
from collections.abc import Collection, Iterable
from typing import Final, final

from maxage.observe.words import Reason
from maxage.rfc9111.directives import Directives
from maxage.rfc9111.message import Headers, Request, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import is_shareable

IMPERSONAL: Final = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language access-control-request-headers
    access-control-request-method b3 baggage cache-control cdn-loop cf-connecting-ip cf-ipcountry
    cf-ray cf-visitor connection content-encoding content-language content-length content-type
    cookie device-memory dnt downlink dpr ect expect forwarded front-end-https host if-match
    if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards origin
    pragma priority purpose range referer rtt save-data sec-ch-prefers-color-scheme
    sec-ch-prefers-reduced-motion sec-ch-ua sec-ch-ua-arch sec-ch-ua-bitness
    sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform
    sec-ch-ua-platform-version sec-ch-viewport-width sec-fetch-dest sec-fetch-mode sec-fetch-site
    sec-fetch-user sec-gpc sec-purpose sentry-trace te traceparent tracestate trailer
    transfer-encoding true-client-ip upgrade upgrade-insecure-requests user-agent via viewport-width
    width x-amzn-trace-id x-b3-parentspanid x-b3-sampled x-b3-spanid x-b3-traceid x-client-ip
    x-cloud-trace-context x-cluster-client-ip x-correlation-id x-envoy-attempt-count
    x-envoy-expected-rq-timeout-ms x-envoy-external-address x-forwarded-for x-forwarded-host
    x-forwarded-path x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-scheme
    x-forwarded-server x-forwarded-ssl x-host x-purpose x-queue-start x-real-ip x-request-id
    x-request-start hx-boosted hx-current-url hx-history-restore-request hx-request hx-target
    hx-trigger hx-trigger-name turbo-frame x-inertia x-inertia-version x-pjax x-requested-with
    x-scheme x-url-scheme hx-prompt x-pjax-container x-inertia-error-bag x-inertia-reset
    x-inertia-partial-component x-inertia-partial-data x-inertia-partial-except x-up-version
    x-up-target x-up-mode x-up-context x-up-fail-target x-up-fail-mode x-up-fail-context
    x-up-validate x-alpine-request x-alpine-target datastar-request
    """.split()
)
"""Names of request fields that clients and proxies send whether a user is known or not. Cookies and
other credentials that the settings name are looked for before."""


@final
class CredentialFields:
    """Tells which header fields are credentials.

    Args:
        names: of fields besides Authorization and Cookie.
        ignored_cookies: names of cookies that are none; `*` stands for any characters.
        authorization_only: only Authorization counts, as RFC 9111 says.
    """

    def __init__(
        self, names: Iterable[str], ignored_cookies: Iterable[str], *, authorization_only: bool
    ) -> None:
        others = () if authorization_only else names
        self._cookies_count: Final = not authorization_only
        self.names: Final = frozenset({b"authorization", *(n.lower().encode() for n in others)})
        """Names of the fields, lower case, but for Cookie."""
        self._any: Final = self.names | {b"cookie"}
        self._ignored_cookie: Final = named_like(ignored_cookies).fullmatch

    def kind_in(self, headers: Headers) -> Reason | None:
        """Return the kind of credentials in the fields; None: there are none."""
        if not headers.has_any(self._any):
            return None
        if headers.has_any(self.names):
            return Reason.CREDENTIALS
        return Reason.COOKIE if self._has_personal_cookie(headers) else None

    def _has_personal_cookie(self, headers: Headers) -> bool:
        if not self._cookies_count:
            return False
        names = (
            part.partition(b"=")[0].strip().decode("latin-1")
            for line in headers.get_all(b"cookie")
            for part in line.split(b";")
        )
        return any(name and not self._ignored_cookie(name) for name in names)


def bypasses(request: Request, stored: StoredResponse, policy: Policy) -> bool:
    """Return whether a request goes to the application though a response is stored.

    It does with credentials, unless the stored response says `public`, `s-maxage` or
    `must-revalidate`. It does where the response is anonymous and the request may name a user.
    """
    if request.carries_credentials and not stored.shareable:
        return True
    if not stored.anonymous:
        return False
    harmless = (*policy.keyed_fields, *policy.exchange_fields, *stored.vary_names)
    return may_identify(request.headers, harmless)


def forbid_storing(request: Request, directives: Directives) -> bool:
    """Return whether a response may not be stored for the credentials of its request.

    Section 3: "if the cache is shared: the Authorization header field is not present in the request
    [...] or a response directive is present that explicitly allows shared caching". Here every kind
    of credentials counts.
    """
    return request.carries_credentials and not is_shareable(directives)


def may_identify(headers: Headers, harmless: Collection[bytes]) -> bool:
    """Return whether a request has a field by which the application may know its user.

    The `harmless` fields are known to name none, or to have the values of the stored response's
    request.
    """
    return not IMPERSONAL.issuperset({name.lower() for name, _ in headers.raw}.difference(harmless))


def named_like(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for the listed names; `*` stands for any characters."""
    listed = (re.escape(one).replace(r"\*", ".*") for one in patterns)
    # An empty list would match the empty name, which is no cookie.
    return re.compile("|".join(listed), re.DOTALL)
