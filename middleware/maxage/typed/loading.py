"""Loading a value that is not stored: of several callers one loads, and the others get the outcome.

In this process they wait for a `Flight`. Of several processes one takes the claim, and the others
look for the value until it is there. A caller takes a value only by the tokens that it read itself.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic, final

from maxage.clock import monotonic_clock
from maxage.observe.counters import PROCESS
from maxage.observe.words import TypedRead
from maxage.store.claims import Claim, ClaimState, claim_key
from maxage.typed import flights
from maxage.typed.encoding import Model
from maxage.typed.flights import Flight, Loaded
from maxage.typed.operations import Operations
from maxage.typed.store_access import Access
from maxage.typed.values import Identity, Tokens, Values

_POLL_SECONDS: Final = 0.02
"""Between two looks for a value that another process loads."""


@final
class Loading(Generic[Model]):
    """One call of `get_or_set`.

    Args:
        values: the type's keys, encoding and seals.
        access: the store, and how to wait.
        id: names the value.
        load: makes the value.
        keep_for: seconds for which the value is stored.
    """

    def __init__(
        self,
        values: Values[Model],
        access: Access,
        id: Identity,
        load: Callable[[], Awaitable[Model]],
        keep_for: float,
    ) -> None:
        self._values: Final = values
        self._access: Final = access
        self._operations: Final = Operations(values, access)
        self._id: Final = id
        self._load: Final = load
        self._keep_for: Final = keep_for
        self._wait_seconds: Final = access.settings.cache_collapse_wait
        self._tokens: Tokens = {}
        """The tokens of the last look, which is before the value is loaded."""

    async def run(self) -> Model:
        """Return the value, stored or loaded.

        Raises:
            Exception: what `load` raises.
        """
        stored = await self._look()
        PROCESS.typed_reads[TypedRead.HIT if stored else TypedRead.MISS] += 1
        if stored:
            return stored[self._id]
        key = self._key() if self._wait_seconds else None
        flight, leads = flights.join(key) if key is not None else (None, False)
        if flight is None:
            return await self._loaded()
        if leads:
            with flights.leading(flight):
                return await self._lead(flight)
        outcome = await self._access.result(flight.future, self._wait_seconds)
        if outcome is not None:
            with suppress(Exception):  # a validator may raise anything
                return self._values.value_of(outcome)
        return await self._loaded()

    async def _look(self) -> dict[Identity, Model]:
        stored, self._tokens = await self._operations.look([self._id])
        return stored

    def _key(self) -> bytes | None:
        """Return the key of the load; None where a token is missing."""
        namespace = self._access.settings.cache_namespace
        seal_key = self._values.keys(namespace, [self._id])[1]
        return claim_key(namespace, seal_key + self._values.kind, self._tokens.values())

    async def _lead(self, flight: Flight) -> Model:
        """Load the value that others in this process wait for, unless another process does."""
        stored, claim = await self._look_elsewhere(flight)
        if not stored:
            return await self._loaded(flight, claim)
        value = stored[self._id]
        encoded = self._values.encode(value)
        flight.land(None if encoded is None else Loaded(encoded))
        return value

    async def _look_elsewhere(self, flight: Flight) -> tuple[dict[Identity, Model], Claim | None]:
        """Wait while another process loads the value.

        Returns:
            The value if it was found; the claim of this process if it has one.
        """
        claims, ends = self._access.claims, monotonic_clock() + self._wait_seconds
        if claims is None:
            # Another load may have ended between the look of this call and now.
            return await self._look(), None
        while (key := self._key()) is not None:
            claim = claims.to(key)
            state = await claim.take()
            if state is ClaimState.OURS:
                return {}, claim
            if state is ClaimState.NOT_SHAREABLE:
                flight.land()
            waits = state is ClaimState.TAKEN and self._access.may_wait
            if state is not ClaimState.ENDED and not (waits and monotonic_clock() < ends):
                break
            if waits:
                await self._access.sleep(_POLL_SECONDS)
            stored = await self._look()
            if stored or not waits:
                return stored, None
        return {}, None

    async def _loaded(self, flight: Flight | None = None, claim: Claim | None = None) -> Model:
        """Load the value and store it; tell those who wait in this process, and in others."""
        written = False
        PROCESS.typed_reads[TypedRead.LOAD] += 1
        try:
            value, encoded = self._values.encode_loaded(await self._load())
            is_shareable = encoded is not None or value is None
            if claim is not None and not is_shareable:
                claim.cannot_be_shared()
            written = await self._operations.fill(
                {self._id: encoded}, self._tokens, self._keep_for, ends=claim
            )
            # Only now: a call that finds no load under way is to find the value.
            if flight is not None and is_shareable:
                flight.land(Loaded(encoded))
        finally:
            if claim is not None:
                claim.end(written=written)
        return value
