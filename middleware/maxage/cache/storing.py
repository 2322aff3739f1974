"""Storing: decide whether an application's answer may be stored, and store it."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from maxage.cache.cache import Cache
from maxage.cache.early_refresh import shortened
from maxage.cache.fill import Fill, completed, response_tags
from maxage.cache.key import list_key, variant_key
from maxage.cache.target import Target
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.group_names import tag_group
from maxage.observe.words import Reason
from maxage.rfc9111 import freshening
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.content_coding import marked
from maxage.rfc9111.message import StoredResponse
from maxage.rfc9111.no_vary_search import NO_VARY_SEARCH, search_variance
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.vary import selecting_values
from maxage.rfc9111.verdicts import MayNotStore, MayStore, NotFreshened
from maxage.store.claims import Claim
from maxage.store.entry import Entry
from maxage.store.lookup_result import LookupResult
from maxage.store.tokens import any_quarantined

LONGEST_TAG: Final = 1024
"""Characters of a tag; a response with a longer one is not stored."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """The application's answer to a request, and the result of the lookup before it."""

    target: Target
    found: LookupResult
    arrival: Arrival
    """Its policy is the target's, or that for responses of an unknown route."""
    anonymous: bool = False
    """Whether the application looked who asks, and knew no user."""


def consider(cache: Cache, answer: Answer, groups: tuple[str, ...] = ()) -> Fill | MayNotStore:
    """Return a fill when the response may be stored and all its groups were captured.

    Args:
        cache: to store it in.
        answer: the application's answer.
        groups: groups of the response besides those of its target and its headers.
    """
    if answer.arrival.response.headers.size() > cache.most_header_bytes:
        return MayNotStore(reason=Reason.LONG_HEADERS)
    arrival = answer.arrival
    if cache.jitter:
        arrival = _drawn(cache, arrival)
    return _fill(cache, answer, memoised_may_store(arrival), groups)


def freshen(cache: Cache, answer: Answer) -> tuple[StoredResponse | None, Fill | MayNotStore]:
    """Return the stored response as a 304 made it, and whether it may be stored like that."""
    entry = answer.found.entry
    if entry is None:
        return None, MayNotStore(reason=Reason.CONDITIONAL)
    verdict = freshening.freshen(entry.stored, _drawn(cache, answer.arrival))
    if isinstance(verdict, NotFreshened):
        return None, MayNotStore(reason=Reason.CONDITIONAL)
    if isinstance(verdict, MayNotStore):
        if verdict.freshened is not None:
            # It answers this client, and no later one.
            cache.drop(entry)
        return verdict.freshened, verdict
    # It keeps the groups that it had, whatever the 304 repeats of them.
    groups = tuple(group for group, _ in entry.tokens)
    return verdict.stored, _fill(cache, answer, verdict, groups)


def freshen_from_head(cache: Cache, answer: Answer) -> None:
    """Let the answer to a HEAD freshen the stored GET, or drop it (RFC 9111 section 4.3.5)."""
    entry = answer.found.entry
    if entry is None:
        return
    verdict = freshening.freshen_from_head(entry.stored, _drawn(cache, answer.arrival))
    if verdict is NotFreshened.MISMATCH:
        cache.drop(entry)
    if not isinstance(verdict, MayStore):
        return
    # The tokens are those that the entry was found valid under.
    fill = _fill(cache, answer, verdict, ())
    if isinstance(fill, Fill):
        nothing_read = Dependencies(mutating=False, store=cache.store)
        for group, token in entry.tokens:
            nothing_read.depend(group, token)
        store_response(cache, fill, entry.stored.body, nothing_read)


def _drawn(cache: Cache, arrival: Arrival) -> Arrival:
    """Return an arrival whose default lifetime is drawn anew, where jitter is set."""
    share, policy = cache.settings.cache_lifetime_jitter, arrival.policy
    if not share:
        return arrival
    lifetime = shortened(policy.default_lifetime, share=share, draw=cache.draw())
    return replace(arrival, policy=replace(policy, default_lifetime=lifetime))


def _fill(
    cache: Cache, answer: Answer, verdict: MayStore | MayNotStore, groups: tuple[str, ...]
) -> Fill | MayNotStore:
    if not isinstance(verdict, MayStore):
        return verdict
    if answer.anonymous and not verdict.stored.shareable:
        verdict = replace(verdict, stored=replace(verdict.stored, anonymous=True))
    target, found, arrival = answer.target, answer.found, answer.arrival
    tags = response_tags(arrival.response.headers)
    if tags:
        if len(tags) > cache.settings.cache_max_tags or max(map(len, tags)) > LONGEST_TAG:
            return MayNotStore(reason=Reason.TOO_MANY_TAGS)
        groups = (*groups, *map(tag_group, tags))
    if any_quarantined(found.tokens.values()):
        return MayNotStore(reason=Reason.REPLICA_LAG)
    if not _captured(cache, target, found, groups):
        return MayNotStore(reason=Reason.LATE_TAG)
    groups = tuple(dict.fromkeys((*target.groups, *groups))) if groups else target.groups
    return Fill(target=target, found=found, request=arrival.request, verdict=verdict, groups=groups)


def _captured(cache: Cache, target: Target, found: LookupResult, named: Collection[str]) -> bool:
    """Return whether all groups of a response were captured; if not, the next miss captures them.

    A group whose token was not captured before the handler ran protects nothing: it may have been
    purged while the handler was running.
    """
    token_of = found.tokens.get
    if None in map(token_of, target.groups) or (named and None in map(token_of, named)):
        target.remember_groups(named, cache.settings.cache_max_tags)
        return False
    return True


def store_response(
    cache: Cache, fill: Fill, body: bytes, dependencies: Dependencies, claim: Claim | None = None
) -> Entry | Reason:
    """Store a response that came through whole; lookups find it at once, and it is written soon.

    The claim, if there is one, ends with the write.

    Returns:
        The entry, or the reason why it is not stored.
    """
    target, looked_up = fill.target, fill.found.key
    late = dependencies.tags and dependencies.tags.difference(fill.groups)
    if dependencies.unprotected:
        return Reason.OTHER_STORE
    if late and not _captured(cache, target, fill.found, late):
        return Reason.LATE_TAG
    stored = completed(fill.verdict.stored, body, target.rules)
    if target.vary_names and target.vary_names != stored.vary_names:
        stored = _with_all_names(stored, fill)
    if cache.compresses:
        stored = marked(stored)
    key = fill.found.key
    if (
        stored.vary_names
        or key != target.plain_key
        or target.search.variance is not None
        or NO_VARY_SEARCH in fill.verdict.stored.headers.outline().at
    ):
        key, fill = _keyed(fill, stored)
    tokens = _tokens(fill, late, dependencies)
    if not isinstance(tokens, tuple):
        return tokens
    if dependencies.read:
        target.remember_groups(dependencies.read, cache.settings.cache_max_tags)
    entry = Entry(key=key, stored=stored, tokens=tokens)
    _note_stored(cache, fill, stored)
    # Near copies under these keys are older. A known request may ask for one by the key of before.
    cache.forget_copies(key, fill.found.key, looked_up)
    cache.pending_writes.write(entry, fill, claim)
    return entry


def _with_all_names(stored: StoredResponse, fill: Fill) -> StoredResponse:
    """Return the response with all names by which its URL varies now or varied before.

    With all names together no variant is lost.
    """
    target = fill.target
    names = tuple(sorted({*stored.vary_names, *target.vary_names}))
    selecting = selecting_values(names, fill.request.headers, target.rules)
    return replace(stored, vary_names=names, selecting=selecting)


def _keyed(fill: Fill, stored: StoredResponse) -> tuple[bytes, Fill]:
    """Return the key of the response, and the fill as it belongs to that key."""
    target, request, names = fill.target, fill.request, stored.vary_names
    variance = None
    if target.search.variance is not None or NO_VARY_SEARCH in fill.verdict.stored.headers:
        variance = search_variance(stored.headers)
        if stored.status == 200:
            # The key of the lookup may follow what the path said before.
            target.search.variance = variance
    primary = target.key_under(variance, request.all_parts())
    if primary != fill.found.key:
        # The result of the lookup belongs to other URLs.
        found = replace(fill.found, key=primary, entry=None, index=None, prepared={})
        fill = replace(fill, found=found)
    if names or request.declared:
        listed_under = list_key(target.key_under(variance, request.key_parts))
        fill = replace(fill, listed_under=listed_under)
    return variant_key(primary, names, stored.selecting) if names else primary, fill


def _tokens(
    fill: Fill, late: Collection[str], dependencies: Dependencies
) -> tuple[tuple[str, bytes], ...] | Reason:
    """Return the tokens that the response depends on, or the reason why they protect nothing."""
    found, read = fill.found.tokens, dependencies.read
    # A typed read captured its group's token itself, before it read. If the group was purged
    # between the lookup and that read, the response may mix both sides of the change.
    if read and any(found.get(group, token) != token for group, token in read.items()):
        return Reason.PURGED
    tokens: Mapping[str, Any] = found
    if read or late or len(found) != len(fill.groups):
        tokens = {group: found[group] for group in (*fill.groups, *late)} | dict(read)
    return Reason.REPLICA_LAG if any_quarantined(tokens.values()) else tuple(tokens.items())


def _note_stored(cache: Cache, fill: Fill, stored: StoredResponse) -> None:
    """Let the target learn from a response that is stored, and count it."""
    target, counts = fill.target, fill.target.counts
    target.vary_names = stored.vary_names
    target.answers_others = not stored.always_validate and (
        stored.freshness_lifetime > 0 or stored.stale_while_revalidate > 0
    )
    target.absent_from = cache.monotonic() + fill.verdict.keep_for
    if (
        target.unshareable_until
        and cache.clock() - stored.request_time < cache.settings.cache_collapse_wait
    ):
        target.filled_in_time()
    counts.stored += 1
    counts.stored_bytes += len(stored.body)
