"""One form of store for the awaitable and the blocking methods of the typed cache.

Each operation of the typed cache is one coroutine. The awaitable methods await it with a `Store`.
The blocking methods run it with a `BlockingStore`, whose coroutines never suspend.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, final

from maxage.store.base import Store, StoreReply, SyncStore

Result = TypeVar("Result")


@final
class BlockingStore:
    """A synchronous store in the form of an awaitable one; see `Store` for the methods."""

    def __init__(self, store: SyncStore) -> None:
        self._store: Final = store
        self.authority: Final = store.authority

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        return self._store.read_now(keys, groups)

    async def write(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        return self._store.write_now(values, keep_for=keep_for, tokens=tokens)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        return self._store.delete_now(keys)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        return self._store.renew_now(groups)


AccessibleStore = Store | BlockingStore


def run_blocking(operation: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never suspends to its end; return its result.

    Raises:
        RuntimeError: the coroutine suspends.
    """
    try:
        operation.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    operation.close()
    raise RuntimeError("A blocking operation of the typed cache awaits something.")
