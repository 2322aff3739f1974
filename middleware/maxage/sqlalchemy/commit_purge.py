"""The purge of a commit's changes: announced before it, made before the committer continues.

Where SQLAlchemy runs on asyncio, its connections run in greenlets, in which plain functions can
wait without blocking the event loop. Elsewhere the thread is blocked, for the budgets at most.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import wait
from functools import partial
from typing import Any, Final, final

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from maxage.background import Background
from maxage.cache.cache import living_caches
from maxage.errors import SettingsError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.invalidation.purge import reaches_anything
from maxage.observe.counters import PROCESS
from maxage.observe.words import PurgeCause
from maxage.redis_store.redis_store import RedisStore
from maxage.settings_in_force import settings_for
from maxage.store.base import Store
from maxage.store_factory import store_for, sync_half

logger = logging.getLogger("maxage")

_background: Final = Background()
_warned: Final[set[str]] = set()


@final
class CommitPurge:
    """Encloses a commit: on leaving, the groups are purged, also if the commit fails.

    A commit that fails may have reached the database, so that its fate is unknown.

    While it is open, this process holds a lease: if it is killed between the commit and the purge,
    its peers notice, and purge everything.

    Args:
        groups: that the commit changes.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups: Final = groups
        self._requests: Final = _current_requests()
        self._stores: Final = _stores(self._requests)
        self._leased: Final[list[RedisStore]] = []

    def __enter__(self) -> None:
        for store in self._stores:
            if isinstance(store, RedisStore):
                self._announce(store)

    def __exit__(self, *_: object) -> None:
        try:
            self._purge()
        finally:
            self._end_leases()

    def _announce(self, store: RedisStore) -> None:
        """Take a lease, so that peers notice if this process dies before the purge."""
        manager, state = store.redis_state.lease_manager, store.redis_state
        manager.lease.begin_mutation()
        self._leased.append(store)
        taking = manager.take()
        if taking is None:
            return
        seconds = state.patience(store.settings.cache_write_budget)
        if not in_greenlet():
            wait([taking], timeout=seconds)
            return
        try:
            await_only(_waited(taking, seconds))
        except BaseException:
            self._end_leases()
            raise

    def _end_leases(self) -> None:
        for store in self._leased:
            store.redis_state.lease_manager.lease.end_mutation()
        self._leased.clear()

    def _purge(self) -> None:
        awaited = [store for store in self._stores if store.shared] if in_greenlet() else []
        for store in self._stores:
            if store not in awaited:
                self._note(store, confirmed=_purged_now(store, self._groups))
        if awaited:
            # All begin before the first is awaited: the caller may be cancelled.
            answers = await_only(_shielded(awaited, self._groups))
            for store, confirmed in zip(awaited, answers, strict=True):
                self._note(store, confirmed=confirmed)

    def _note(self, store: Store, *, confirmed: bool) -> None:
        PROCESS.count_purge(PurgeCause.COMMIT, confirmed=confirmed)
        if confirmed:
            return
        for request in self._requests:
            if request.authority is store.authority:
                # The middleware purges again; with `refuse` its answer hangs on that.
                for group in self._groups:
                    request.note_purge(group)


def _current_requests() -> tuple[Dependencies, ...]:
    """Return the notes of the current request, of the innermost middleware first."""
    requests: list[Dependencies] = []
    request = current_dependencies.get()
    while request is not None:
        requests.append(request)
        request = request.outer
    return tuple(requests)


def _stores(requests: Sequence[Dependencies]) -> tuple[Store, ...]:
    """Return the stores to purge.

    They are those of the request's middlewares, the embedded ones of this process, which no other
    process purges, and the one that the settings name.
    """
    stores = [request.store for request in requests]
    stores += [cache.store for cache in living_caches() if not cache.store.shared]
    settings = settings_for(None)
    if settings.use_redis_cache:
        chosen = store_for(settings)
        if stores or _reaches_something(chosen):
            stores.append(chosen)
    return tuple({id(store.authority): store for store in reversed(stores)}.values())


def _reaches_something(store: Store) -> bool:
    """Return whether a purge of the store may reach a response; warn once where it does not."""
    reached = reaches_anything(store)
    if not reached and "nowhere" not in _warned:
        _warned.add("nowhere")
        logger.warning(
            "A commit purges nothing: no server is named, and this process has no cache of its own "
            "as yet. Set REDIS_URL in scripts as the application has it."
        )
    return reached


async def _waited(taking: Any, seconds: float) -> None:
    await asyncio.wait([asyncio.wrap_future(taking)], timeout=seconds)


def _purged_now(store: Store, groups: Sequence[str]) -> bool:
    try:
        return None not in sync_half(store).renew_now(groups)
    except SettingsError:
        # It can only be awaited: the middleware does so before the answer leaves.
        return False


async def _shielded(stores: Sequence[Store], groups: Sequence[str]) -> Sequence[bool]:
    """Purge to the end, even if the caller is cancelled; return which purges are confirmed."""
    tasks = [_background.spawn(_renewed(store, groups)) for store in stores]
    for store, task in zip(stores, tasks, strict=True):
        task.add_done_callback(partial(_owe_if_cancelled, store, groups))
    return await asyncio.shield(asyncio.gather(*tasks))


async def _renewed(store: Store, groups: Sequence[str]) -> bool:
    return None not in await store.renew(groups)


def _owe_if_cancelled(store: Store, groups: Sequence[str], task: "asyncio.Task[bool]") -> None:
    if task.cancelled():
        store.authority.owe(groups)
