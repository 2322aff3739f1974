"""Credentials of a request: fields, or an identity in the scope, that may make it personal."""

import re
from collections.abc import Iterable
from typing import Final, final

from maxage.asgi.identity import identity_slots, is_identified, reads_cookies_alone
from maxage.asgi.types import Scope
from maxage.cache.target import Target
from maxage.observe.words import Reason
from maxage.rfc9111.anonymous import may_identify
from maxage.rfc9111.message import Headers
from maxage.settings import CacheSettings


@final
class Credentials:
    """Tells which requests carry credentials, by the settings."""

    def __init__(self, settings: CacheSettings) -> None:
        self._authorization_only: Final = settings.cache_authorization_only
        self._fields: Final = frozenset(
            ()
            if settings.cache_authorization_only
            else (name.lower().encode() for name in settings.cache_credential_headers)
        )
        self._any: Final = self._fields | {b"authorization", b"cookie"}
        self._ignored_cookie: Final = _any_of(settings.cache_ignored_cookies).fullmatch

    def are_in(self, scope: Scope, headers: Headers, target: Target) -> bool:
        """Return whether a request for the target carries credentials."""
        if self.identify(scope):
            return True
        if headers.has_any(self._any) and (
            b"authorization" in headers
            or headers.has_any(self._fields)
            or self._has_personal_cookie(headers)
        ):
            return True
        route = target.route
        # A hit would skip the check of such a route, so that every request counts.
        return route is not None and route.has_security and not self._authorization_only

    def kind_in(self, scope: Scope, headers: Headers) -> Reason:
        """Return which kind of credentials a request with credentials carries."""
        if b"authorization" in headers or headers.has_any(self._fields):
            return Reason.CREDENTIALS
        if self._has_personal_cookie(headers):
            return Reason.COOKIE
        if self.identify(scope):
            is_session = is_identified({"session": scope.get("session")})
            return Reason.SESSION if is_session else Reason.USER
        # Without any of them, the route itself checks its requests.
        return Reason.SECURITY

    def identify(self, scope: Scope) -> bool:
        """Return whether the session, the user or the permissions in the scope are credentials."""
        return not self._authorization_only and is_identified(scope)

    def may_identify(self, scope: Scope, before: frozenset[str]) -> bool:
        """Return whether the application itself looked who asks, and may know it by any field.

        Args:
            scope: of the request, at its response.
            before: what `identity_slots` gave before the application was called.
        """
        added = identity_slots(scope) - before
        return not self._authorization_only and not reads_cookies_alone(scope, added)

    def may_be_in(self, headers: Headers, varied: tuple[bytes, ...]) -> bool:
        """Return whether a field that the response does not vary by may name a user."""
        return not self._authorization_only and may_identify(headers, varied)

    def _has_personal_cookie(self, headers: Headers) -> bool:
        if b"cookie" not in headers or self._authorization_only:
            return False
        names = (
            part.partition(b"=")[0].strip().decode("latin-1")
            for line in headers.get_all(b"cookie")
            for part in line.split(b";")
        )
        return any(name and not self._ignored_cookie(name) for name in names)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for the listed names; `*` stands for any characters."""
    listed = (re.escape(one).replace(r"\*", ".*") for one in patterns)
    # An empty list would match the empty name, which is no cookie.
    return re.compile("|".join(listed), re.DOTALL)
