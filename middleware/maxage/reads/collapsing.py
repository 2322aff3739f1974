"""Collapsed forwarding: wait for a response that another request or process is fetching."""

import asyncio
import logging
from typing import Final, final

from maxage.cache.flights import Flight
from maxage.cache.lookup import is_of
from maxage.errors import StoreUnavailableError
from maxage.reads.responder import ReadResponder
from maxage.rfc9111.decide import answer
from maxage.rfc9111.decisions import Decision, Forward, OnlyIfCached, Serve
from maxage.store.claims import Claim, ClaimState
from maxage.store.entry import Entry

logger = logging.getLogger("maxage")

_JOINS: Final = 2
"""Fills of other requests that one request waits for at most."""
_POLL_SECONDS: Final = 0.02
"""Between two lookups of a response that another process is fetching."""


def patience(reading: ReadResponder, decision: Forward) -> float:
    """Return the seconds that the application has before a stale response answers; 0: no limit."""
    return reading.service.settings.cache_stale_if_slow if decision.stale_if_error else 0.0


@final
class Collapsing:
    """The waiting of one request: first for other requests, then for other processes.

    `found` of the request becomes the result of the last lookup.
    """

    def __init__(self, reading: ReadResponder) -> None:
        self._reading: Final = reading
        now, longest = reading.cache.monotonic(), reading.service.settings.cache_collapse_wait
        self._ends: Final = now + longest
        """Monotonic seconds at which it stops waiting for all fills together."""

    def _seconds(self, decision: Forward) -> float:
        """Return the seconds that the request may wait for another one now."""
        left = self._ends - self._reading.cache.monotonic()
        return min(left, patience(self._reading, decision) or left)

    # other requests of this process

    async def with_requests(self, decision: Decision) -> Decision:
        """Wait for fills of other requests; return the decision after that."""
        reading = self._reading
        for _ in range(_JOINS):
            flight = self._flight_to_join(decision)
            if flight is None or not isinstance(decision, Forward):
                break
            reading.collapsed = await self._join(flight, self._seconds(decision))
            reading.waited = decision.reason if reading.collapsed else None
            slow = flight.under_way
            if slow and not patience(reading, decision):
                reading.target.waited_in_vain()
            decision = reading.decide()
            entry = reading.found.entry
            if slow and isinstance(decision, Forward) and entry and patience(reading, decision):
                return answer(reading.request, entry.stored, now=reading.cache.clock())
        return decision

    def _flight_to_join(self, decision: Decision) -> Flight[Entry] | None:
        """Return the fill under way whose response may be taken, if there is one."""
        cache, target, found = self._reading.cache, self._reading.target, self._reading.found
        if not isinstance(decision, Forward) or decision.reason == "request":
            return None
        if not target.answers_others or not cache.may_collapse(target, self._reading.request):
            return None
        flight = cache.flights.find(found.collapse_key())
        return flight if flight is not None and flight.may_be_joined(found.tokens) else None

    async def _join(self, flight: Flight[Entry], seconds: float) -> bool:
        """Wait for the fill; return whether the request may take its response."""
        reading = self._reading
        cache, target, found = reading.cache, reading.target, reading.found
        entry = await flight.wait(seconds)
        # The response may have said that URLs are equivalent, and may so lie under another key.
        key = target.key(reading.request.all_parts())
        try:
            if entry is not None and is_of(entry, key):
                checked = await cache.lookups.checked(
                    target, key, reading.headers, entry, dict(found.tokens), found.index
                )
                if checked.entry is not None:
                    reading.found = checked
                    return True
            if cache.may_collapse(target, reading.request):
                # There is no response to share: one of the waiting requests calls the application,
                # and may have done so already.
                reading.wanted = None
                reading.found = await cache.lookup(target, key, reading.headers)
        except StoreUnavailableError:
            logger.debug("The store went away while a request waited for another one.")
        return False

    # other processes

    async def with_processes(self, decision: Forward, flight: Flight[Entry]) -> Serve | None:
        """Return the response that another process fetched; None: call the application.

        The flight gets the claim of this process, where it has one, and ends with a response.
        """
        reading = self._reading
        if reading.wanted is None and not reading.cache.may_claim(
            reading.target, reading.request, reading.outer
        ):
            return None
        try:
            fetched = await self._fetched(flight, self._seconds(decision))
        except BaseException:
            reading.cache.flights.finish(flight)
            raise
        if fetched is not None:
            reading.cache.flights.finish(flight, reading.found.entry)
            reading.collapsed, reading.waited = True, decision.reason
        return fetched

    async def _fetched(self, flight: Flight[Entry], seconds: float) -> Serve | None:
        reading = self._reading
        cache, target = reading.cache, reading.target
        ends = cache.monotonic() + seconds
        claim = None if reading.wanted is None else cache.claims.made(reading.wanted)
        claim = claim or cache.claim(target, reading.found)
        while claim is not None:
            state = await claim.take()
            if state is ClaimState.OURS:
                flight.claim = claim
            elif state is ClaimState.NOT_SHAREABLE:
                target.mark_unstorable(cache.monotonic(), target.rules)
            elif state is ClaimState.TAKEN and cache.monotonic() >= ends:
                target.waited_in_vain()
            elif state is not ClaimState.UNKNOWN:
                await asyncio.sleep(_POLL_SECONDS if state is ClaimState.TAKEN else 0)
                decision = await self._looked_up()
                if not isinstance(decision, Forward):
                    return decision
                if state is ClaimState.TAKEN:
                    claim = _same(claim, cache.claim(target, reading.found))
                    continue
            return None
        return None

    async def _looked_up(self) -> Serve | Forward | None:
        """Look the response up again; None: the store does not answer."""
        reading = self._reading
        try:
            reading.found = await reading.cache.lookup(
                reading.target, reading.found.key, reading.headers
            )
        except StoreUnavailableError:
            return None
        decision = reading.decide()
        return None if isinstance(decision, OnlyIfCached) else decision


def _same(before: Claim, now: Claim | None) -> Claim | None:
    """Return the claim to go on with: another one where the tokens have changed meanwhile."""
    return before if now is not None and now.key == before.key else now


async def may_refresh(reading: ReadResponder, flight: Flight[Entry]) -> bool:
    """Return whether this process makes the refresh: no other process is making it."""
    claim = reading.cache.claim(reading.target, reading.found)
    state = await claim.take() if claim is not None else ClaimState.UNKNOWN
    if state is ClaimState.OURS:
        flight.claim = claim
    return state is not ClaimState.TAKEN
