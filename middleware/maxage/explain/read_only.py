"""A store that can only be looked at: its reads create no token, and its writes do nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.observer import Observer
from maxage.redis_store.redis_store import RedisStore
from maxage.store.base import Store, StoreReply, StoreWrite, Value
from maxage.store.memory import MemoryStore
from maxage.store.tokens import HIDDEN_HISTORY, fresh_token
from maxage.store.wanted_claim import WantedClaim

Peek = Callable[[Sequence[bytes], Sequence[str]], StoreReply]
"""Reads values and tokens as they are; may block."""


@final
class ReadOnlyStore:
    """Shows the values and tokens of another store to a `Cache`.

    A missing token is made up, as a real read would create it, and written nowhere.
    """

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self.shared: Final = store.shared
        self.authority: Final = store.authority
        self.keeps_objects: Final = store.keeps_objects
        self.near: Final = None
        """A near copy says nothing that a lookup does not say."""
        self._peek: Final = _peek_of(store)
        self.missing: Final[set[str]] = set()
        """The groups that have no token."""

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> StoreReply:
        """Return values and tokens as they are now; nothing is claimed.

        Raises:
            StoreUnavailableError: the store does not answer, or this process may not trust it.
        """
        del wanted
        if self._peek is None:
            return await self._store.read(keys, groups)
        reply = await asyncio.to_thread(self._peek, keys, groups)
        pairs = zip(groups, reply.tokens, strict=True)
        self.missing.update(group for group, token in pairs if token is None)
        return StoreReply(reply.values, [t or fresh_token(HIDDEN_HISTORY) for t in reply.tokens])

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        """Move nothing."""
        del name, keys, most, keep_for
        return ()

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        """Return the keys of a list."""
        return await self._store.enlisted(name)

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Write nothing."""
        del values, keep_for, tokens
        return False

    async def write_all(self, writes: Sequence[StoreWrite]) -> bool:
        """Write nothing."""
        del writes
        return False

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Claim nothing."""
        del key, value, keep_for
        return None

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove nothing."""
        del keys
        return False

    def mutating(self) -> AbstractAsyncContextManager[bool]:
        """Enclose nothing."""
        return nullcontext(enter_result=False)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge nothing."""
        return [None] * len(groups)

    async def soften(self, groups: Sequence[str]) -> bool:
        """Purge nothing."""
        del groups
        return False

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Purge nothing."""
        return [None] * len(groups), [None] * len(groups)


def _peek_of(store: Store) -> Peek | None:
    """Return how to look into a store; None: it can only be read."""
    if isinstance(store, MemoryStore):
        return store.peek
    if isinstance(store, RedisStore):
        named = store.settings.model_copy(update={"redis_url": store.url})
        return partial(_peek_into_redis, store, Observer(named))
    return None


def _peek_into_redis(
    store: RedisStore, observer: Observer, keys: Sequence[bytes], groups: Sequence[str]
) -> StoreReply:
    state = store.redis_state
    if not state.owed_purges.empty:
        raise StoreUnavailableError("this process owes a purge")
    if not state.recovery.all_answer:
        raise StoreUnavailableError("the circuit breaker of this process is open")
    return observer.peek(store.settings.cache_namespace, keys, groups)
