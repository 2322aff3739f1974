"""Stores: where responses, tokens and typed values lie."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Reading:
    """One round trip's answer, in the order of what was asked."""

    values: Sequence[bytes | None]
    tokens: Sequence[bytes | None]
    """The current token of each group. A missing one was created; None: it could not be."""


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
    def authority(self) -> object:
        """What keeps the tokens: two stores with the same one purge each other."""
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

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return the values of the keys and the tokens of the groups, in one round trip.

        A token that is missing, or was written in another history of the server, is created.

        Raises:
            StoreUnavailableError: there was no trustworthy answer within the read budget.
        """
        ...

    async def write(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        groups: Iterable[str],
    ) -> bool:
        """Keep the values for `keep_for` seconds, and the tokens of their groups as long."""
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


__all__ = ["Reading", "Store"]
