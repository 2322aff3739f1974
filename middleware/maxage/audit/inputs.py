"""Inputs: those that were read and are not in the key, and how to mend each."""

from collections.abc import Collection, Iterable
from typing import Final

from maxage.asgi.overrides import OVERRIDES
from maxage.audit.notes import COOKIES, HEADERS
from maxage.cache.key import FORWARDED_HEADERS, FRAGMENT_HEADERS
from maxage.cache.target import Target
from maxage.reads.forward import CONDITIONAL
from maxage.rfc9111.credentials import named_like
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import vary_names
from maxage.settings import CacheSettings

OF_THE_CACHE: Final = frozenset(
    {"host", "cache-control", "pragma", "connection", "content-length", "content-type",
     "content-encoding", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {name.decode() for name in CONDITIONAL | FORWARDED_HEADERS | FRAGMENT_HEADERS | OVERRIDES}
)  # fmt: skip
"""Headers that are part of the key, let a request bypass the cache, or that the rules obey."""
HARMLESS: Final = (
    "header:x-request-id", "header:x-correlation-id", "header:x-trace-id", "header:traceparent",
    "header:tracestate", "header:baggage", "header:sentry-trace", "header:x-b3-*",
    "header:x-amzn-trace-id", "header:x-cloud-trace-context", "header:x-datadog-*",
    "header:x-request-start", "header:x-queue-start", "header:b3", "state:request_id",
    "state:correlation_id", "state:trace_id", "state:span_id", "state:start_time",
)  # fmt: skip
"""Inputs that name one exchange, and make no difference."""
_IDENTITY: Final = frozenset({"user", "auth", "session"})


class Judge:
    """Decides which inputs make a finding; `*` in an ignored one stands for any characters."""

    def __init__(self, settings: CacheSettings, ignored: Iterable[str]) -> None:
        self._is_ignored: Final = named_like([*HARMLESS, *map(spelled, ignored)]).fullmatch
        self._ignored_cookie: Final = named_like(settings.cache_ignored_cookies).fullmatch
        names = () if settings.cache_authorization_only else settings.cache_credential_headers
        self._credentials: Final = frozenset({"authorization", *(n.lower() for n in names)})
        self._cookies_count: Final = not settings.cache_authorization_only

    def unkeyed(
        self,
        read: Iterable[str],
        keyed: Collection[str],
        target: Target,
        response: Headers,
        *,
        shareable: bool,
    ) -> list[str]:
        """Return the inputs that were read and do not choose the stored response.

        Args:
            read: the inputs that were read.
            keyed: those that `vary_by` read.
            target: of the request.
            response: the headers of the response.
            shareable: whether it answers requests with credentials.
        """  # fmt: skip
        chosen = {*(vary_names(response) or ()), *target.rules.keyed_fields}
        known = {*keyed, *(f"header:{name.decode('latin-1')}" for name in chosen)}
        if "header:cookie" in known:
            known.add(COOKIES)
        # Without `vary_by`, a request with credentials gets only shareable responses.
        is_guarded = target.policy.vary_by is None and not shareable
        return [one for one in read if not self._is_chosen(one, known, is_guarded=is_guarded)]

    def _is_chosen(self, one: str, known: Collection[str], *, is_guarded: bool) -> bool:
        kind, _, name = one.partition(":")
        if one in known or self._is_ignored(one):
            return True
        if kind in ("cookie", COOKIES) or one == "header:cookie":
            return COOKIES in known or (is_guarded and self._is_credential(one))
        if kind == "header":
            return name in OF_THE_CACHE or (is_guarded and name in self._credentials)
        return kind in _IDENTITY and (is_guarded or self._is_told_by(kind, known))

    def _is_credential(self, cookie: str) -> bool:
        """Return whether a request with the cookie gets no stored response."""
        kind, _, name = cookie.partition(":")
        listed = kind == "cookie" and self._ignored_cookie(name)
        return self._cookies_count and not listed

    def _is_told_by(self, slot: str, keyed: Collection[str]) -> bool:
        """Return whether `vary_by` read the input that the slot is made from."""
        from_cookies = any(one.startswith("cookie") for one in keyed)
        if slot == "session":
            return from_cookies
        names = {f"header:{name}" for name in self._credentials}
        return from_cookies or not names.union(_IDENTITY).isdisjoint(keyed)


def spelled(name: str) -> str:
    """Return an input as findings name it; a bare name that is no other input is a header's."""
    plain = name.strip()
    if ":" in plain or plain in {"client", HEADERS, COOKIES, *_IDENTITY}:
        return plain
    return f"header:{plain.lower()}"


def mend_for(one: str) -> str:
    """Return the mend of a finding about an input."""
    kind, _, name = one.partition(":")
    if kind == "header" and name != "cookie":
        return (
            f"Declare the header as a parameter of the route, add `Vary: {name}` to the response, "
            f"or state vary_by=lambda request: request.headers.get({name!r}, '')."
        )
    if kind in ("cookie", COOKIES) or one == "header:cookie":
        return (
            "Declare the cookie as a parameter of the route, or state vary_by= that returns its "
            "value; a cookie that changes answers must not be in CACHE_IGNORED_COOKIES."
        )
    if one == HEADERS:
        return "Read the headers that matter by their names, or decorate the route with @uncached."
    if one == "client":
        return (
            "State vary_by=lambda request: request.client.host, or decorate the route with "
            "@uncached."
        )
    return f"State vary_by= that returns what the answer takes from {one}, or use @uncached."
