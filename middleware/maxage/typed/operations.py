"""The operations of the typed cache, each told once for awaiting and for blocking.

A fill stores a value under the tokens that were read before the value was made. A change purges
first, and stores under the new tokens. So no value made before a purge is read after it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, final

from maxage.errors import StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.store.seal import SealedValue
from maxage.store.tokens import NAMESPACE_GROUP, is_quarantined
from maxage.typed.store_access import AccessibleStore
from maxage.typed.values import Id, Identity, Model, Tokens, Values


@final
class Operations(Generic[Model]):
    """The operations on one store, in the context of the current request.

    Args:
        values: the type's keys, encoding and seals.
        store: keeps the values.
        namespace: the first part of the seals' keys.
    """

    def __init__(self, values: Values[Model], store: AccessibleStore, namespace: str) -> None:
        self._values: Final = values
        self._store: Final = store
        self._namespace: Final = namespace
        self._dependencies: Final = _dependencies_on(store)

    async def get_many(self, ids: Sequence[Id]) -> dict[Id, Model]:
        """Return the values that are stored."""
        return (await self._look(ids))[0]

    async def get_or_set(
        self, id: Identity, load: Callable[[], Awaitable[Model]], keep_for: float
    ) -> Model:
        """Return the value; where none is stored, load it and store it."""
        stored, tokens = await self._look([id])
        if id in stored:
            return stored[id]
        value = await load()
        if value is not None:
            await self._fill({id: value}, tokens, keep_for)
        return value

    async def set_many(self, values: Mapping[Id, Model], keep_for: float) -> bool:
        """Store values; return whether all are stored."""
        fills, changes = self._fills_and_changes(values)
        stored: list[SealedValue | None] = []
        if fills:
            stored += (await self._fill(fills, self._tokens_seen(fills), keep_for)).values()
        if changes:
            stored += (await self._change(changes, keep_for)).values()
        return len(stored) == len(values) and None not in stored

    async def delete_many(self, ids: Sequence[Identity]) -> bool:
        """Remove values and purge their groups; return whether the purge is confirmed."""
        groups = [self._values.group(id) for id in ids]
        if self._dependencies is not None:
            for group in groups:
                # Purged again when the application call has returned: the commit may come late.
                self._dependencies.note_purge(group)
        confirmed = None not in await self._store.renew(groups)
        await self._store.delete(self._values.keys(self._namespace, ids))
        return confirmed

    async def _look(self, ids: Sequence[Id]) -> tuple[dict[Id, Model], Tokens]:
        """Return the values that are stored, and the tokens that a fill may be stored under."""
        groups = [NAMESPACE_GROUP, *map(self._values.group, ids)]
        try:
            reply = await self._store.read(self._values.keys(self._namespace, ids), groups)
        except StoreUnavailableError:
            self._depend(dict.fromkeys(groups))
            return {}, {}
        tokens = dict(zip(groups, reply.tokens, strict=True))
        # The response depends on a value that is missing too: what the handler does next does.
        self._depend(tokens)
        return self._values.opened(ids, reply, tokens), _for_fills(tokens)

    def _depend(self, tokens: Tokens) -> None:
        if self._dependencies is not None:
            for group, token in tokens.items():
                self._dependencies.depend(group, token)

    def _fills_and_changes(
        self, values: Mapping[Id, Model]
    ) -> tuple[dict[Id, Model], dict[Id, Model]]:
        """Tell fills, whose token was seen before the value was made, from changes."""
        dependencies = self._dependencies
        if dependencies is None or dependencies.mutating:
            return {}, dict(values)
        # A value that a safe request did not look for is neither: it may be older than a change.
        read = dependencies.read
        return {id: v for id, v in values.items() if self._values.group(id) in read}, {}

    def _tokens_seen(self, ids: Iterable[Identity]) -> Tokens:
        groups = [NAMESPACE_GROUP, *map(self._values.group, ids)]
        read = self._dependencies and self._dependencies.read
        return _for_fills({group: read.get(group) if read else None for group in groups})

    async def _change(
        self, values: Mapping[Id, Model], keep_for: float
    ) -> Mapping[str, SealedValue | None]:
        """Purge the groups of the values and store the values under the new tokens."""
        groups = [self._values.group(id) for id in values]
        self._note_written(dict.fromkeys(groups))
        renewed = await self._store.renew(groups)
        try:
            namespace = (await self._store.read((), (NAMESPACE_GROUP,))).tokens[0]
        except StoreUnavailableError:
            namespace = None
        tokens = {NAMESPACE_GROUP: namespace, **dict(zip(groups, renewed, strict=True))}
        written = await self._fill(values, tokens, keep_for)
        # Their groups are purged again after a late commit, and the values sealed anew.
        self._note_written(written)
        return written

    def _note_written(self, written: Mapping[str, SealedValue | None]) -> None:
        if self._dependencies is not None:
            for group, sealed in written.items():
                self._dependencies.note_typed_write(group, sealed)

    async def _fill(
        self, values: Mapping[Id, Model], tokens: Tokens, keep_for: float
    ) -> Mapping[str, SealedValue | None]:
        """Store the values; return them by group, None for one that is not stored."""
        entries, sealed = self._values.sealed(self._namespace, values, tokens, keep_for)
        carried = {group: token for group, token in tokens.items() if token is not None}
        if entries and await self._store.write(entries, keep_for=keep_for, tokens=carried):
            return sealed
        return dict.fromkeys(map(self._values.group, values))


def _dependencies_on(store: AccessibleStore) -> Dependencies | None:
    """Return the dependencies of the current request if its middleware uses the same store."""
    dependencies = current_dependencies.get()
    if dependencies is None or dependencies.authority is store.authority:
        return dependencies
    # The middleware keeps its tokens elsewhere: no purge of a typed value reaches its responses.
    dependencies.unprotected = True
    return None


def _for_fills(tokens: Tokens) -> Tokens:
    """Return the tokens; None for a group that was purged too lately for a fill."""
    return {
        group: None if token is None or is_quarantined(token) else token
        for group, token in tokens.items()
    }
