"""How an operation of the typed cache reaches the store, and waits: awaiting, or blocking.

Each operation is one coroutine. The awaitable methods await it with an `AwaitableAccess`. The
blocking methods run it with a `BlockingAccess`, whose coroutines never suspend; so do the awaitable
ones in an event loop that is not asyncio's.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, Final, TypeVar, final

from maxage.background import Background, runs_asyncio
from maxage.settings import CacheSettings
from maxage.store.base import StoreReply, StoreWrite, SyncStore
from maxage.store.claims import Claims
from maxage.store_factory import store_for, sync_store_for

Result = TypeVar("Result")

_NOT_SHAREABLE_SECONDS: Final = 10.0
"""For so long no process waits for a value that turned out to have no encoding."""


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

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        return self._store.write_all_now(writings)

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        return self._store.claim_now(key, value, keep_for=keep_for)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        return self._store.delete_now(keys)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        return self._store.renew_now(groups)


@final
class AwaitableAccess:
    """The store for callers that await."""

    may_wait: Final = True

    def __init__(self, settings: CacheSettings) -> None:
        self.settings: Final = settings
        self.store: Final = store_for(settings)

    @property
    def claims(self) -> Claims | None:
        """The claims to values that are being loaded; None: no other process sees the store."""
        return _awaitable_claims(self.settings) if self.store.shared else None

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)

    async def result(self, future: "Future[Result]", seconds: float) -> Result | None:
        """Return the result of a running future; None: it does not come in so many seconds."""
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait([waiting], timeout=seconds)
            return waiting.result() if waiting.done() else None
        finally:
            # It must not outlive the event loop. A running future itself cannot be cancelled.
            waiting.cancel()


@final
class BlockingAccess:
    """The store for callers that block their thread.

    Args:
        settings: name the store.
        awaits: whether the caller awaits it, in another event loop than asyncio's.
    """

    def __init__(self, settings: CacheSettings, *, awaits: bool = False) -> None:
        self.settings: Final = settings
        self.store: Final = BlockingStore(sync_store_for(settings))
        self._awaits: Final = awaits

    @property
    def may_wait(self) -> bool:
        """Whether the thread may wait for others: it runs no event loop."""
        return not self._awaits and not runs_asyncio()

    @property
    def claims(self) -> Claims | None:
        """The claims to values that are being loaded; None: no other process sees the store."""
        return _blocking_claims(self.settings) if store_for(self.settings).shared else None

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)  # noqa: ASYNC251 - this coroutine never suspends

    async def result(self, future: "Future[Result]", seconds: float) -> Result | None:
        """Return the result of a running future; None: it does not come in so many seconds."""
        try:
            return future.result(seconds if self.may_wait else 0)
        except TimeoutError:
            return None


Access = AwaitableAccess | BlockingAccess


@lru_cache(maxsize=64)
def _awaitable_claims(settings: CacheSettings) -> Claims:
    return Claims(store_for(settings), Background(), not_shareable_for=_NOT_SHAREABLE_SECONDS)


@lru_cache(maxsize=64)
def _blocking_claims(settings: CacheSettings) -> Claims:
    store = BlockingStore(sync_store_for(settings))
    return Claims(store, _ThreadRunner(), not_shareable_for=_NOT_SHAREABLE_SECONDS)


@final
class _ThreadRunner:
    """Runs the work on claims without an event loop; see `Runner`."""

    @property
    def owner(self) -> object:
        """This runner: its work belongs to no event loop."""
        return self

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work to its end, at once."""
        run_blocking(work)

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function in a thread, after so many seconds."""
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()


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
