"""What a request for a URL finds among the variants in other words than its own: its language."""

from typing import Final

from msgspec.structs import replace

from maxage.cache.cache import Cache
from maxage.cache.lookup_result import LookupResult, is_current
from maxage.cache.target import Target
from maxage.rfc9111.language import ACCEPT_LANGUAGE, is_in_language, preferred_language
from maxage.rfc9111.message import Request
from maxage.rfc9111.vary import selecting_values

_MOST: Final = 8
"""Stored variants of one URL that are looked at, the newest first."""


async def variant_in_language(
    cache: Cache, target: Target, request: Request, found: LookupResult
) -> LookupResult:
    """Return what was found, with a variant in the language that the request prefers, if any.

    Raises:
        StoreUnavailableError: nothing that the store says may be relied upon now.
    """
    if found.entry is not None or ACCEPT_LANGUAGE not in target.vary_names:
        return found
    language = preferred_language(request.headers)
    if language is None:
        return found
    for entry in await cache.reader.variants(found, _MOST):
        wanted = selecting_values(entry.stored.vary_names, request.headers, target.rules)
        fits = is_in_language(entry.stored, wanted, language)
        if fits and is_current(entry, found.tokens, target.groups):
            return replace(found, entry=entry, vary_miss=False, ready={})
    return found
