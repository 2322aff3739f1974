"""The story of a cached response in six verbs: lookup, forward, store, freshen, serve, invalidate.

This file knows stores and rules, and nothing of ASGI: `asgi` forwards and sends.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import chain
from math import inf
from typing import Final, final

from msgspec.structs import replace

from maxage.background import Background
from maxage.cache.claims import Claim, Claims, claim_key
from maxage.cache.collapse import Flight, Flights
from maxage.cache.early_refresh import is_due_early, shortened
from maxage.cache.fill import Fill, completed, response_tags
from maxage.cache.key import variant_key
from maxage.cache.lookup import Lookup
from maxage.cache.lookup_result import LookupResult, suits
from maxage.cache.pending_writes import PendingWrites
from maxage.cache.target import Target
from maxage.clock import Clock, monotonic_clock, wall_clock
from maxage.counters import Counters, begin_counting
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.group_names import tag_group
from maxage.invalidation.purger import Purger
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Decision, Forward, Serve
from maxage.rfc9111.freshening import freshen, freshen_from_head
from maxage.rfc9111.freshness import current_age
from maxage.rfc9111.message import Headers, Request, Response, StoredResponse
from maxage.rfc9111.no_vary_search import NO_VARY_SEARCH, search_variance
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.validation import conditional_fields
from maxage.rfc9111.verdicts import MayNotStore, MayStore, Reason
from maxage.settings import CacheSettings
from maxage.store.base import Near, Store
from maxage.store.entry import Entry
from maxage.store.tokens import any_quarantined

logger = logging.getLogger("maxage")

LONGEST_TAG: Final = 1024
"""Characters of a tag; a response with a longer one is not stored."""

UNCACHEABLE_SECONDS: Final = 10.0
"""How long a URL whose response was not storable is forwarded without waiting for others."""

REFRESH_PAUSE: Final = 1.0
"""How long a URL whose refresh in the background came to nothing is left alone, in seconds."""


@final
class Cache:
    """Looks up, stores and invalidates responses; one for each middleware."""

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        *,
        clock: Clock = wall_clock,
        monotonic: Clock = monotonic_clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings: Final = settings
        self.store: Final = store
        self.clock: Final = clock
        self.monotonic: Final = monotonic
        self.draw: Final = draw
        self.flights: Final[Flights[Entry]] = Flights()
        self.counters: Final[Counters] = begin_counting()
        self.background: Final = Background()
        self.pending_writes: Final = PendingWrites(
            settings, store, self.counters, self.background.spawn
        )
        self.reader: Final = Lookup(settings, self.pending_writes)
        self.purger: Final = Purger(store, self.background, self.counters)
        self._claims: Final = Claims(store, self.background.spawn, alone_for=UNCACHEABLE_SECONDS)

    # lookup

    def lookup(self, target: Target, key: bytes, headers: Headers) -> Awaitable[LookupResult]:
        """Return the stored response that fits the request and whose tokens are all current.

        Raises:
            StoreUnavailableError: nothing that the store says may be relied upon now.
        """
        near = self.store.near
        if near is None:
            return self.reader.read(target, key, headers)
        return self._lookup_and_keep(near, target, key, headers)

    async def _lookup_and_keep(
        self, near: Near, target: Target, key: bytes, headers: Headers
    ) -> LookupResult:
        since = near.begin()
        found = await self.reader.read(target, key, headers)
        if found.entry is not None and not found.softened:
            fresh_for = self._fresh_for(found.entry)
            if fresh_for > 0:
                near.keep(found.entry, since=since, ends=self.monotonic() + fresh_for)
        return found

    def _fresh_for(self, entry: Entry) -> float:
        stored = entry.stored
        if stored.always_validate:
            return 0.0
        return stored.freshness_lifetime - current_age(stored, now=self.clock())

    async def nearby(
        self, target: Target, key: bytes, request: Request
    ) -> tuple[LookupResult, Serve] | None:
        """Return what this process keeps that may answer as it is, without asking the store.

        All else, such as what is stale or must be validated, is looked up in the store.
        """
        near = self.store.near
        if near is None:
            return None
        names = target.vary_names
        selecting = self.reader.selecting(names, request.headers, target)
        copy = near.find(variant_key(key, names, selecting) if names else key)
        if copy is None or not suits(copy.entry, target, selecting):
            return None
        found = LookupResult(key=key, entry=copy.entry, tokens=dict(copy.entry.tokens))
        decision = self.decide(target, request, found)
        if not isinstance(decision, Serve) or decision.stale:
            return None
        if near.exact and not (await near.confirm() and copy.kept):
            return None
        return found, decision

    def decide(self, target: Target, request: Request, found: LookupResult) -> Decision:
        """Return whether what was found may answer, or what is to be asked of the application."""
        stored = found.entry.stored if found.entry is not None else None
        now = self.clock()
        decision = decide(request, stored, now=now, policy=target.rules, vary_miss=found.vary_miss)
        if found.softened and isinstance(decision, Serve):
            # The one exception to the rule that nothing purged is served: somebody asked for it.
            return replace(decision, refresh=True)
        factor = self.settings.cache_early_refresh
        if factor and stored is not None and isinstance(decision, Serve) and not decision.stale:
            due = is_due_early(stored, now=now, factor=factor, draw=self.draw())
            return replace(decision, refresh=True) if due else decision
        return decision

    def revalidate(self, found: LookupResult) -> Forward:
        """Return what to ask in the background about a stored response; an error leaves it."""
        conditional = conditional_fields(found.entry.stored) if found.entry is not None else ()
        return Forward(reason="stale", conditional=conditional, stale_if_error=True)

    def begin_refresh(self, target: Target, found: LookupResult) -> Flight[Entry] | None:
        """Return the flight of a refresh in the background, or None where none is to begin.

        One is enough, however many ask. Its tokens are those of the lookup that wants it, read
        before its handler runs; a purge since then makes what it brings worthless.
        """
        key = found.collapse_key
        if target.refresh_after > self.monotonic() or self.flights.find(key) is not None:
            return None
        self.counters.refreshes += 1
        return self.flights.lead(key, found.tokens)

    def refresh_failed(self, target: Target) -> None:
        """Leave the URL alone for a moment: a failing application is not asked again at once."""
        target.refresh_after = self.monotonic() + REFRESH_PAUSE

    def _rules(self, target: Target) -> Policy:
        """Return the rules to store by: with jitter, each response's lifetime is drawn anew."""
        rules, share = target.rules, self.settings.cache_lifetime_jitter
        if not share:
            return rules
        lifetime = shortened(rules.default_lifetime, share=share, draw=self.draw())
        return replace(rules, default_lifetime=lifetime)

    # store

    def consider(
        self,
        target: Target,
        request: Request,
        found: LookupResult,
        response: Response,
        asked_at: float,
        *,
        earlier: Iterable[str] = (),
        tags: Iterable[str] = (),
    ) -> Fill | MayNotStore:
        """Return a fill when the response may be stored and all its groups were captured.

        `earlier` are the groups of what is stored already and goes on in this response, `tags`
        those that the handler has put it into.
        """
        header_bytes = sum(map(len, chain.from_iterable(response.headers.raw)))
        if header_bytes > self.settings.cache_max_header_bytes:
            return MayNotStore(reason="headers too long")
        verdict = memoised_may_store(self._arrival(target, request, response, asked_at))
        extra = (*earlier, *tags)
        return self._filling(target, request, found, response, verdict, extra=extra)

    def freshen(
        self,
        target: Target,
        request: Request,
        found: LookupResult,
        answer: Response,
        asked_at: float,
    ) -> tuple[StoredResponse | None, Fill | MayNotStore]:
        """Return the stored response as a 304 made it, and whether it may be stored like that."""
        if found.entry is None:
            return None, MayNotStore(reason="nothing stored")
        arrival = self._arrival(target, request, answer, asked_at)
        verdict = freshen(found.entry.stored, arrival)
        if isinstance(verdict, MayNotStore):
            if verdict.freshened is not None:
                # Good for this one client, and for nobody after it.
                self.drop(found)
            return verdict.freshened, verdict
        # It goes on belonging to what it belonged to, whatever the 304 repeats of that.
        groups = tuple(group for group, _ in found.entry.tokens)
        filling = self._filling(target, request, found, answer, verdict, extra=groups)
        return verdict.stored, filling

    def freshen_from_head(
        self, target: Target, request: Request, found: LookupResult, head: Response, asked_at: float
    ) -> None:
        """Let the answer to a HEAD freshen the stored GET, or drop it (RFC 9111 section 4.3.5)."""
        if found.entry is None:
            return
        arrival = self._arrival(target, request, head, asked_at)
        verdict = freshen_from_head(found.entry.stored, arrival)
        if isinstance(verdict, MayNotStore):
            if verdict.reason == Reason.MISMATCH:
                self.drop(found)
            return
        # The tokens are those that the entry was found valid under.
        fill = self._filling(target, request, found, head, verdict)
        if isinstance(fill, Fill):
            nothing_read = Dependencies(mutating=False, store=self.store)
            for group, token in found.entry.tokens:
                nothing_read.depend(group, token)
            self.store_response(fill, found.entry.stored.body, nothing_read)

    def _arrival(
        self, target: Target, request: Request, response: Response, asked_at: float
    ) -> Arrival:
        return Arrival(
            request=request, response=response, request_time=asked_at, response_time=self.clock(),
            policy=self._rules(target),
        )  # fmt: skip

    def drop(self, found: LookupResult) -> None:
        """Remove a stored response that is known to be of no more use."""
        if found.entry is not None:
            self.pending_writes.release(found.entry)
            self._forget(found.entry.key)
            self.background.spawn(self.store.delete((found.entry.key,)))

    def _filling(
        self,
        target: Target,
        request: Request,
        found: LookupResult,
        response: Response,
        verdict: MayStore | MayNotStore,
        *,
        extra: tuple[str, ...] = (),
    ) -> Fill | MayNotStore:
        if isinstance(verdict, MayNotStore):
            return verdict
        tags = response_tags(response.headers)
        if len(tags) > self.settings.cache_max_tags or any(len(t) > LONGEST_TAG for t in tags):
            return MayNotStore(reason="too many tags")
        if any_quarantined(found.tokens.values()):
            return MayNotStore(reason="replica may lag")
        named = (*extra, *map(tag_group, tags))
        if not self._remembers(target, found, named):
            return MayNotStore(reason="late groups")
        groups = tuple(dict.fromkeys((*target.groups, *named))) if named else target.groups
        return Fill(target=target, found=found, request=request, verdict=verdict, groups=groups)

    def _remembers(self, target: Target, found: LookupResult, named: Collection[str]) -> bool:
        """Return whether all groups of a response were captured; if not, they are the next time.

        One whose token was not captured before the handler ran cannot protect anything: it may have
        been purged while the handler was running.
        """
        tokens = found.tokens
        if None not in map(tokens.get, target.groups) and None not in map(tokens.get, named):
            return True
        target.remember_groups(named, self.settings.cache_max_tags)
        return False

    def store_response(
        self, fill: Fill, body: bytes, dependencies: Dependencies, claim: Claim | None = None
    ) -> Entry | None:
        """Store a response that came through whole; it can be found at once, and is written soon.

        `claim` is that of this process to the response; it ends when it is written.

        Returns:
            None where the handler read something whose token was not to be had.
        """
        target, found, read = fill.target, fill.found, dependencies.read
        late = dependencies.tags.difference(fill.groups)
        if dependencies.unprotected or (late and not self._remembers(target, found, late)):
            return None
        stored = completed(fill.verdict.stored, body)
        if target.vary_names not in ((), stored.vary_names):
            # The URL varied by more before: with all names together no variant is lost.
            names = tuple(sorted({*stored.vary_names, *target.vary_names}))
            selecting = self.reader.selecting(names, fill.request.headers, target)
            stored = replace(stored, vary_names=names, selecting=selecting)
        names = stored.vary_names
        primary = self._primary_key(fill, stored)
        if primary != found.key:
            # What was found belongs to other URLs.
            found = replace(found, key=primary, entry=None, index=None, ready={})
            fill = replace(fill, found=found)
        key = variant_key(primary, names, stored.selecting) if names else primary
        # A typed read captured its group's token itself, before it read.
        captured = {group: found.tokens[group] or b"" for group in (*fill.groups, *late)}
        # Purged between the lookup and that read, the response may mix both sides of the change.
        if read and any(found.tokens.get(group, token) != token for group, token in read.items()):
            return None
        captured |= read
        if any_quarantined(captured.values()):
            return None
        if read:
            target.remember_groups(read, self.settings.cache_max_tags)
        entry = Entry(key=key, stored=stored, tokens=tuple(captured.items()))
        target.vary_names = names
        self._was_worth_waiting(fill)
        self.counters.stored += 1
        self.pending_writes.hold(entry)
        # Whatever this process keeps is older.
        self._forget(*{key, found.key})
        self.pending_writes.write(entry, fill, claim)
        return entry

    def _primary_key(self, fill: Fill, stored: StoredResponse) -> bytes:
        """Return the key of all URLs that the response calls equivalent, and remember which."""
        search = fill.target.search
        variance = None
        if search.variance is not None or NO_VARY_SEARCH in stored.headers:
            variance = search_variance(stored.headers)
            if stored.status == 200:
                search.variance = variance
        # The key of the lookup may be by what the path said before.
        return fill.target.key_under(variance, fill.request.key_parts)

    def _forget(self, *keys: bytes) -> None:
        near = self.store.near
        if near is not None:
            near.forget(keys)

    def not_storable(self, target: Target, *, said: tuple[bytes, ...] = ()) -> None:
        """Remember that requests for this URL need not wait for each other.

        Args:
            said: the Cache-Control that forbade it, where nothing else is stored for the URL: with
                that it need not be looked up either.
        """
        target.uncacheable_until = self.monotonic() + UNCACHEABLE_SECONDS
        target.unstorable = said

    def not_worth_waiting(self, target: Target) -> None:
        """Remember that somebody waited for a fill in vain: until one is in time, nobody waits.

        A stream that never ends would else keep each new client waiting once.
        """
        target.uncacheable_until = inf

    def _was_worth_waiting(self, fill: Fill) -> None:
        if fill.target.uncacheable_until == inf:
            taken = self.clock() - fill.verdict.stored.request_time
            if taken < self.settings.cache_collapse_wait:
                fill.target.uncacheable_until = 0.0

    def may_collapse(self, target: Target, request: Request) -> bool:
        """Return whether the request may wait for another one's response, or be waited for."""
        return (
            request.method in {"GET", "QUERY"}
            and not request.carries_credentials
            and self.settings.cache_collapse_wait > 0
            and target.uncacheable_until <= self.monotonic()
        )

    def claim(self, target: Target, found: LookupResult) -> Claim | None:
        """Return what tells other processes that this one fetches the response; not taken yet."""
        tokens = (found.tokens.get(group) for group in target.groups)
        key = claim_key(self.settings.cache_namespace, found.collapse_key, tokens)
        if key is None or not self.store.shared:
            return None
        return self._claims.to(key)

    def finish(self, flight: Flight[Entry] | None, entry: Entry | None = None) -> None:
        """Give the response of a fill to whoever waits for it."""
        if flight is not None:
            self.flights.finish(flight, entry)

    def is_unstorable(self, target: Target) -> bool:
        """Return whether a lookup would find nothing, and the response would not be stored."""
        return target.unstorable != () and target.uncacheable_until > self.monotonic()

    def still_unstorable(self, target: Target, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Look the URL up again as soon as its response says something else about storing."""
        said = tuple([value for name, value in headers if name.lower() == b"cache-control"])
        if said != target.unstorable:
            target.unstorable = ()

    # the background

    async def open(self) -> None:
        """Make the store ready."""
        await self.store.open()

    async def close(self) -> None:
        """Let what is being written come to its end, and close the store."""
        await self.background.close()
        await self.store.close()
