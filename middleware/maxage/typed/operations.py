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
from maxage.typed.encoding import Encoded, Model
from maxage.typed.store_access import AccessibleStore
from maxage.typed.values import Id, Identity, Tokens, Values


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
        value, encoded = self._values.encode_loaded(await load())
        await self._fill({id: encoded}, tokens, keep_for)
        return value

    async def set_many(self, values: Mapping[Id, Model], keep_for: float) -> bool:
        """Store values; return whether all are stored."""
        encoded = {id: self._values.encode(value) for id, value in values.items()}
        fills, changes = self._fills_and_changes(encoded)
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
            self._note_missed(groups)
            return {}, {}
        tokens = dict(zip(groups, reply.tokens, strict=True))
        # The response depends on a value that is missing too: what the handler does next does.
        self._depend(tokens)
        stored = self._values.opened(ids, reply, tokens)
        self._note_missed(self._values.group(id) for id in ids if id not in stored)
        self._note_missed(map(self._values.group, stored), missed=False)
        return stored, _for_fills(tokens)

    def _note_missed(self, groups: Iterable[str], *, missed: bool = True) -> None:
        if self._dependencies is not None:
            for group in groups:
                self._dependencies.note_missed(group, missed=missed)

    def _depend(self, tokens: Tokens) -> None:
        if self._dependencies is not None:
            for group, token in tokens.items():
                self._dependencies.depend(group, token)

    def _fills_and_changes(
        self, values: Mapping[Id, Encoded | None]
    ) -> tuple[dict[Id, Encoded | None], dict[Id, Encoded | None]]:
        """Tell fills, which follow a look that missed in a safe request, from changes."""
        dependencies = self._dependencies
        if dependencies is None or dependencies.mutating:
            return {}, dict(values)
        missed = {id for id in values if self._values.group(id) in dependencies.missed}
        fills = {id: value for id, value in values.items() if id in missed}
        return fills, {id: value for id, value in values.items() if id not in missed}

    def _tokens_seen(self, ids: Iterable[Identity]) -> Tokens:
        groups = [NAMESPACE_GROUP, *map(self._values.group, ids)]
        read = self._dependencies and self._dependencies.read
        return _for_fills({group: read.get(group) if read else None for group in groups})

    async def _change(
        self, values: Mapping[Id, Encoded | None], keep_for: float
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
        if self._dependencies is not None and not self._dependencies.mutating:
            # The response to a GET that changed a value shows the value: it depends on it.
            self._depend({group: tokens[group] for group in groups})
        return written

    def _note_written(self, written: Mapping[str, SealedValue | None]) -> None:
        if self._dependencies is not None:
            for group, sealed in written.items():
                self._dependencies.note_typed_write(group, sealed)

    async def _fill(
        self, values: Mapping[Id, Encoded | None], tokens: Tokens, keep_for: float
    ) -> Mapping[str, SealedValue | None]:
        """Store the values; return them by group, None for one that is not stored.

        Nothing is left under the key of a value that is not stored: clients that read the key
        itself would take an older value for the current one.
        """
        written: dict[str, SealedValue | None] = {}
        entries: list[tuple[bytes, bytes]] = []
        refused: list[bytes] = []
        namespace = tokens.get(NAMESPACE_GROUP)
        for id, encoded in values.items():
            group = self._values.group(id)
            key, seal_key = self._values.keys(self._namespace, [id])
            token = tokens.get(group)
            written[group] = None
            if encoded is None or namespace is None or token is None or keep_for <= 0:
                refused += (key, seal_key)
                continue
            sealed = self._values.seal(seal_key, encoded, (namespace, token), keep_for)
            entries += ((key, encoded.data), (seal_key, sealed.seal(token)))
            written[group] = sealed
        carried = {group: token for group, token in tokens.items() if token is not None}
        if entries and not await self._store.write(entries, keep_for=keep_for, tokens=carried):
            refused += [key for key, _ in entries]
            written = dict.fromkeys(written)
        if refused:
            await self._store.delete(refused)
        # Another `set` of the same request is a change.
        stored = [group for group, sealed in written.items() if sealed is not None]
        self._note_missed(stored, missed=False)
        return written


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
