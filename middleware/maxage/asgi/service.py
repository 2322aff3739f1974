"""What the middleware knows for as long as it lives."""

import re
from collections.abc import Iterable
from typing import Final, final

from maxage.asgi.cache_status import CacheStatus, hit_value
from maxage.asgi.types import ASGIApp
from maxage.cache.target import Target
from maxage.cache.targets import Targets
from maxage.rfc9111.dates import format_http_date
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.directives import OWN_TARGET
from maxage.rfc9111.message import Headers
from maxage.settings import CacheSettings


@final
class Service:
    """What the middleware knows for as long as it lives, for the responders of its requests."""

    def __init__(self, app: ASGIApp, settings: CacheSettings, targets: Targets) -> None:
        self.app: Final = app
        self.settings: Final = settings
        self.targets: Final = targets
        self.downstream: Final = _downstream(settings)
        """What is added to responses whose lifetime was only ours."""
        self.server_adds_date: bool | None = None
        """Whether the server adds a Date of its own; None: not known yet."""
        self._credential_headers: Final = frozenset(
            ()
            if settings.cache_authorization_only
            else (name.lower().encode() for name in settings.cache_credential_headers)
        )
        self._personal_headers: Final = self._credential_headers | {b"authorization", b"cookie"}
        self._ignored_cookie: Final = _any_of(settings.cache_ignored_cookies).fullmatch

    @property
    def sends_date(self) -> bool:
        """Whether responses get their Date from us: the server adds none."""
        if self.settings.cache_send_date is not None:
            return self.settings.cache_send_date
        return not self.server_adds_date

    def carries_credentials(self, target: Target, headers: Headers) -> bool:
        """Return whether the request carries what may make its answer a personal one."""
        if headers.has_any(self._personal_headers) and (
            b"authorization" in headers
            or headers.has_any(self._credential_headers)
            or self._personal_cookie(headers)
        ):
            return True
        route = target.route
        # A hit would skip the check of such a route, so that every request counts.
        return (
            route is not None and route.has_security and not self.settings.cache_authorization_only
        )

    def stored_headers(self, decision: Serve) -> list[tuple[bytes, bytes]]:
        """Return the headers of a stored response, all but our member of Cache-Status."""
        headers = list(decision.headers)
        if not self.sends_date:
            # The server adds its own, and there is to be one.
            headers = [line for line in headers if line[0].lower() != b"date"]
        if self.downstream and decision.lifetime_is_ours and decision.status != 416:
            headers += self.downstream
        return headers

    def outgoing(
        self, headers: Iterable[tuple[bytes, bytes]], *, now: float
    ) -> list[tuple[bytes, bytes]]:
        """Return the application's headers without what is addressed to us alone, and with Date.

        A Date is added where neither the application nor the server does (RFC 9110 section 6.6.1).
        """
        headers = [line for line in headers if line[0].lower() != OWN_TARGET]
        if self.sends_date and not any(name.lower() == b"date" for name, _ in headers):
            headers.append((b"date", format_http_date(now)))
        return headers

    def hit_headers(self, decision: Serve, key: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a hit."""
        headers = self.stored_headers(decision)
        if self.settings.cache_status_header:
            value = hit_value(decision.ttl)
            if self.settings.cache_status_key:
                status = CacheStatus(hit=True, ttl=decision.ttl, key=key.decode())
                value = status.header_value()
            headers.append((b"cache-status", value))
        return headers

    def _personal_cookie(self, headers: Headers) -> bool:
        if b"cookie" not in headers or self.settings.cache_authorization_only:
            return False
        names = (
            part.partition(b"=")[0].strip().decode("latin-1")
            for line in headers.get_all(b"cookie")
            for part in line.split(b";")
        )
        return any(name and not self._ignored_cookie(name) for name in names)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for names that are listed; `*` stands for any characters."""
    listed = (re.escape(one).replace(r"\*", ".*") for one in patterns)
    # An empty list would match the empty name, which is no cookie.
    return re.compile("|".join(listed), re.DOTALL)


def _downstream(settings: CacheSettings) -> tuple[tuple[bytes, bytes], ...]:
    value = settings.cache_downstream_cache_control.strip()
    return ((b"cache-control", value.encode()),) if value else ()
