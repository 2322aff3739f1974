"""The settings that hold for this process where none are given.

They are the settings that its middleware was given. So `RedisCache`, `get_redis` and purges by hand
use the store of the responses, though only the middleware names it. If the environment names
another server, the environment holds.

The class of the settings is loaded when settings are first needed, which is when a middleware is
made: importing pydantic-settings takes longer than all of `import maxage`. So a module that the
package imports names the class for type checkers only, and gets it at run time from here. Public
functions name it by this module, so that their annotations can be resolved (`get_type_hints`).
"""

import logging
import os
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from maxage.settings import CacheSettings as CacheSettings  # noqa: PLC0414 - handed on
else:

    def __getattr__(name: str) -> object:
        if name == "CacheSettings":
            return settings_class()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


logger = logging.getLogger("maxage")

_middlewares: Final["weakref.WeakKeyDictionary[object, CacheSettings | None]"] = (
    weakref.WeakKeyDictionary()
)
"""The middlewares of this process, the first one first, with the settings that each was given."""

stand_in: "Callable[[CacheSettings], CacheSettings] | None" = None
"""Gives a test settings of its own in place of these (`maxage.testing`); None: outside of tests."""

_last: "tuple[dict[Any, Any], CacheSettings | None]" = ({}, None)
"""The whole environment when it was read last, and its settings."""


def settings_class() -> "type[CacheSettings]":
    """Return the class of the settings, which is loaded now if it was not yet."""
    from maxage.settings import CacheSettings  # noqa: PLC0415 - see above

    return CacheSettings


def read_settings() -> "CacheSettings":
    """Return new settings of the current environment.

    Raises:
        SettingsError: a value is wrong.
    """
    return settings_class()()


def settings_from_environment() -> "CacheSettings":
    """Return the settings of the current environment; they are read again when it has changed."""
    global _last  # noqa: PLW0603 - replaced in one step
    environment, settings = _last
    # Asking `os.environ` for each name takes 0.1 ms: it encodes names, and raises for missing ones.
    present: Any = getattr(os.environ, "_data", None) or os.environ.copy()
    if settings is None or present != environment:
        environment = dict(present)
        names = settings_class().model_fields
        settings = _read_settings(tuple(os.environ.get(name.upper()) for name in names))
        _last = environment, settings
    return settings


@lru_cache(maxsize=8)
def _read_settings(environment: tuple[str | None, ...]) -> "CacheSettings":
    del environment
    return read_settings()


def settings_for(given: "CacheSettings | None") -> "CacheSettings":
    """Return the settings for a caller that was given these; None: those of the process."""
    settings = settings_in_force() if given is None else given
    return settings if stand_in is None else stand_in(settings)


def settings_in_force() -> "CacheSettings":
    """Return the settings for callers that were given none."""
    environment = settings_from_environment()
    given = _given()
    return environment if given is None or _differs(environment, given) else given


def has_middleware() -> bool:
    """Return whether this process caches responses."""
    return bool(_middlewares)


def register(middleware: object, settings: "CacheSettings | None") -> None:
    """Let settings that a middleware was given hold for the process, for as long as it lives.

    Of several middlewares the first counts.

    Args:
        middleware: held weakly.
        settings: what it was given; None: it reads the environment.
    """
    if middleware in _middlewares:
        return
    first = _given()
    _middlewares[middleware] = settings
    if settings is None:
        return
    environment = settings_from_environment()
    if _differs(environment, settings):
        logger.warning(
            "The middleware was given %s, and the environment names %s: RedisCache, get_redis and "
            "purges by hand use the latter, and do not reach the middleware's responses. Name one "
            "server in both, or pass settings= everywhere.",
            _named(settings),
            _named(environment),
        )
    elif first is not None and _named(first) != _named(settings):
        logger.warning(
            "Two middlewares were given different settings: RedisCache, get_redis and purges by "
            "hand use those of the first, %s, and do not reach the responses of %s. Pass settings= "
            "to the callers that belong to the second.",
            _named(first),
            _named(settings),
        )


def unregister(middleware: object) -> None:
    """Let the settings of a middleware hold no longer: its application has ended."""
    _middlewares.pop(middleware, None)


def _given() -> "CacheSettings | None":
    return next((given for given in tuple(_middlewares.values()) if given is not None), None)


def _differs(environment: "CacheSettings", given: "CacheSettings") -> bool:
    return environment.redis_url not in (None, given.redis_url)


def _named(settings: "CacheSettings") -> str:
    where = settings.safe_redis_url or "no server"
    return f"{where} (namespace {settings.cache_namespace})"
