"""Cache health: what this process knows about its cache, without asking any server."""

import os
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

from maxage.clock import monotonic_clock
from maxage.redis_store.redis_store import RedisStore
from maxage.settings import CacheSettings
from maxage.store.base import Store
from maxage.store.memory import MemoryStore
from maxage.store_factory import store_for


class CacheState(StrEnum):
    """The state of the cache in one word."""

    OK = "ok"
    AWAY = "away"
    OWING = "owing"
    OFF = "off"


class CacheHealth(BaseModel):
    """What one process knows about its cache. Each worker answers for itself."""

    status: CacheState
    detail: str
    """The state, its consequence, and what ends it, in a sentence."""
    store: str
    """`redis`, `memory` (the embedded store), or `none`."""
    pid: int
    """The process that answers."""
    servers: int = 0
    """Redis servers that take writes, as far as is known."""
    breakers_open: int = 0
    """Servers that failed three times in a row and are not asked until a probe reaches them."""
    owed_purges: int = 0
    """Purges that Redis has not confirmed. Until it has, nothing stored is served."""
    lease: bool = False
    """Whether this process holds a lease: others purge on its behalf if it dies with purges owed.
    A process that does not write may hold none."""
    lag: float | None = None
    """Seconds since Redis last answered a look at the leases. None: it never did. While something
    is asked for, it is one at most; past four, nothing stored is served without another look."""
    near: bool = False
    """Whether copies in this process may answer: the near cache listens to every server."""
    near_copies: int = 0
    """Copies of stored responses in this process."""


_OK: Final = "Stored responses are served."
_NOT_STORED: Final = (
    "Stored responses are served, and Redis refused to store the last one ({}): maxage doctor says "
    "what to mend."
)
_DISABLED: Final = (
    "USE_REDIS_CACHE is false: every request goes to the application; set it to true to cache."
)
_SWITCHED_OFF: Final = (
    "Several workers serve and share no store: every request goes to the application; set "
    "REDIS_URL."
)
_OWING: Final = (
    "Redis has not confirmed a purge{}: nothing stored is served until it has; it is tried again "
    "every 0.2 seconds, see that Redis runs and takes writes."
)
_UNREACHED: Final = (
    "Redis has not answered this process yet{}: every request goes to the application; it is tried "
    "again all the time, see that Redis runs and that REDIS_URL is right."
)
_AWAY: Final = (
    "Redis cannot be used{}: requests go to the application; it is tried again every 0.2 seconds, "
    "and maxage doctor says what to mend."
)


def cache_health(settings: CacheSettings) -> CacheHealth:
    """Return the health of the cache that the settings name, from the memory of this process."""
    if not settings.use_redis_cache:
        return _told(CacheState.OFF, _DISABLED, "none")
    store: Store = store_for(settings)
    if isinstance(store, RedisStore):
        return _of_redis(store)
    if isinstance(store, MemoryStore) and store.is_off:
        return _told(CacheState.OFF, _SWITCHED_OFF, "none")
    return _told(CacheState.OK, _OK, "memory")


def _told(status: CacheState, detail: str, store: str) -> CacheHealth:
    return CacheHealth(status=status, detail=detail, store=store, pid=os.getpid())


def _of_redis(store: RedisStore) -> CacheHealth:
    state, near = store.redis_state, store.near
    lease = state.lease_manager.lease
    told = _told(CacheState.OK, _OK, "redis")
    told.servers = len(state.nodes)
    told.breakers_open = sum(node.breaker.open for node in state.nodes)
    told.owed_purges = len(state.owed_purges)
    told.lease = lease.valid
    if lease.looked_at is not None:
        told.lag = round(monotonic_clock() - lease.looked_at, 3)
    if near is not None:
        told.near, told.near_copies = near.listeners.hear() and state.works, len(near)
    # The kind alone: the words of an error name hosts, and clients may see this.
    reason = next((f" ({node.reason})" for node in state.nodes if node.reason), "")
    if told.owed_purges:
        told.status, told.detail = CacheState.OWING, _OWING.format(reason)
    elif not state.works:
        told.status = CacheState.AWAY
        told.detail = (_UNREACHED if lease.looked_at is None else _AWAY).format(reason)
    elif refusal := next((node.refusal for node in state.nodes if node.refusal), ""):
        told.detail = _NOT_STORED.format(refusal)
    return told
