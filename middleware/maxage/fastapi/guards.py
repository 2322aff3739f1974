"""Guards of routes that steer the cache: a token, or checks of the application."""

from collections.abc import Sequence
from typing import Final

from fastapi import params
from pydantic import SecretStr

from maxage.errors import SettingsError

SHORTEST_TOKEN: Final = 16
"""Smallest number of characters of a token."""
_MAKE_ONE: Final = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def checked_guards(
    router: str, danger: str, token: object, dependencies: Sequence[object]
) -> tuple[bytes | None, list[params.Depends]]:
    """Return the token as bytes, and the dependencies; at least one of them guards.

    Args:
        router: the name of the function that was called, for messages.
        danger: what every client could do without a guard, for messages.
        token: text or SecretStr of printable ASCII characters; None: none is given.
        dependencies: `Depends(...)` of the application.

    Raises:
        SettingsError: there is no guard, or one of them is wrong.
    """
    checked = [_checked_dependency(router, one) for one in dependencies]
    if token is None and not checked:
        raise SettingsError(
            f"{router}() got neither a token nor dependencies, so that every client could "
            f"{danger}; give it token=... (make one with {_MAKE_ONE}) or "
            "dependencies=[Depends(your_check)]."
        )
    return None if token is None else _checked_token(router, token), checked


def _checked_token(router: str, token: object) -> bytes:
    text = token.get_secret_value() if isinstance(token, SecretStr) else token
    if not isinstance(text, str):
        raise SettingsError(f"{router}() got a token that is {type(text).__name__}, not text.")
    if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise SettingsError(
            f"{router}() got a token of {len(text)} characters; it takes {SHORTEST_TOKEN} or "
            f"more printable ASCII characters without blanks (make one with {_MAKE_ONE})."
        )
    return text.encode()


def _checked_dependency(router: str, one: object) -> params.Depends:
    if not isinstance(one, params.Depends):
        raise SettingsError(f"{router}() got the dependency {one!r}; it takes Depends(your_check).")
    if one.dependency is None:
        raise SettingsError(f"{router}() got Depends(), which checks nothing.")
    return one
