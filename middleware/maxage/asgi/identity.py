"""Identity of a request: its credentials, and the session, user or permissions in its scope."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from maxage.asgi.types import Scope
from maxage.cache.target import Target
from maxage.observe.words import Reason
from maxage.rfc9111.credentials import CredentialFields, may_identify
from maxage.rfc9111.message import Headers
from maxage.rfc9111.policy import Policy

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

_SLOTS: Final = frozenset({"session", "user", "auth"})
_NO_SLOTS: Final = frozenset[str]()


@final
class Identification:
    """Tells whether a request says who asks: by its fields, its scope or its route."""

    def __init__(self, settings: "CacheSettings") -> None:
        self._authorization_only: Final = settings.cache_authorization_only
        self.fields: Final = CredentialFields(
            settings.cache_credential_headers,
            settings.cache_ignored_cookies,
            authorization_only=settings.cache_authorization_only,
        )

    def has_credentials(self, scope: Scope, headers: Headers, target: Target) -> bool:
        """Return whether a request for the target carries credentials."""
        return target.terms.checks_credentials or self.carries(scope, headers)

    def carries(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a request carries credentials, whatever its route is."""
        return self.is_in(scope) or self.fields.kind_in(headers) is not None

    def kind_in(self, scope: Scope, headers: Headers) -> Reason:
        """Return which kind of credentials a request with credentials carries."""
        kind = self.fields.kind_in(headers)
        if kind is not None:
            return kind
        if self.is_in(scope):
            is_session = is_identified({"session": scope.get("session")})
            return Reason.SESSION if is_session else Reason.USER
        # Without any of them, the route itself checks its requests.
        return Reason.SECURITY

    def is_in(self, scope: Scope) -> bool:
        """Return whether the session, the user or the permissions in the scope are credentials."""
        return not self._authorization_only and is_identified(scope)

    def was_sought(self, scope: Scope, added: frozenset[str]) -> bool:
        """Return whether the application itself looked who asks, and may know it by any field.

        `added` is what `identity_slots` gives now, and not before the application was called.
        """
        if not added or self._authorization_only:
            return False
        return not reads_cookies_alone(scope, added)

    def may_be_in(self, headers: Headers, rules: Policy, varied: tuple[bytes, ...]) -> bool:
        """Return whether a field that the response does not vary by may name a user."""
        harmless = (*rules.exchange_fields, *varied)
        return not self._authorization_only and may_identify(headers, harmless)


def identity_slots(scope: Mapping[str, Any]) -> frozenset[str]:
    """Return which of `session`, `user` and `auth` the scope has, empty or not."""
    if "session" in scope or "user" in scope or "auth" in scope:
        return _SLOTS.intersection(scope)
    return _NO_SLOTS


def session_was_changed(session: Any) -> bool:
    """Return whether a session tells of a change, as Starlette's does.

    Another library's `modified` may be a method, or the time of the last change.
    """
    try:
        return getattr(session, "modified", False) is True
    except Exception:  # noqa: BLE001 - properties of the application's own classes
        return True


def is_identified(scope: Mapping[str, Any]) -> bool:
    """Return whether the scope tells who asks.

    It does with a session that has content or was changed, with an authenticated user, and with
    permissions. An empty session and Starlette's `UnauthenticatedUser` are anonymous.
    """
    try:
        return (
            ("session" in scope and _has_content(scope["session"]))
            or ("user" in scope and _is_authenticated(scope["user"]))
            or ("auth" in scope and _gives_permission(scope))
        )
    except Exception:  # noqa: BLE001 - properties of the application's own classes
        return True


def reads_cookies_alone(scope: Mapping[str, Any], slots: frozenset[str]) -> bool:
    """Return whether only Starlette's SessionMiddleware filled these slots, from a cookie."""
    return all(
        slot == "session" and type(scope["session"]).__module__ == "starlette.middleware.sessions"
        for slot in slots
    )


def _has_content(session: Any) -> bool:
    return bool(session) or bool(getattr(session, "modified", False))


def _is_authenticated(user: Any) -> bool:
    return user is not None and bool(getattr(user, "is_authenticated", user))


def _gives_permission(scope: Mapping[str, Any]) -> bool:
    granted: Any = scope["auth"]
    permissions = getattr(granted, "scopes", granted)
    # An anonymous user may have permissions of all anonymous users.
    return bool(permissions) and ("user" not in scope or "authenticated" in permissions)
