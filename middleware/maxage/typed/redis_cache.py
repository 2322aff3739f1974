"""The typed cache: single objects under keys of their own, tied to the responses built from them.

`RedisCache[Item](Item, prefix="item")` stores the object `5` as plain JSON under `item:5`. Beside
it lies a seal: a digest of the value with the tokens that it was stored under. A value is a miss
unless its seal is its own and names the current tokens. So a late or lost purge reaches typed
values as it reaches responses.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Generic, cast, final

from maxage.background import runs_asyncio
from maxage.errors import SettingsError
from maxage.settings import CacheSettings
from maxage.settings_in_force import settings_for
from maxage.typed.encoding import Model
from maxage.typed.loading import Loading
from maxage.typed.operations import Operations
from maxage.typed.store_access import Access, AwaitableAccess, BlockingAccess, run_blocking
from maxage.typed.values import Id, Identity, Values


@final
class RedisCache(Generic[Model]):
    """A cache of objects of one type, beside the response cache.

    Each method has an awaitable twin (`get` and `aget`). The plain methods block their thread for
    at most the budget (50 ms to read, 100 ms to write), at most three times per outage. In an
    `async def` handler that thread runs the event loop: use the twins there.

    No method raises because Redis is away: a read is a miss, a write returns False.

    Args:
        model: the type; all that pydantic's TypeAdapter takes.
        prefix: the first part of the keys, which are `prefix:id`.
        ttl: seconds for which values are stored; `CACHE_EXPIRATION` by default.
        settings: by default those of the process, found when they are needed: the ones that its
            middleware was given, or else those of the environment.

    Raises:
        SettingsError: the prefix is empty, or the lifetime is negative.
    """

    def __init__(
        self,
        model: type[Model],
        prefix: str,
        *,
        ttl: float | None = None,
        settings: CacheSettings | None = None,
    ) -> None:
        if not prefix:
            raise SettingsError("RedisCache got an empty prefix; it takes a name such as 'item'.")
        _check_ttl(ttl)
        self.model: Final = model
        self.prefix: Final = prefix
        self._values: Final = Values(model, prefix)
        self._ttl: Final = ttl
        self._settings: Final = settings

    # one object

    def get(self, id: Identity) -> Model | None:
        """Return the object; None where none is stored, or Redis is away."""
        return self.get_many([id]).get(id)

    async def aget(self, id: Identity) -> Model | None:
        """Return the object; None where none is stored, or Redis is away."""
        return (await self.aget_many([id])).get(id)

    def set(self, id: Identity, value: Model, *, ttl: float | None = None) -> bool:
        """Store the object and purge the responses built from its former state.

        In a GET that looked for the object before and missed it, `set` is a fill: it purges
        nothing, and what it stores is a miss if the object was changed meanwhile.

        An object is stored only if what is read later has its type and is equal in every part. One
        that JSON cannot hold is not stored, nothing is left under its key, and a warning names the
        part.

        Returns:
            Whether the object is stored.
        """
        return self.set_many({id: value}, ttl=ttl)

    async def aset(self, id: Identity, value: Model, *, ttl: float | None = None) -> bool:
        """Store the object, as `set` does."""
        return await self.aset_many({id: value}, ttl=ttl)

    def delete(self, id: Identity) -> bool:
        """Remove the object and purge every response built from it.

        Returns:
            Whether the purge is confirmed. A purge that is not confirmed is owed: it is made when
            Redis is back, before anything is read from Redis.
        """
        return self.delete_many([id])

    async def adelete(self, id: Identity) -> bool:
        """Remove the object, as `delete` does."""
        return await self.adelete_many([id])

    def get_or_set(
        self,
        id: Identity,
        load: Callable[[], Model],
        *,
        ttl: float | None = None,
    ) -> Model:
        """Return the object; where none is stored, load and store it.

        The token is read before `load` runs, so that a change meanwhile leaves nothing stale.

        Raises:
            Exception: what `load` raises, and nothing else.

        Returns:
            The object. A value of another type becomes the cache's type if pydantic accepts it.
            None is stored only if the type has None.
        """

        async def loaded() -> Model:
            try:
                return load()
            except StopIteration as error:
                # Python makes a RuntimeError of it in a coroutine.
                raise _StoppedError from error

        access, keep_for = self._blocking, self._keep_for(ttl)
        if access is None:
            return self._values.typed(load())
        try:
            return run_blocking(Loading(self._values, access, id, loaded, keep_for).run())
        except _StoppedError as stopped:
            raise cast("StopIteration", stopped.__cause__) from None

    async def aget_or_set(
        self,
        id: Identity,
        load: Callable[[], Model | Awaitable[Model]],
        *,
        ttl: float | None = None,
    ) -> Model:
        """Return the object, as `get_or_set` does; `load` may be a coroutine function."""

        async def loaded() -> Model:
            value = load()
            return cast("Model", await value if inspect.isawaitable(value) else value)

        access, keep_for = self._awaitable, self._keep_for(ttl)
        if access is None:
            return self._values.typed(await loaded())
        return await Loading(self._values, access, id, loaded, keep_for).run()

    # several objects

    def get_many(self, ids: Iterable[Id]) -> dict[Id, Model]:
        """Return the objects that are stored, in one round trip."""
        ids, access = list(dict.fromkeys(ids)), self._blocking
        return run_blocking(self._on(access).get_many(ids)) if ids and access else {}

    async def aget_many(self, ids: Iterable[Id]) -> dict[Id, Model]:
        """Return the objects that are stored, in one round trip."""
        ids, access = list(dict.fromkeys(ids)), self._awaitable
        return await self._on(access).get_many(ids) if ids and access else {}

    def set_many(self, values: Mapping[Id, Model], *, ttl: float | None = None) -> bool:
        """Store several objects, each as `set` does; return whether all are stored."""
        keep_for, access = self._keep_for(ttl), self._blocking
        if not values or access is None:
            return False
        return run_blocking(self._on(access).set_many(values, keep_for))

    async def aset_many(self, values: Mapping[Id, Model], *, ttl: float | None = None) -> bool:
        """Store several objects, each as `set` does; return whether all are stored."""
        keep_for, access = self._keep_for(ttl), self._awaitable
        if not values or access is None:
            return False
        return await self._on(access).set_many(values, keep_for)

    def delete_many(self, ids: Iterable[Identity]) -> bool:
        """Remove several objects, each as `delete` does."""
        ids, access = list(dict.fromkeys(ids)), self._blocking
        return run_blocking(self._on(access).delete_many(ids)) if ids and access else False

    async def adelete_many(self, ids: Iterable[Identity]) -> bool:
        """Remove several objects, each as `delete` does."""
        ids, access = list(dict.fromkeys(ids)), self._awaitable
        return await self._on(access).delete_many(ids) if ids and access else False

    # settings

    @property
    def _blocking(self) -> BlockingAccess | None:
        """The store for the plain methods; None while caching is disabled."""
        settings = self._current_settings
        return BlockingAccess(settings) if settings.use_redis_cache else None

    @property
    def _awaitable(self) -> Access | None:
        """The store for the awaitable methods; None while caching is disabled."""
        settings = self._current_settings
        if not settings.use_redis_cache:
            return None
        return (
            AwaitableAccess(settings) if runs_asyncio() else BlockingAccess(settings, awaits=True)
        )

    def _on(self, access: Access) -> Operations[Model]:
        return Operations(self._values, access)

    @property
    def _current_settings(self) -> CacheSettings:
        return settings_for(self._settings)

    def _keep_for(self, ttl: float | None) -> float:
        _check_ttl(ttl)
        for chosen in (ttl, self._ttl):
            if chosen is not None:
                return chosen
        return self._current_settings.cache_expiration


class _StoppedError(Exception):
    """Carries a `StopIteration` of `load`, as of a `next` that finds nothing."""


def _check_ttl(ttl: Any) -> None:
    if ttl is not None and not (isinstance(ttl, (int, float)) and 0 <= ttl < float("inf")):
        raise SettingsError(f"RedisCache got ttl={ttl!r}; it takes a number of seconds from 0 up.")
