"""Stores: where responses, tokens and typed values lie."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from maxage.store.entry import Entry, VariantIndex
from maxage.store.lookup_result import LookupResult
from maxage.store.near_copy import Copy

Value = bytes | Entry | VariantIndex
"""What lies under a key; only a store that `keeps_objects` is given, or gives, more than bytes."""


@dataclass(slots=True)
class StoreReply:
    """One round trip's answer, in the order of what was asked.

    Several who asked the same in one turn of the event loop may share it.
    """

    values: Sequence[Value | None]
    tokens: Sequence[bytes | None]
    """The current token of each group. A missing one was created; None: it could not be."""
    result: LookupResult | None = None
    """The lookup's result, for all requests that share this reply. No store sets it."""


class StoreWrite(NamedTuple):
    """What is written as one: values, how long they are kept, and what they depend on."""

    values: Sequence[tuple[bytes, Value]]
    """What to keep, with its keys."""
    keep_for: float
    """Seconds."""
    tokens: Mapping[str, bytes]
    """The token of each group that the values depend on, as they carry it."""
    ended: bytes | None = None
    """The key of a claim that ends with this."""


class Near(Protocol):
    """What keeps copies ready to be sent in this process."""

    @property
    def exact(self) -> bool:
        """Whether a copy may answer only when `confirm`, called after `find`, says so."""
        ...

    def __len__(self) -> int:
        """Return the number of copies."""
        ...

    def find(self, key: bytes) -> Copy | None:
        """Return the copy kept under a key, if copies may be used now and it has not ended."""
        ...

    async def confirm(self) -> bool:
        """Return whether all that was purged before this call has been dropped."""
        ...

    def begin(self) -> int:
        """Return what `keep` takes; to be called before the first byte of a lookup is sent."""
        ...

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Keep what a lookup brought, until `ends` (monotonic), unless it may be outdated."""
        ...

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop copies in whose place something newer is stored, or nothing."""
        ...


CLAIM_ENDED: Final = b"+"
"""What lies under a claim for a moment when the response has been written."""
CLAIM_ENDED_SECONDS: Final = 1.0
"""That moment: whoever looked for the response just before it came finds no free claim."""


class TokenAuthority:
    """Keeps tokens: two stores with the same authority purge each other."""

    __slots__ = ()


@runtime_checkable
class Store(Protocol):
    """What the cache asks of a store. Keys are whole keys; groups are names (see `tokens`).

    A method that may fail says so: a read raises `StoreUnavailableError`, a write answers False.
    Nothing else is raised because the store is away.
    """

    @property
    def trusted(self) -> bool:
        """Whether what is read may be served: the store answers, and no purge is owed to it."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes see the same values."""
        ...

    @property
    def authority(self) -> TokenAuthority:
        """The object that keeps the tokens."""
        ...

    @property
    def keeps_objects(self) -> bool:
        """Whether values need not be encoded, since they never leave the process."""
        ...

    @property
    def near(self) -> Near | None:
        """What keeps copies in this process; None: nothing does."""
        ...

    async def open(self) -> None:
        """Make ready; never raises because the store is away."""
        ...

    async def close(self) -> None:
        """Give back what `open` or use took; the store can be used again afterwards."""
        ...

    async def ping(self) -> bool:
        """Return whether the store really answers now, within a short budget of its own."""
        ...

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return the values of the keys and the tokens of the groups, in one round trip.

        A token that is missing, or was written in another history of the server, is created.

        Raises:
            StoreUnavailableError: there was no trustworthy answer within the read budget.
        """
        ...

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values for `keep_for` seconds, and the tokens that they carry as long.

        Args:
            values: what to keep, with its keys.
            keep_for: seconds.
            tokens: the token of each group that the values depend on, as they carry it.

        Returns:
            Whether all values are kept.
        """
        ...

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        """Do what `write` does for each of them, together; return whether all values are kept."""
        ...

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value for so many seconds unless one lies there; return what lies there now.

        None: the store did not answer, or takes no claims now.
        """
        ...

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values."""
        ...

    def mutating(self) -> AbstractAsyncContextManager[bool]:
        """Enclose a request that may change something, from before it runs until it is purged.

        Within, the other processes notice if this one can no longer purge, and it does not sign
        off. Gives whether a purge would be confirmed as far as is known.
        """
        ...

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge each group: give it a fresh token, so that all that carries its old one is a miss.

        Returns:
            The tokens; None for a group whose purge is not confirmed. That purge is owed: it is in
            the journal, and the store is not trusted until it was made up for.
        """
        ...

    async def soften(self, groups: Sequence[str]) -> bool:
        """Purge each group softly: change the mark of its token, but not the token itself.

        Returns:
            Whether all are confirmed. For one that is not, a whole purge is owed.
        """
        ...

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Purge groups like `renew`, and tell which token that replaced, in one step for each.

        Args:
            groups: groups whose tokens were read before; one that has none since counts as not
                confirmed.

        Returns:
            The tokens that were replaced, None where that is not known; and the tokens as `renew`
            returns them.
        """
        ...


class SyncStore(Protocol):
    """What the typed cache asks of a store without awaiting; see `maxage.store.Store`."""

    @property
    def authority(self) -> TokenAuthority:
        """The object that keeps the tokens."""
        ...

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens in one round trip."""
        ...

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values."""
        ...

    def write_all_now(self, writings: Sequence[StoreWrite]) -> bool:
        """Do what `write_now` does for each of them; return whether all values are kept."""
        ...

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value for so many seconds unless one lies there; return what lies there now."""
        ...

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values."""
        ...

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge each group."""
        ...

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Purge each group softly; return whether that is confirmed."""
        ...
