"""Chooses the store that settings or a URL name."""

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from maxage import clock as clocks
from maxage import settings_in_force
from maxage.clock import Clock
from maxage.errors import SettingsError
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.redis_url import check_store_url, server_url
from maxage.store.base import Store, SyncStore
from maxage.store.memory import MemoryStore
from maxage.worker_count import configured_workers

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

_KEPT: Final = 16
"""Stores on a server that are kept for their next use, with their threads and connections."""


def store_from_url(url: str, settings: "settings_in_force.CacheSettings | None" = None) -> Store:
    """Return a new store of the kind that the URL names.

    Args:
        url: as in `REDIS_URL`, or `memory://`.
        settings: namespace, budgets and limits; read from the environment by default.

    Raises:
        SettingsError: the URL is invalid.
    """
    url = check_store_url(url)
    settings = settings if settings is not None else settings_in_force.read_settings()
    if server_url(url) is None:
        return MemoryStore(settings.cache_memory_bytes, replica_lag=settings.cache_replica_lag)
    return RedisStore(url, settings)


def given_settings(settings: "CacheSettings | None", store: Store | None) -> "CacheSettings | None":
    """Return the settings that a middleware was given, by themselves or with its store."""
    if not isinstance(store, RedisStore):
        return settings
    where = {
        "redis_url": store.url,
        "redis_credentials": store.settings.redis_credentials,
        "cache_namespace": store.settings.cache_namespace,
    }
    return (settings or store.settings).model_copy(update=where)


def store_of_middleware(store: Store | None, settings: "CacheSettings") -> Store:
    """Return the store of a middleware that was given one, or none.

    A test with settings of its own does not use a store that other processes share.
    """
    if store is None or (store.shared and settings_in_force.stand_in is not None):
        return store_for(settings)
    return store


@lru_cache(maxsize=_KEPT)
def store_for(settings: "CacheSettings") -> Store:
    """Return the store that the settings name; without a URL, the embedded one."""
    url = server_url(settings.redis_url)
    if url is None:
        # Looked up now: a test may have put a clock that it moves there.
        clock = clocks.monotonic_clock
        return embedded_store(settings.cache_memory_bytes, settings.cache_replica_lag, clock)
    return RedisStore(url, settings)


@lru_cache(maxsize=_KEPT)
def sync_store_for(settings: "CacheSettings") -> SyncStore:
    """Return the synchronous half of `store_for`."""
    return sync_half(store_for(settings))


def sync_half(store: Store) -> SyncStore:
    """Return the synchronous half of a store; both have the same tokens.

    Raises:
        SettingsError: a store of this kind has no synchronous half.
    """
    if isinstance(store, MemoryStore):
        return store
    if isinstance(store, RedisStore):
        return _sync_redis(store.url, store.settings)
    raise SettingsError(
        f"{type(store).__name__} can only be awaited; use apurge() in place of purge()."
    )


@lru_cache(maxsize=_KEPT)
def _sync_redis(url: str, settings: "CacheSettings") -> SyncStore:
    return SyncRedisStore(url, settings)


@lru_cache(maxsize=64)
def embedded_store(max_bytes: int, replica_lag: float, clock: Clock) -> MemoryStore:
    """Return the embedded store of this process.

    All middlewares and typed caches share it, so that each sees the purges of the others. Each
    middleware has its own keys. Beside other workers it is off: none can purge that of another.
    """
    store = MemoryStore(max_bytes, replica_lag=replica_lag, clock=clock)
    switch_off_beside(configured_workers(), store)
    return store


def switch_off_beside(workers: int, store: Store) -> bool:
    """Switch a store that is not shared off where several workers serve; return whether they do."""
    if workers > 1 and not (isinstance(store, MemoryStore) and store.is_off):
        logger.warning(
            "The cache is off: %d workers serve this application, and the embedded store of one "
            "cannot be purged by another. Set REDIS_URL to share one store.",
            workers,
        )
        if isinstance(store, MemoryStore):
            store.switch_off()
    return workers > 1
