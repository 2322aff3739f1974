"""The cache without ASGI: look responses up, decide, let requests wait for each other.

`maxage.cache.storing` stores responses; the responders forward requests and send.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Final, final
from weakref import WeakSet

from msgspec.structs import replace

from maxage.background import Background
from maxage.cache.early_refresh import is_due_early
from maxage.cache.flights import Flight, Flights
from maxage.cache.lookup import Lookup, result_of_copy, selected_key
from maxage.cache.pending_writes import PendingWrites
from maxage.cache.target import UNCACHEABLE_SECONDS, Target
from maxage.cache.terms import Terms
from maxage.clock import Clock, monotonic_clock, wall_clock
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.purger import Purger
from maxage.observe.counters import AT_CLOSE, Tally, begin_counting
from maxage.rfc9111.age import current_age
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Decision, Forward, Serve
from maxage.rfc9111.message import Headers, Request
from maxage.rfc9111.validation import conditional_fields
from maxage.store.base import Near, Store
from maxage.store.claims import Claim, Claims, claim_key
from maxage.store.entry import Entry
from maxage.store.lookup_result import LookupResult
from maxage.store.memory import MemoryStore
from maxage.store.wanted_claim import WantedClaim
from maxage.zstd import DamagedBodyError

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

_living: Final["WeakSet[Cache]"] = WeakSet()


def living_caches() -> tuple["Cache", ...]:
    """Return the caches of all middlewares of this process."""
    return tuple(_living)


@final
class Cache:
    """Looks responses up and decides what they may answer; one for each middleware."""

    def __init__(
        self,
        settings: "CacheSettings",
        store: Store,
        *,
        tally: Tally | None = None,
        clock: Clock = wall_clock,
        monotonic: Clock = monotonic_clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        _living.add(self)
        self.settings: Final = settings
        self.store: Final = store
        self.clock: Final = clock
        self.monotonic: Final = monotonic
        self.draw: Final = draw
        self.flights: Final[Flights[Entry]] = Flights()
        self.tally: Final = tally or begin_counting(self)
        self.background: Final = Background()
        self._keeps_copies: Final = type(store) is not MemoryStore
        """Whether the near cache has to be given what was looked up."""
        self._collapses: Final = settings.cache_collapse_wait > 0
        # What each miss asks. To read a setting takes ten times as long as an attribute.
        self.compresses: Final = settings.cache_compress
        self.jitter: Final = settings.cache_lifetime_jitter
        self.most_header_bytes: Final = settings.cache_max_header_bytes
        self.most_body_bytes: Final = settings.cache_max_body_bytes
        self.pending_writes: Final = PendingWrites(settings, store, self.tally, self.background)
        self.lookups: Final = Lookup(settings, store, self.pending_writes)
        self.purger: Final = Purger(store, self.background, self.tally)
        self.claims: Final = Claims(store, self.background, not_shareable_for=UNCACHEABLE_SECONDS)

    # before a lookup: a near copy, a claim

    def nearby(self, target: Target, key: bytes, headers: Headers) -> LookupResult | None:
        """Return the copy in this process that a lookup would find, without asking the store."""
        near = self.store.near
        if near is None:
            return None
        chosen = selected_key(key, target, headers) if target.vary_names else key
        copy = near.find(chosen)
        return None if copy is None else result_of_copy(near, copy, chosen, target, key, headers)

    def may_claim(self, target: Target, request: Request, outer: Dependencies | None) -> bool:
        """Return whether a process is to fetch the response for all others.

        A middleware around this one has the claim, and would be waited for in vain.
        """
        store = self.store
        if not store.shared or not target.answers_others or not self.may_collapse(target, request):
            return False
        return outer is None or outer.authority is not store.authority

    def may_collapse(self, target: Target, request: Request) -> bool:
        """Return whether the request may wait for another one's response, or be waited for."""
        return (
            request.method in {"GET", "QUERY"}
            and not request.carries_credentials
            and self._may_wait(target)
        )

    def _may_wait(self, target: Target) -> bool:
        until = target.unshareable_until
        return self._collapses and (until == 0.0 or until <= self.monotonic())

    def wanted_claim(self, target: Target, key: bytes) -> WantedClaim:
        """Return the claim to the response that a lookup makes if it finds nothing.

        It leaves with the lookup itself where nothing is expected to be stored.
        """
        expected = self._expected(target, key)
        return WantedClaim(key, target.groups, expected=expected)

    def claim_if_absent(self, target: Target, key: bytes) -> WantedClaim | None:
        """Return the claim that leaves with a lookup, where nothing is expected to be stored.

        The request is a known GET.
        """
        if not self.store.shared or not target.answers_others or not self._may_wait(target):
            return None
        expected = self._expected(target, key)
        if expected is None:
            return None
        return WantedClaim(key, target.groups, expected=expected)

    def _expected(self, target: Target, key: bytes) -> list[bytes] | None:
        """Return the tokens under which nothing is stored; None: there may be something."""
        last, after = target.last_tokens, target.looked_up_after
        if last is None or key != target.plain_key:
            return None
        renewed = [self.purger.renewed(group, after) for group in target.groups]
        if self.monotonic() < target.absent_from and not any(renewed):
            return None
        pairs = zip(target.groups, renewed, strict=True)
        tokens = [token or last.get(group) for group, token in pairs]
        expected = [token for token in tokens if token is not None]
        return expected if len(expected) == len(tokens) else None

    # look up and decide

    def begin_lookup(
        self, target: Target, key: bytes, headers: Headers, wanted: WantedClaim | None
    ) -> LookupResult | Awaitable[LookupResult]:
        """Do `lookup`; return its result at once where nothing has to be awaited."""
        if self._keeps_copies or target.rules.language_select:
            return self.lookup(target, key, headers, wanted)
        return self.lookups.begin(target, key, headers, wanted)

    def lookup(
        self,
        target: Target,
        key: bytes,
        headers: Headers,
        wanted: WantedClaim | None = None,
    ) -> Awaitable[LookupResult]:
        """Return the stored response that fits the request and whose tokens are all current.

        `wanted` is the claim to make if nothing is found.

        Raises:
            StoreUnavailableError: the store gives no trustworthy answer.
        """
        near = self.store.near if self._keeps_copies else None
        if near is None and not target.rules.language_select:
            return self.lookups.read(target, key, headers, wanted)
        return self._lookup_and_copy(near, target, key, headers, wanted)

    async def _lookup_and_copy(
        self,
        near: Near | None,
        target: Target,
        key: bytes,
        headers: Headers,
        wanted: WantedClaim | None,
    ) -> LookupResult:
        since = near.begin() if near is not None else 0
        found = await self.lookups.read(target, key, headers, wanted)
        if found.entry is None and target.rules.language_select:
            return await self.lookups.in_language(target, headers, found)
        if near is not None and found.entry is not None and not found.softened:
            stored = found.entry.stored
            if stored.plain_length is not None and not stored.is_compressed:
                # It is not written yet, and will be compressed.
                return found
            fresh_for = self._fresh_for(found.entry)
            if fresh_for > 0:
                near.keep(found.entry, since=since, ends=self.monotonic() + fresh_for)
        return found

    def _fresh_for(self, entry: Entry) -> float:
        stored = entry.stored
        if stored.always_validate:
            return 0.0
        return stored.freshness_lifetime - current_age(stored, now=self.clock())

    def decide(self, target: Target | Terms, request: Request, found: LookupResult) -> Decision:
        """Return whether the stored response answers, or what to ask the application."""
        now, rules = self.clock(), target.rules
        if found.entry is None:
            return decide(request, None, now=now, policy=rules, vary_miss=found.vary_miss)
        stored = found.entry.stored
        try:
            decision = decide(request, stored, now=now, policy=rules)
        except DamagedBodyError:
            self.tally.unreadable += 1
            return decide(request, None, now=now, policy=rules)
        if found.softened and isinstance(decision, Serve):
            # The one exception to the rule that no purged response is served: a soft purge asks it.
            return replace(decision, refresh=True)
        factor = self.settings.cache_early_refresh
        if factor and isinstance(decision, Serve) and not decision.stale:
            due = is_due_early(stored, now=now, factor=factor, draw=self.draw())
            return replace(decision, refresh=True) if due else decision
        return decision

    # forward: one request for many

    def note_lookup(
        self, target: Target, found: LookupResult, wanted: WantedClaim, *, forwards: bool
    ) -> None:
        """Note what a lookup found, so that the next one knows what to expect.

        `wanted` left with the lookup; it is of use where the request `forwards`.
        """
        if (
            found.entry is not None
            and wanted.claim_key is not None
            and not (forwards and found.collapse_key() == wanted.key)
        ):
            # The expectation was wrong: another process has stored a response.
            if wanted.present == wanted.value:
                self.background.spawn(self.store.delete((wanted.claim_key,)))
            wanted.claim_key = None
        if found.key == target.plain_key:
            target.last_tokens, target.looked_up_after = found.tokens, self.purger.serial
            target.absent_from = 0.0 if found.entry is None and found.index is None else inf

    def claim(self, target: Target, found: LookupResult) -> Claim | None:
        """Return a claim to the response, which is not taken yet; None: it cannot be claimed."""
        tokens = [found.tokens.get(group) for group in target.groups]
        key = claim_key(self.settings.cache_namespace, found.collapse_key(), tokens)
        if key is None or not self.store.shared:
            return None
        return self.claims.to(key)

    def begin_refresh(self, target: Target, found: LookupResult) -> Flight[Entry] | None:
        """Return the flight of a background refresh, or None where none is to begin.

        One refresh is enough for all requests. It has the tokens of the lookup that wants it, read
        before its handler runs: after a purge meanwhile its response is not valid.
        """
        key = found.collapse_key()
        if target.refresh_after > self.monotonic() or self.flights.find(key) is not None:
            return None
        target.counts.refreshes += 1
        return self.flights.lead(key, found.tokens)

    def revalidation(self, found: LookupResult) -> Forward:
        """Return the question of a background refresh; an error leaves the stored response."""
        conditional = conditional_fields(found.entry.stored) if found.entry is not None else ()
        return Forward(reason="stale", conditional=conditional, stale_if_error=True)

    # drop

    def drop(self, entry: Entry) -> None:
        """Remove a stored response that is known to be of no more use."""
        self.forget_copies(entry.key)
        self.pending_writes.drop(entry)

    def forget_copies(self, *keys: bytes) -> None:
        """Drop the near copies under the keys: something newer is stored there, or nothing."""
        near = self.store.near
        if near is not None:
            near.forget(keys)

    # the background

    async def open(self) -> None:
        """Make the store ready."""
        await self.store.open()

    async def close(self) -> None:
        """Wait for the writes under way, and close the store."""
        await self.background.close()
        await self.store.close()
        for end in AT_CLOSE:
            end()
