"""The operations of the typed cache, each told once for awaiting and for blocking.

A fill stores a value under the tokens that were read before the value was made. A change purges
first, and stores under the new tokens. So no value made before a purge is read after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, final

from maxage.errors import StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.observe.counters import PROCESS
from maxage.observe.words import PurgeCause, TypedRead
from maxage.store.base import StoreWrite, TokenAuthority
from maxage.store.claims import Claim
from maxage.store.seal import SealedValue
from maxage.store.tokens import NAMESPACE_GROUP, is_quarantined
from maxage.typed.encoding import Encoded, Model
from maxage.typed.store_access import Access
from maxage.typed.values import Id, Identity, Tokens, Values


@final
class Operations(Generic[Model]):
    """The operations on one store, in the context of the current request."""

    def __init__(self, values: Values[Model], access: Access) -> None:
        self._values: Final = values
        self._store: Final = access.store
        self._namespace: Final = access.settings.cache_namespace
        self._dependencies: Final = _dependencies_on(access.store.authority)

    async def get_many(self, ids: Sequence[Id]) -> dict[Id, Model]:
        """Return the values that are stored."""
        stored, _ = await self.look(ids)
        PROCESS.typed_reads[TypedRead.HIT] += len(stored)
        PROCESS.typed_reads[TypedRead.MISS] += len(ids) - len(stored)
        return stored

    async def set_many(self, values: Mapping[Id, Model], keep_for: float) -> bool:
        """Store values; return whether all are stored."""
        encoded = {id: self._values.encode(value) for id, value in values.items()}
        fills, changes = self._fills_and_changes(encoded)
        is_filled = not fills or await self.fill(fills, self._tokens_seen(fills), keep_for)
        is_changed = not changes or await self.change(changes, keep_for)
        return is_filled and is_changed

    async def delete_many(self, ids: Sequence[Identity]) -> bool:
        """Remove values and purge their groups; return whether the purge is confirmed."""
        groups = [self._values.group(id) for id in ids]
        if self._dependencies is not None:
            for group in groups:
                # Purged again when the application call has returned: the commit may come late.
                self._dependencies.note_purge(group)
        confirmed = _counted(await self._store.renew(groups))
        await self._store.delete(self._values.keys(self._namespace, ids))
        return confirmed

    async def look(self, ids: Sequence[Id]) -> tuple[dict[Id, Model], Tokens]:
        """Return the values that are stored, and the tokens of their groups; None: not known."""
        groups = [NAMESPACE_GROUP, *map(self._values.group, ids)]
        try:
            reply = await self._store.read(self._values.keys(self._namespace, ids), groups)
        except StoreUnavailableError:
            unknown: Tokens = dict.fromkeys(groups)
            self._depend(unknown)
            self._note_missed(groups)
            return {}, unknown
        tokens = dict(zip(groups, reply.tokens, strict=True))
        # The response depends on a value that is missing too: what the handler does next does.
        self._depend(tokens)
        stored = self._values.opened(ids, reply, tokens)
        self._note_missed(self._values.group(id) for id in ids if id not in stored)
        self._note_missed(map(self._values.group, stored), missed=False)
        return stored, tokens

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
        return {group: read.get(group) if read else None for group in groups}

    async def fill(
        self,
        values: Mapping[Id, Encoded | None],
        tokens: Tokens,
        keep_for: float,
        ends: Claim | None = None,
    ) -> bool:
        """Store values under the tokens that were read before they were made.

        Args:
            values: the encoded values; None: another value would be read.
            tokens: the tokens of their groups and of the namespace.
            keep_for: seconds.
            ends: the claim that ends with this.

        Returns:
            Whether all values are stored.
        """
        allowed = {
            # A group that was purged too lately takes no fills.
            group: None if token is None or is_quarantined(token) else token
            for group, token in tokens.items()
        }
        return None not in (await self._write(values, allowed, keep_for, ends)).values()

    async def change(self, values: Mapping[Id, Encoded | None], keep_for: float) -> bool:
        """Purge the groups of the values, and store the values under the new tokens."""
        groups = [self._values.group(id) for id in values]
        self._note_written(dict.fromkeys(groups))
        # Before the purge: a purge of everything meanwhile then ends the value too.
        try:
            namespace = (await self._store.read((), (NAMESPACE_GROUP,))).tokens[0]
        except StoreUnavailableError:
            namespace = None
        renewed = await self._store.renew(groups)
        _counted(renewed)
        tokens = {NAMESPACE_GROUP: namespace, **dict(zip(groups, renewed, strict=True))}
        written = await self._write(values, tokens, keep_for)
        # Their groups are purged again after a late commit, and the values sealed anew.
        self._note_written(written)
        if self._dependencies is not None and not self._dependencies.mutating:
            # The response to a GET that changed a value shows the value: it depends on it.
            self._depend({group: tokens[group] for group in groups})
        return None not in written.values()

    def _note_written(self, written: Mapping[str, SealedValue | None]) -> None:
        if self._dependencies is not None:
            for group, sealed in written.items():
                self._dependencies.note_typed_write(group, sealed)

    async def _write(
        self,
        values: Mapping[Id, Encoded | None],
        tokens: Tokens,
        keep_for: float,
        ends: Claim | None = None,
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
        write = StoreWrite(entries, keep_for, carried, ends and ends.key)
        if entries and not await self._store.write_all([write]):
            refused += [key for key, _ in entries]
            written = dict.fromkeys(written)
        if refused:
            await self._store.delete(refused)
        # The next `set` of the same request is a change.
        stored = [group for group, sealed in written.items() if sealed is not None]
        self._note_missed(stored, missed=False)
        return written


def _counted(renewed: Sequence[bytes | None]) -> bool:
    """Count a purge; return whether it is confirmed."""
    return PROCESS.count_purge(PurgeCause.TYPED, confirmed=None not in renewed)


def _dependencies_on(authority: TokenAuthority) -> Dependencies | None:
    """Return the dependencies of the current request if its middleware uses the same store."""
    dependencies = current_dependencies.get()
    if dependencies is None or dependencies.authority is authority:
        return dependencies
    # The middleware keeps its tokens elsewhere: no purge of a typed value reaches its responses.
    dependencies.unprotected = True
    return None
