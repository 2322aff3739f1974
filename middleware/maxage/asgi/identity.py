"""Identity that layers of the application put into the scope: a session, a user, permissions."""

from collections.abc import Mapping
from typing import Any, Final

_SLOTS: Final = frozenset({"session", "user", "auth"})


def identity_slots(scope: Mapping[str, Any]) -> frozenset[str]:
    """Return which of `session`, `user` and `auth` the scope has, empty or not."""
    return _SLOTS.intersection(scope)


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
