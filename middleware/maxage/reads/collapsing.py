"""Waiting for a response that another process is fetching."""

import asyncio
from typing import Final

from maxage.asgi.responder import ReadResponder
from maxage.cache.claims import Claim, Standing
from maxage.cache.collapse import Flight
from maxage.errors import StoreUnavailableError
from maxage.rfc9111.decisions import Forward, OnlyIfCached, Serve
from maxage.store.entry import Entry

_POLL_SECONDS: Final = 0.02
"""Between two looks for the response of another process."""


async def fetched_elsewhere(
    reading: ReadResponder, flight: Flight[Entry], seconds: float
) -> Serve | None:
    """Return what another process fetched meanwhile, or None: then the application is to be asked.

    The flight gets the claim of this process, where it has one; `reading.found` is what was looked
    up last, its tokens included.
    """
    cache, target = reading.cache, reading.target
    ends = cache.monotonic() + seconds
    claim = cache.claim(target, reading.found)
    while claim is not None:
        standing = await claim.take()
        if standing is Standing.LEAD:
            flight.claim = claim
        elif standing is Standing.ALONE:
            cache.not_storable(target)
        elif standing is Standing.WAIT and cache.monotonic() >= ends:
            cache.not_worth_waiting(target)
        elif standing is not Standing.UNKNOWN:
            await asyncio.sleep(_POLL_SECONDS if standing is Standing.WAIT else 0)
            decision = await _looked_up(reading)
            if not isinstance(decision, Forward):
                return decision
            if standing is Standing.WAIT:
                claim = _same(claim, cache.claim(target, reading.found))
                continue
        return None
    return None


async def _looked_up(reading: ReadResponder) -> Serve | Forward | None:
    """Look for the response again; None: it cannot be had."""
    cache, target = reading.cache, reading.target
    try:
        reading.found = await cache.lookup(target, reading.found.key, reading.request.headers)
    except StoreUnavailableError:
        return None
    decision = cache.decide(target, reading.request, reading.found)
    return None if isinstance(decision, OnlyIfCached) else decision


def _same(before: Claim, now: Claim | None) -> Claim | None:
    """Return the claim to go on with: another one where the tokens have changed meanwhile."""
    return before if now is not None and now.key == before.key else now


async def may_refresh(reading: ReadResponder, flight: Flight[Entry]) -> bool:
    """Return whether a refresh is this process's to make, and no other one is making it."""
    claim = reading.cache.claim(reading.target, reading.found)
    standing = await claim.take() if claim is not None else Standing.UNKNOWN
    if standing is Standing.LEAD:
        flight.claim = claim
    return standing is not Standing.WAIT
