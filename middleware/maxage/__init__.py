"""An HTTP response cache for FastAPI, Starlette and any ASGI application."""

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
from maxage.settings import CacheSettings
from maxage.store.base import Store
from maxage.store.memory import MemoryStore
from maxage.store_factory import store_from_url

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
