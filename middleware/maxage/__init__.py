"""An HTTP response cache for FastAPI, Starlette and any ASGI application."""

from importlib import import_module
from typing import TYPE_CHECKING

from maxage.errors import MaxageError, SettingsError, StoreUnavailableError
from maxage.invalidation.purge import (
    apurge,
    apurge_all,
    apurge_path,
    apurge_tags,
    purge,
    purge_all,
    purge_path,
    purge_tags,
    tag,
)
from maxage.middleware import CacheMiddleware
from maxage.observe.counters import Counters, counters
from maxage.redis_store.redis_store import RedisStore
from maxage.routing.route_policy import Rule, cached, invalidates, invalidates_only, uncached
from maxage.settings_in_force import settings_class
from maxage.store.base import Store
from maxage.store.memory import MemoryStore
from maxage.store_factory import store_from_url

if TYPE_CHECKING:
    from maxage.settings import CacheSettings
else:

    def __getattr__(name: str) -> object:
        # Settings are loaded when they are first asked for (`settings_in_force`).
        if name == "CacheSettings":
            return settings_class()
        if name == "settings":
            return import_module("maxage.settings")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), "CacheSettings", "settings"})


__version__ = "0.1.0"

__all__ = [
    "CacheMiddleware",
    "CacheSettings",
    "Counters",
    "MaxageError",
    "MemoryStore",
    "RedisStore",
    "Rule",
    "SettingsError",
    "Store",
    "StoreUnavailableError",
    "__version__",
    "apurge",
    "apurge_all",
    "apurge_path",
    "apurge_tags",
    "cached",
    "counters",
    "invalidates",
    "invalidates_only",
    "purge",
    "purge_all",
    "purge_path",
    "purge_tags",
    "store_from_url",
    "tag",
    "uncached",
]
