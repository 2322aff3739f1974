"""Stores: they keep responses, tokens and typed values."""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from maxage.store.entry import Entry, VariantIndex
from maxage.store.lookup_result import LookupResult
from maxage.store.near_copy import Copy
from maxage.store.prepared import Form, Owner, PreparedResponse
from maxage.store.wanted_claim import WantedClaim

Value = bytes | Entry | VariantIndex
"""The value of a key. Only a store that `keeps_objects` has other values than bytes."""


class StoreReply(Struct):
    """The reply to a read, in the order of its keys and groups.

    Equal reads of one turn of the event loop may share it.
    """

    values: Sequence[Value | None]
    tokens: Sequence[bytes | None]
    """The current token of each group. A missing token was created; None where that failed."""
    result: LookupResult | None = None
    """The lookup's result, for all requests that share this reply. No store sets it."""


class StoreWrite(NamedTuple):
    """Values that are written together, with their lifetime and their tokens."""

    values: Sequence[tuple[bytes, Value]]
    """Each value with its key."""
    keep_for: float
    """The lifetime in seconds."""
    tokens: Mapping[str, bytes]
    """The token of each group that the values carry."""
    ended: bytes | None = None
    """The key of the claim that this write ends."""


class TokenAuthority:
    """Owner of tokens; compared by identity. Stores with the same authority purge each other."""

    __slots__ = ()

    def owe(self, groups: Iterable[str]) -> None:
        """Purge groups without waiting, for a purge that may be lost.

        Until it is made, reads in this process are not trusted.
        """
        raise NotImplementedError


class Near(Protocol):
    """A near cache: copies of stored responses in this process."""

    @property
    def exact(self) -> bool:
        """Whether a copy may answer only when `confirm`, called after `find`, says so."""
        ...

    def __len__(self) -> int:
        """Return the number of copies."""
        ...

    @property
    def known_requests(self) -> int:
        """The number of requests that may be remembered for its copies."""
        ...

    def find(self, key: bytes) -> Copy | None:
        """Return the copy of a key, if copies may be used now and it has not ended."""
        ...

    async def confirm(self, copy: Copy) -> bool:
        """Return whether a copy may answer: all that was purged before this call was dropped."""
        ...

    def introduce(self, key: bytes, owner: Owner) -> bytes | None:
        """Note what may ask for the copy of a key.

        Returns:
            A shorter key by which the copy is found too; None: nothing is remembered.
        """
        ...

    def begin(self) -> int:
        """Return the serial for `keep`; call it before the first byte of a lookup is sent."""
        ...

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Keep a copy of a looked up entry until `ends` (monotonic), unless it may be outdated."""
        ...

    def keep_prepared(self, copy: Copy, form: Form, prepared: PreparedResponse) -> None:
        """Keep a response that was prepared from a copy, for the next request of that form."""
        ...

    def forget(self, keys: Collection[bytes]) -> None:
        """Drop copies whose entries were replaced or removed."""
        ...


CLAIM_SECONDS: Final = 0.8
"""Lifetime of a claim: others wait no longer for a process that has died."""
CLAIM_ENDED: Final = b"+"
"""The value of a claim after its response was written."""
CLAIM_ENDED_SECONDS: Final = 1.0
"""The lifetime of that value: a request that looked just before the write finds no free claim."""


@runtime_checkable
class Store(Protocol):
    """A store of responses, tokens and typed values. Groups are names; see `tokens`.

    While the store is away a read raises `StoreUnavailableError`, and a write returns False. No
    other error is raised because of that.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes see the same values."""
        ...

    @property
    def authority(self) -> TokenAuthority:
        """The owner of the tokens."""
        ...

    @property
    def keeps_objects(self) -> bool:
        """Whether values stay objects, since they never leave the process."""
        ...

    @property
    def near(self) -> Near | None:
        """The near cache; None: there is none."""
        ...

    async def open(self) -> None:
        """Prepare for use; never raises because the store is away."""
        ...

    async def close(self) -> None:
        """Release the resources of `open` and of use; the store can be used again afterwards."""
        ...

    def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> Awaitable[StoreReply]:
        """Return the values of the keys and the tokens of the groups, in one round trip.

        A token that is missing, or belongs to another history of the server, is created in a second
        one. Where no key has a value, the same round trip makes the wanted claim.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        ...

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Store values; extend the tokens that they carry to the same lifetime.

        Args:
            values: each value with its key.
            keep_for: the lifetime in seconds.
            tokens: the token of each group that the values carry.

        Returns:
            Whether all values are stored.
        """
        ...

    async def write_all(self, writes: Sequence[StoreWrite]) -> bool:
        """Do several writes together; return whether all values are stored."""
        ...

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value for `keep_for` seconds unless the key has one; return the key's value.

        None: the store did not answer, or takes no claims now.
        """
        ...

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values."""
        ...

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        """Move keys to the end of a list that all processes share, and that is bounded in number.

        Args:
            name: of the list.
            keys: keys of values that were written.
            most: the number of keys that stay in the list.
            keep_for: seconds for which the list lives at least.

        Returns:
            The keys that fell out of the list, the oldest first; the caller removes their values.
            Each falls out for one caller.
        """
        ...

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        """Return the keys of a list, the oldest first; none where the store does not answer."""
        ...

    def mutating(self) -> AbstractAsyncContextManager[bool]:
        """Enclose a mutating request, from before its handler runs until its purge.

        Inside, other processes notice if this one can no longer purge, and this process does not
        sign off. With `CACHE_ON_LOST_PURGE=refuse` the context's value tells whether a purge is
        likely to be confirmed; without it nothing depends on that, and the value is True.
        """
        ...

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge each group: give it a fresh token, so that entries with the old one are misses.

        Returns:
            The tokens; None for a group whose purge is not confirmed. That purge is owed, and reads
            are not trusted until it is made.
        """
        ...

    async def soften(self, groups: Sequence[str]) -> bool:
        """Purge each group softly: change the mark of its token, but not the token itself.

        Returns:
            Whether all purges are confirmed. For each other one a whole purge is owed.
        """
        ...

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Purge groups like `renew`, and return each replaced token, in one step for each group.

        Args:
            groups: groups whose tokens were read before.

        Returns:
            The replaced tokens, None where they are unknown; and the tokens as `renew` returns
            them.
        """
        ...


class SyncStore(Protocol):
    """A store for the typed cache in plain functions; see `Store`."""

    @property
    def authority(self) -> TokenAuthority:
        """The owner of the tokens."""
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
        """Store values; return whether all are stored."""
        ...

    def write_all_now(self, writes: Sequence[StoreWrite]) -> bool:
        """Do several writes together; return whether all values are stored."""
        ...

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value for `keep_for` seconds unless the key has one; return the key's value."""
        ...

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; return whether there was one."""
        ...

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Purge each group."""
        ...

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Purge each group softly; return whether all purges are confirmed."""
        ...
