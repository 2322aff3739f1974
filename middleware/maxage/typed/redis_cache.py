"""The typed cache: single objects under keys of their own, tied to the responses built from them.

`RedisCache[Item](Item, prefix="item")` keeps the object `5` as plain JSON under `item:5`. Beside it
lies a seal: a digest of the value with the tokens it was stored under. A value whose seal is not
there, is not its own, or names tokens that changed, is a miss; so a purge that came late, or the
loss of one, reaches typed values as it reaches responses.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast, final

from pydantic import TypeAdapter, ValidationError

from maxage.errors import SettingsError, StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.invalidation.group_names import tag_group
from maxage.settings import CacheSettings, settings_from_environment
from maxage.store.base import Store, StoreReply, SyncStore
from maxage.store.seal import Kept, digest_of, is_sealed, seal_of
from maxage.store.tokens import NAMESPACE_GROUP, is_quarantined
from maxage.store_factory import store_for, sync_store_for

Model = TypeVar("Model")
Id = TypeVar("Id", bound=str | int)
Identity = str | int
logger = logging.getLogger("maxage")


@final
class RedisCache(Generic[Model]):
    """A cache of objects of one type, for fine-grained use beside the response cache.

    Each method has an awaitable twin (`get` and `aget`). The plain ones block their thread for at
    most the budget (50 ms to read, 100 ms to write), at most three times per outage; in an
    `async def` handler that is the whole event loop, so that there the twins are the better choice.

    Nothing is raised because Redis is away: a read is a miss, a write says that nothing was stored.

    Args:
        model: the type; whatever pydantic's TypeAdapter takes.
        prefix: the first part of the keys, which are `prefix:id`.
        ttl: seconds for which values are kept; `CACHE_EXPIRATION` by default.
        settings: read from the environment by default, when they are first needed.

    Raises:
        SettingsError: the prefix is empty, or the lifetime negative.
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
        self.prefix: Final = prefix
        self._adapter: TypeAdapter[Model] = TypeAdapter(model)
        self._ttl = ttl
        self._settings = settings

    # one object

    def get(self, id: Identity) -> Model | None:
        """Return the object, or None where there is none or Redis is away."""
        return self.get_many([id]).get(id)

    async def aget(self, id: Identity) -> Model | None:
        """Return the object, or None where there is none or Redis is away."""
        return (await self.aget_many([id])).get(id)

    def set(self, id: Identity, value: Model, *, ttl: float | None = None) -> bool:
        """Keep the object and purge what was built from its former state.

        In a GET that looked for the object before and did not find it, this is a fill rather than a
        change: it purges nothing, and is in vain if the object was changed meanwhile. A GET that
        did not look for it before keeps nothing.

        Returns:
            Whether it is stored.
        """
        return self.set_many({id: value}, ttl=ttl)

    async def aset(self, id: Identity, value: Model, *, ttl: float | None = None) -> bool:
        """Keep the object, as `set` does."""
        return await self.aset_many({id: value}, ttl=ttl)

    def delete(self, id: Identity) -> bool:
        """Remove the object and purge every response that was built from it.

        Returns:
            Whether the purge is confirmed. One that is not is made up for as soon as Redis is back,
            before anything is read from it.
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
        """Return the object; where it is missing, load and keep it.

        The token is taken before `load` runs, so that a change meanwhile leaves nothing stale.
        What `load` raises is raised; a None that it returns is not kept.
        """
        found, seen = self._look([id])
        if id in found:
            return found[id]
        value = load()
        if value is not None:
            self._fill({id: value}, seen, ttl)
        return value

    async def aget_or_set(
        self,
        id: Identity,
        load: Callable[[], Model | Awaitable[Model]],
        *,
        ttl: float | None = None,
    ) -> Model:
        """Return the object, as `get_or_set` does; `load` may be a coroutine function."""
        found, seen = await self._alook([id])
        if id in found:
            return found[id]
        loaded = load()
        value = cast("Model", await loaded if inspect.isawaitable(loaded) else loaded)
        if value is not None:
            await self._afill({id: value}, seen, ttl)
        return value

    # several objects

    def get_many(self, ids: Iterable[Id]) -> dict[Id, Model]:
        """Return those objects that there are, in one round trip."""
        return self._look(list(dict.fromkeys(ids)))[0]

    async def aget_many(self, ids: Iterable[Id]) -> dict[Id, Model]:
        """Return those objects that there are, in one round trip."""
        return (await self._alook(list(dict.fromkeys(ids))))[0]

    def set_many(self, values: Mapping[Id, Model], *, ttl: float | None = None) -> bool:
        """Keep several objects, each as `set` does."""
        _check_ttl(ttl)
        if not values or not self._enabled:
            return False
        fills, changes = self._fills_and_changes(values)
        stored = [self._fill(fills, self._seen(fills), ttl)] if fills else []
        if changes:
            groups = self._kept(changes)
            tokens = self._with_namespace(groups, self._sync.renew_now(groups))
            stored.append(self._fill(changes, tokens, ttl))
            self._keep(changes, tokens, ttl)
        return bool(stored) and len(fills) + len(changes) == len(values) and all(stored)

    async def aset_many(self, values: Mapping[Id, Model], *, ttl: float | None = None) -> bool:
        """Keep several objects, each as `set` does."""
        _check_ttl(ttl)
        if not values or not self._enabled:
            return False
        fills, changes = self._fills_and_changes(values)
        stored = [await self._afill(fills, self._seen(fills), ttl)] if fills else []
        if changes:
            groups = self._kept(changes)
            renewed = await self._async.renew(groups)
            tokens = await self._awith_namespace(groups, renewed)
            stored.append(await self._afill(changes, tokens, ttl))
            self._keep(changes, tokens, ttl)
        return bool(stored) and len(fills) + len(changes) == len(values) and all(stored)

    def delete_many(self, ids: Iterable[Identity]) -> bool:
        """Remove several objects, each as `delete` does."""
        ids = list(dict.fromkeys(ids))
        if not ids or not self._enabled:
            return False
        groups = self._touched(ids)
        confirmed = None not in self._sync.renew_now(groups)
        self._sync.delete_now([key for id in ids for key in self._keys(id)])
        return confirmed

    async def adelete_many(self, ids: Iterable[Identity]) -> bool:
        """Remove several objects, each as `delete` does."""
        ids = list(dict.fromkeys(ids))
        if not ids or not self._enabled:
            return False
        groups = self._touched(ids)
        confirmed = None not in await self._async.renew(groups)
        await self._async.delete([key for id in ids for key in self._keys(id)])
        return confirmed

    # reading

    def _look(self, ids: Sequence[Id]) -> tuple[dict[Id, Model], dict[str, bytes | None]]:
        if not ids or not self._enabled:
            return {}, {}
        try:
            reading = self._sync.read_now(*self._asked(ids))
        except StoreUnavailableError:
            return self._found_nothing(ids)
        return self._found(ids, reading)

    async def _alook(self, ids: Sequence[Id]) -> tuple[dict[Id, Model], dict[str, bytes | None]]:
        if not ids or not self._enabled:
            return {}, {}
        try:
            reading = await self._async.read(*self._asked(ids))
        except StoreUnavailableError:
            return self._found_nothing(ids)
        return self._found(ids, reading)

    def _asked(self, ids: Sequence[Identity]) -> tuple[list[bytes], list[str]]:
        keys = [key for id in ids for key in self._keys(id)]
        return keys, [NAMESPACE_GROUP, *(self._group(id) for id in ids)]

    def _found_nothing(self, ids: Sequence[Id]) -> tuple[dict[Id, Model], dict[str, bytes | None]]:
        dependencies = self._dependencies()
        if dependencies is not None:
            for id in ids:
                dependencies.depend(self._group(id), None)
        return {}, {}

    def _found(
        self, ids: Sequence[Id], reading: StoreReply
    ) -> tuple[dict[Id, Model], dict[str, bytes | None]]:
        tokens = dict(zip(self._asked(ids)[1], reading.tokens, strict=True))
        dependencies = self._dependencies()
        found: dict[Id, Model] = {}
        for position, id in enumerate(ids):
            group = self._group(id)
            if dependencies is not None:
                # Found or not: what the handler does next depends on it.
                dependencies.depend(group, tokens[group])
                dependencies.depend(NAMESPACE_GROUP, tokens[NAMESPACE_GROUP])
            value, seal = reading.values[2 * position : 2 * position + 2]
            if not isinstance(value, bytes) or not isinstance(seal, bytes):
                continue
            if not is_sealed(value, seal, tokens[NAMESPACE_GROUP], tokens[group]):
                continue
            try:
                found[id] = self._adapter.validate_json(value)
            except ValidationError:
                # It was stored for another version of the model.
                logger.debug("A cached %s does not fit its model any more.", self.prefix)
        return found, {group: _unless_quarantined(token) for group, token in tokens.items()}

    # writing

    def _fills_and_changes(
        self, values: Mapping[Id, Model]
    ) -> tuple[dict[Id, Model], dict[Id, Model]]:
        """Tell fills, whose token was seen before the value was made, from changes."""
        dependencies = self._dependencies()
        if dependencies is None or dependencies.mutating:
            return {}, dict(values)
        # In a safe request what was not looked for before is neither: nobody knows whether it was
        # read before or after somebody else's change.
        return {id: v for id, v in values.items() if self._group(id) in dependencies.read}, {}

    def _seen(self, fills: Iterable[Identity]) -> dict[str, bytes | None]:
        dependencies = self._dependencies()
        read: Mapping[str, bytes] = dependencies.read if dependencies is not None else {}
        groups = [NAMESPACE_GROUP, *(self._group(id) for id in fills)]
        return {group: _unless_quarantined(read.get(group)) for group in groups}

    def _fill(
        self,
        values: Mapping[Id, Model],
        tokens: Mapping[str, bytes | None],
        ttl: float | None,
    ) -> bool:
        entries, keep_for = self._entries(values, tokens), self._keep_for(ttl)
        return bool(entries) and self._sync.write_now(
            entries, keep_for=keep_for, tokens=_known(tokens)
        )

    async def _afill(
        self,
        values: Mapping[Id, Model],
        tokens: Mapping[str, bytes | None],
        ttl: float | None,
    ) -> bool:
        entries, keep_for = self._entries(values, tokens), self._keep_for(ttl)
        return bool(entries) and await self._async.write(
            entries, keep_for=keep_for, tokens=_known(tokens)
        )

    def _entries(
        self, values: Mapping[Id, Model], tokens: Mapping[str, bytes | None]
    ) -> list[tuple[bytes, bytes]]:
        """Return each value with its seal; none where a token is not to be had."""
        entries: list[tuple[bytes, bytes]] = []
        namespace = tokens.get(NAMESPACE_GROUP)
        for id, value in values.items():
            token = tokens.get(self._group(id))
            if namespace is None or token is None:
                return []
            encoded = self._adapter.dump_json(value)
            key, seal_key = self._keys(id)
            entries += ((key, encoded), (seal_key, seal_of(encoded, namespace, token)))
        return entries

    def _with_namespace(
        self, groups: Sequence[str], renewed: Sequence[bytes | None]
    ) -> dict[str, bytes | None]:
        """Return the new tokens with the namespace's as it is now."""
        try:
            namespace = self._sync.read_now((), (NAMESPACE_GROUP,)).tokens[0]
        except StoreUnavailableError:
            namespace = None
        return {NAMESPACE_GROUP: namespace, **dict(zip(groups, renewed, strict=True))}

    async def _awith_namespace(
        self, groups: Sequence[str], renewed: Sequence[bytes | None]
    ) -> dict[str, bytes | None]:
        try:
            namespace = (await self._async.read((), (NAMESPACE_GROUP,))).tokens[0]
        except StoreUnavailableError:
            namespace = None
        return {NAMESPACE_GROUP: namespace, **dict(zip(groups, renewed, strict=True))}

    def _kept(self, ids: Iterable[Identity]) -> list[str]:
        groups = [self._group(id) for id in ids]
        dependencies = self._dependencies()
        if dependencies is not None:
            for group in groups:
                dependencies.keep(group)
        return groups

    def _keep(
        self, values: Mapping[Id, Model], tokens: Mapping[str, bytes | None], ttl: float | None
    ) -> None:
        """Note how the values are sealed: their groups are purged again after a late commit."""
        dependencies = self._dependencies()
        namespace = tokens[NAMESPACE_GROUP]
        if dependencies is None or namespace is None:
            return
        for id, value in values.items():
            group = self._group(id)
            token = tokens[group]
            if token is not None:
                kept = Kept(
                    token=token,
                    namespace=namespace,
                    key=self._keys(id)[1],
                    digest=digest_of(self._adapter.dump_json(value)),
                    keep_for=self._keep_for(ttl),
                )
                dependencies.keep(group, kept)

    def _touched(self, ids: Iterable[Identity]) -> list[str]:
        groups = [self._group(id) for id in ids]
        dependencies = self._dependencies()
        if dependencies is not None:
            for group in groups:
                # Purged again when the application call has returned: the commit may come late.
                dependencies.touch(group)
        return groups

    # names and settings

    def _keys(self, id: Identity) -> tuple[bytes, bytes]:
        name = f"{self.prefix}:{id}"
        seal = f"{self._resolved.cache_namespace}:s:{name}"
        return name.encode("utf-8", "surrogatepass"), seal.encode("utf-8", "surrogatepass")

    def _group(self, id: Identity) -> str:
        return tag_group(f"{self.prefix}:{id}")

    def _keep_for(self, ttl: float | None) -> float:
        for chosen in (ttl, self._ttl):
            if chosen is not None:
                return chosen
        return self._resolved.cache_expiration

    def _dependencies(self) -> Dependencies | None:
        """Return what the current request has noted, where its tokens are kept with ours."""
        dependencies = current_dependencies.get()
        if dependencies is None or dependencies.authority is self._sync.authority:
            return dependencies
        # The middleware keeps its tokens elsewhere: no purge of ours would reach its entries.
        dependencies.unprotected = True
        return None

    @property
    def _resolved(self) -> CacheSettings:
        return self._settings if self._settings is not None else settings_from_environment()

    @property
    def _enabled(self) -> bool:
        return self._resolved.use_redis_cache

    @property
    def _sync(self) -> SyncStore:
        return sync_store_for(self._resolved)

    @property
    def _async(self) -> Store:
        return store_for(self._resolved)


def _unless_quarantined(token: bytes | None) -> bytes | None:
    """Return the token that a fill may be stored under."""
    return None if token is None or is_quarantined(token) else token


def _known(tokens: Mapping[str, bytes | None]) -> dict[str, bytes]:
    return {group: token for group, token in tokens.items() if token is not None}


def _check_ttl(ttl: Any) -> None:
    if ttl is not None and not (isinstance(ttl, (int, float)) and 0 <= ttl < float("inf")):
        raise SettingsError(f"RedisCache got ttl={ttl!r}; it takes a number of seconds from 0 up.")
