"""What is known of one URL before its lookup: key, policy, groups, what its responses taught."""

from collections.abc import Iterable, Sequence
from typing import Final, final

from msgspec import Struct

from maxage.cache.key import Place, primary_key
from maxage.rfc9111.no_vary_search import SearchVariance, simplified
from maxage.rfc9111.policy import Policy
from maxage.routing.route_policy import RoutePolicy
from maxage.routing.route_table import (
    RouteInfo,
)


class Search(Struct, gc=False):
    """What the last response of a path said of its query; all queries of the path share it."""

    variance: SearchVariance | None = None


@final
class Terms:
    """What holds for all URLs of a route to which the same rules apply."""

    __slots__ = ("is_plain", "policy", "route", "rules")

    def __init__(self, route: RouteInfo | None, policy: RoutePolicy, rules: Policy) -> None:
        self.route: Final = route
        self.policy: Final = policy
        self.rules: Final = rules
        self.is_plain: Final = policy.vary_by is None and (
            route is None or not (route.header_names or route.cookie_names)
        )
        """Whether nothing but the URL distinguishes its requests."""


@final
class Target:
    """A URL as the cache sees it. The attributes that are not final change as responses come."""

    __slots__ = (
        "_named", "_place", "_query", "all_groups", "generation", "groups", "is_plain",
        "late_groups", "plain_key", "policy", "refresh_after", "route", "rules", "search",
        "uncacheable_until", "unstorable", "vary_names",
    )  # fmt: skip

    def __init__(
        self,
        *,
        named: tuple[str, str],
        place: Place,
        query: bytes,
        terms: Terms,
        groups: tuple[str, ...],
        generation: int,
        search: Search,
    ) -> None:
        self._named: Final = named
        """Namespace and release."""
        self._place: Final = place
        self._query: Final = query
        self.plain_key: Final = primary_key(*named, place, query)
        self.route: Final = terms.route
        self.policy: Final = terms.policy
        self.rules: Final = terms.rules
        self.is_plain: Final = terms.is_plain
        self.groups: Final = groups
        self.generation: Final = generation
        """The number of the routes among which it was found."""
        self.search: Final = search
        self.vary_names: tuple[bytes, ...] = ()
        """The selecting header fields of the last response, so that one round trip is enough."""
        self.late_groups: tuple[str, ...] = ()
        """Groups that responses named themselves; captured beforehand at the next miss."""
        self.all_groups: tuple[str, ...] = groups
        """Both kinds of groups: what a lookup reads the tokens of."""
        self.uncacheable_until = 0.0
        """Until when (monotonic) requests are not made to wait for each other."""
        self.unstorable: tuple[bytes, ...] = ()
        """The Cache-Control that forbade storing its last response, as long as nothing is stored
        for the URL and `uncacheable_until` is not over: so long it is not looked up."""
        self.refresh_after = 0.0
        """Until when (monotonic) no refresh in the background is begun: the last one failed."""

    def key(self, extra: Sequence[bytes]) -> bytes:
        """Return the primary key, with what distinguishes requests besides the URL."""
        variance = self.search.variance
        if variance is None and not extra:
            return self.plain_key
        return self.key_under(variance, extra)

    def key_under(self, variance: SearchVariance | None, extra: Sequence[bytes]) -> bytes:
        """Return the primary key of responses with this No-Vary-Search; None: of those without.

        Equivalent URLs share it. It names the field's value, so that under a key lies only what
        said that its URLs are equivalent in this way.
        """
        query = self._query
        if variance is not None:
            query = simplified(query, variance)
            # In capitals, which no name of a header has that stands first in other lists.
            extra = (b"NO-VARY-SEARCH", variance.name, *extra)
        elif not extra:
            return self.plain_key
        return primary_key(*self._named, self._place, query, extra)

    def remember_groups(self, groups: Iterable[str], limit: int) -> None:
        """Remember groups which a response named, so that the next miss captures them first."""
        known = (*self.late_groups, *(g for g in groups if g not in self.groups))
        # The newest ones are kept when there are too many.
        self.late_groups = tuple(dict.fromkeys(reversed(known)))[:limit][::-1]
        self.all_groups = (*self.groups, *self.late_groups)
