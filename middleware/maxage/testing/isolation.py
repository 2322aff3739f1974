"""The cache of a test: apart from that of the application, empty, and with a clock of its own.

Middlewares, typed caches and purges by hand find it by the settings of their process, so that an
application which was made at import time needs no change.
"""

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, final
from unittest.mock import patch

from maxage import clock as clocks
from maxage import settings_in_force
from maxage.middleware import CacheMiddleware, living_middlewares
from maxage.settings import CacheSettings
from maxage.store.memory import MemoryStore
from maxage.store_factory import store_for
from maxage.testing.clock import CacheClock
from maxage.testing.own_keys import OwnKeys, prefixed
from maxage.typed.values import Values
from maxage.worker_count import WORKER_VARIABLES

_WATCHERS: Final = ("cache_insight", "cache_audit", "cache_shadow", "cache_verify")
_BUDGETS: Final = ("cache_read_budget", "cache_connect_budget", "cache_write_budget")

Mapping = Callable[[CacheSettings], CacheSettings]


@final
class IsolatedCache:
    """The cache of one test after the other.

    Args:
        url: of the Redis server that keeps it; None: the embedded store.
    """

    def __init__(self, url: str | None = None) -> None:
        self.clock: Final = CacheClock()
        self._keys: Final = OwnKeys(url)

    def settings(self, settings: CacheSettings) -> CacheSettings:
        """Return the settings of the test in place of the application's."""
        return settings.model_copy(
            update={
                "redis_url": self._keys.url,
                "cache_namespace": self._keys.namespace(settings.cache_namespace),
                # What the assertions read; and no other watcher of the process.
                "cache_status_header": True,
                **dict.fromkeys(_WATCHERS, False),
                # A busy machine is no server that is away.
                **dict.fromkeys(_BUDGETS, 5.0),
            }
        )

    @contextmanager
    def installed(self) -> Generator[None]:
        """Let the application use this cache, which is empty.

        Raises:
            SettingsError: the server does not answer.
        """
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ))
            for name in WORKER_VARIABLES:
                # The embedded store is off beside other workers; a test has none.
                os.environ.pop(name, None)
            stack.enter_context(patch.object(clocks, "wall_clock", self.clock.time))
            stack.enter_context(patch.object(clocks, "monotonic_clock", self.clock.monotonic))
            if self._keys.url is not None:
                stack.enter_context(patch.object(Values, "keys", prefixed(Values[Any].keys)))
            self._keys.check(self._found)
            stack.enter_context(_standing_in(self.settings))
            self._empty()
            stack.callback(self._empty)
            self.clock.moved = lambda seconds: self._keys.age(self._found, seconds)
            yield

    def end(self) -> None:
        """Leave nothing on the server."""
        self._keys.end(self._found)

    @property
    def _found(self) -> CacheSettings:
        """The settings for callers that were given none: they may have the server's password."""
        return self.settings(settings_in_force.settings_in_force())

    def _empty(self) -> None:
        self.clock.moved = None
        self.clock.reset()
        self._keys.remove(self._found)
        caches = (middleware.cache for middleware in living_middlewares())
        for store in (store_for(self._found), *(cache.store for cache in caches if cache)):
            if isinstance(store, MemoryStore):
                store.clear()


@contextmanager
def without_cache() -> Generator[None]:
    """Let all requests pass through to the application, and typed caches store nothing."""
    with _standing_in(lambda settings: settings.model_copy(update={"use_redis_cache": False})):
        yield


@contextmanager
def _standing_in(mapping: Mapping) -> Generator[None]:
    """Let other settings hold for all middlewares and callers of the process."""
    before = {middleware: dict(vars(middleware)) for middleware in living_middlewares()}
    try:
        with patch.object(settings_in_force, "stand_in", mapping):
            for middleware in before:
                middleware.begin()
            yield
    finally:
        for middleware in living_middlewares():
            _restore(middleware, before.get(middleware))


def _restore(middleware: CacheMiddleware, state: dict[str, Any] | None) -> None:
    if state is None:
        # The test's first request made it.
        middleware.begin()
    else:
        vars(middleware).update(state)
