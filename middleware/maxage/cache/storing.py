"""Storing: decide whether an application's answer may be stored, and store it."""

from collections.abc import Collection
from itertools import chain
from typing import Final

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
from maxage.rfc9111.message import Request, Response, StoredResponse
from maxage.rfc9111.no_vary_search import NO_VARY_SEARCH, SearchVariance, search_variance
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.vary import selecting_values
from maxage.rfc9111.verdicts import MayNotStore, MayStore, NotFreshened
from maxage.store.claims import Claim
from maxage.store.entry import Entry
from maxage.store.lookup_result import LookupResult
from maxage.store.tokens import any_quarantined

LONGEST_TAG: Final = 1024
"""Characters of a tag; a response with a longer one is not stored."""


class Answer(Struct, frozen=True, kw_only=True):
    """The application's answer to a request, and the result of the lookup before it."""

    target: Target
    request: Request
    found: LookupResult
    response: Response
    rules: Policy
    """The target's, or those for responses of an unknown route."""
    asked_at: float
    """POSIX seconds at which the application was called."""
    anonymous: bool = False
    """Whether the application looked who asks, and knew no user."""


def consider(cache: Cache, answer: Answer, groups: tuple[str, ...] = ()) -> Fill | MayNotStore:
    """Return a fill when the response may be stored and all its groups were captured.

    Args:
        cache: to store it in.
        answer: the application's answer.
        groups: groups of the response besides those of its target and its headers.
    """
    response = answer.response
    header_bytes = sum(map(len, chain.from_iterable(response.headers.raw)))
    if header_bytes > cache.settings.cache_max_header_bytes:
        return MayNotStore(reason=Reason.LONG_HEADERS)
    return _fill(cache, answer, memoised_may_store(_arrival(cache, answer)), groups)


def freshen(cache: Cache, answer: Answer) -> tuple[StoredResponse | None, Fill | MayNotStore]:
    """Return the stored response as a 304 made it, and whether it may be stored like that."""
    entry = answer.found.entry
    if entry is None:
        return None, MayNotStore(reason=Reason.CONDITIONAL)
    verdict = freshening.freshen(entry.stored, _arrival(cache, answer))
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
    verdict = freshening.freshen_from_head(entry.stored, _arrival(cache, answer))
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


def _arrival(cache: Cache, answer: Answer) -> Arrival:
    rules = answer.rules
    if cache.settings.cache_lifetime_jitter:
        rules = _drawn(cache, rules)
    return Arrival(
        request=answer.request, response=answer.response, request_time=answer.asked_at,
        response_time=cache.clock(), policy=rules,
    )  # fmt: skip


def _drawn(cache: Cache, rules: Policy) -> Policy:
    """Return the rules to store by with jitter: each response's lifetime is drawn anew."""
    share = cache.settings.cache_lifetime_jitter
    lifetime = shortened(rules.default_lifetime, share=share, draw=cache.draw())
    return replace(rules, default_lifetime=lifetime)


def _fill(
    cache: Cache, answer: Answer, verdict: MayStore | MayNotStore, groups: tuple[str, ...]
) -> Fill | MayNotStore:
    if isinstance(verdict, MayNotStore):
        return verdict
    if answer.anonymous and not verdict.stored.shareable:
        verdict = replace(verdict, stored=replace(verdict.stored, anonymous=True))
    target, found = answer.target, answer.found
    tags = response_tags(answer.response.headers)
    if tags and (len(tags) > cache.settings.cache_max_tags or max(map(len, tags)) > LONGEST_TAG):
        return MayNotStore(reason=Reason.TOO_MANY_TAGS)
    if any_quarantined(found.tokens.values()):
        return MayNotStore(reason=Reason.REPLICA_LAG)
    named = (*groups, *map(tag_group, tags))
    if not _captured(cache, target, found, named):
        return MayNotStore(reason=Reason.LATE_TAG)
    all_groups = tuple(dict.fromkeys((*target.groups, *named))) if named else target.groups
    return Fill(
        target=target, found=found, request=answer.request, verdict=verdict, groups=all_groups
    )


def _captured(cache: Cache, target: Target, found: LookupResult, named: Collection[str]) -> bool:
    """Return whether all groups of a response were captured; if not, the next miss captures them.

    A group whose token was not captured before the handler ran protects nothing: it may have been
    purged while the handler was running.
    """
    tokens = found.tokens
    if None not in map(tokens.get, target.groups) and None not in map(tokens.get, named):
        return True
    target.remember_groups(named, cache.settings.cache_max_tags)
    return False


def store_response(
    cache: Cache, fill: Fill, body: bytes, dependencies: Dependencies, claim: Claim | None = None
) -> Entry | Reason:
    """Store a response that came through whole; lookups find it at once, and it is written soon.

    Args:
        cache: to store it in.
        fill: from `consider` or `freshen`.
        body: of the response.
        dependencies: of the request that fetched it.
        claim: of this process to the response; it ends with the write.

    Returns:
        The entry, or the reason why it is not stored.
    """
    target, found = fill.target, fill.found
    looked_up = found.key
    late = dependencies.tags and dependencies.tags.difference(fill.groups)
    if dependencies.unprotected:
        return Reason.OTHER_STORE
    if late and not _captured(cache, target, found, late):
        return Reason.LATE_TAG
    stored = completed(fill.verdict.stored, body)
    if target.vary_names not in ((), stored.vary_names):
        stored = _with_all_names(stored, fill)
    if cache.settings.cache_compress:
        stored = marked(stored)
    names, variance = stored.vary_names, _search_variance(fill, stored)
    primary = target.key_under(variance, fill.request.all_parts)
    if primary != found.key:
        # The result of the lookup belongs to other URLs.
        found = replace(found, key=primary, entry=None, index=None, prepared={})
        fill = replace(fill, found=found)
    if names or fill.request.declared:
        listed_under = list_key(target.key_under(variance, fill.request.key_parts))
        fill = replace(fill, listed_under=listed_under)
    key = variant_key(primary, names, stored.selecting) if names else primary
    tokens = _tokens(fill, late, dependencies)
    if isinstance(tokens, Reason):
        return tokens
    if dependencies.read:
        target.remember_groups(dependencies.read, cache.settings.cache_max_tags)
    entry = Entry(key=key, stored=stored, tokens=tuple(tokens.items()))
    target.vary_names = names
    target.answers_others = not stored.always_validate and (
        stored.freshness_lifetime > 0 or stored.stale_while_revalidate > 0
    )
    target.absent_from = cache.monotonic() + fill.verdict.keep_for
    if (
        target.unshareable_until
        and cache.clock() - stored.request_time < cache.settings.cache_collapse_wait
    ):
        target.filled_in_time()
    target.counts.stored += 1
    target.counts.stored_bytes += len(body)
    # Near copies under these keys are older. A known request may ask for one by the key of before.
    cache.forget_copies(key, found.key, looked_up)
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


def _tokens(
    fill: Fill, late: Collection[str], dependencies: Dependencies
) -> dict[str, bytes] | Reason:
    """Return the tokens that the response depends on, or the reason why they protect nothing."""
    found, read = fill.found.tokens, dependencies.read
    # A typed read captured its group's token itself, before it read. If the group was purged
    # between the lookup and that read, the response may mix both sides of the change.
    if read and any(found.get(group, token) != token for group, token in read.items()):
        return Reason.PURGED
    tokens = {group: found[group] or b"" for group in (*fill.groups, *late)}
    tokens |= read
    return Reason.REPLICA_LAG if any_quarantined(tokens.values()) else tokens


def _search_variance(fill: Fill, stored: StoredResponse) -> SearchVariance | None:
    """Return which URLs the response calls equivalent, and remember it."""
    search = fill.target.search
    variance = None
    if search.variance is not None or NO_VARY_SEARCH in stored.headers:
        variance = search_variance(stored.headers)
        if stored.status == 200:
            search.variance = variance
    # The key of the lookup may follow what the path said before.
    return variance
