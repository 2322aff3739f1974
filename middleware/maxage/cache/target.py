"""A URL as the cache knows it before a lookup: key, policy, groups, lessons of its responses."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, final

from msgspec import Struct

from maxage.cache.key import Site
from maxage.cache.terms import Terms
from maxage.invalidation.group_names import is_table_group
from maxage.observe.counters import RouteCounts
from maxage.observe.words import Reason
from maxage.rfc9111.message import Headers
from maxage.rfc9111.no_vary_search import SearchVariance, simplified
from maxage.rfc9111.policy import Policy
from maxage.routing.route_policy import RoutePolicy
from maxage.routing.route_table import Routed, RouteInfo, routed
from maxage.store.lookup_result import Tokens

UNCACHEABLE_SECONDS: Final = 10.0
"""Seconds for which a URL whose response was not storable is forwarded without waiting."""
MOST_TABLES: Final = 32
"""Groups of tables whose tokens are read for each response of a route."""
REFRESH_PAUSE: Final = 1.0
"""Seconds without a background refresh of a URL after one that failed."""


class Search(Struct, gc=False):
    """The No-Vary-Search of a path's last response; all queries of the path share it."""

    variance: SearchVariance | None = None


class Touched(Struct, frozen=True, gc=False):
    """What a mutating request purges, and where it is counted."""

    groups: tuple[str, ...]
    route: str
    """Its method and template, for the counters."""
    is_known: bool
    """Whether the path has a known route."""
    reads: int
    """How many read routes it reaches."""
    counts: RouteCounts


@final
class Target(Struct, eq=False):
    """A URL as the cache knows it: first what the request tells, then what responses have taught.

    Responses teach few URLs anything, so that the defaults stand for most of it.
    """

    site: Site
    raw_path: bytes
    decoded_path: bytes
    """Another one than the raw path's where an outer middleware rewrote it alone."""
    query: bytes
    """The query as far as it is a part of the key."""
    plain_key: bytes
    """The primary key without what else distinguishes requests."""
    terms: Terms
    route: RouteInfo | None
    policy: RoutePolicy
    rules: Policy
    counts: RouteCounts
    """The counts of its route."""
    groups: tuple[str, ...]
    generation: int
    """The number of the routes among which it was found."""
    inner: str | None
    """The path as the router sees it; None: `routed` is worked out."""
    search: Search
    all_groups: tuple[str, ...]
    """The groups and the late groups; a lookup reads their tokens."""
    late_groups: tuple[str, ...]
    """Groups that responses named themselves, or were read from; captured beforehand at the next
    miss."""
    answers_others: bool
    """Whether a response will answer other requests without validation, by the last one that was
    stored; before the first, by the default lifetime."""
    routed: Routed | None = None
    """What the application's router adds to the scope of a hit, for layers around the cache;
    `work_out_routed` sets it."""
    vary_names: tuple[bytes, ...] = ()
    """The selecting header fields of the last response, so that one round trip is enough."""
    unshareable_until: float = 0.0
    """Monotonic seconds until which its requests do not wait for each other."""
    unstorable: tuple[bytes, ...] = ()
    """The Cache-Control that forbade storing its last response, while nothing is stored for the
    URL. It is not looked up until `unshareable_until`."""
    unstorable_reason: Reason = Reason.NO_STORE
    """The word for what that Cache-Control says."""
    unstorable_fragments: bool = False
    """Whether that response was a fragment: it says nothing of the page, nor the page of it."""
    last_tokens: Tokens | None = None
    """The tokens that the last noted lookup read (`Cache.note_lookup`)."""
    looked_up_after: int = 0
    """The purges that this process had made by then (`Purger.serial`)."""
    absent_from: float = inf
    """Monotonic seconds from which nothing is stored, as far as this process knows."""
    refresh_after: float = 0.0
    """Monotonic seconds until which no background refresh begins: the last one failed."""

    @property
    def path(self) -> str:
        """The decoded path, for log lines."""
        return self.decoded_path.decode(errors="replace")

    @property
    def host(self) -> str:
        """The host without its port, as Starlette's Host routes compare it."""
        return self.site.host_name

    def key(self, extra: Sequence[bytes]) -> bytes:
        """Return the primary key, with what distinguishes requests besides the URL."""
        variance = self.search.variance
        if variance is None and not extra:
            return self.plain_key
        return self.key_under(variance, extra)

    def key_under(self, variance: SearchVariance | None, extra: Sequence[bytes]) -> bytes:
        """Return the primary key for one No-Vary-Search field; None: for responses without it.

        Equivalent URLs share it. It names the field's value: under a key lie only responses that
        called their URLs equivalent in this way.
        """
        query = self.query
        if variance is not None:
            query = simplified(query, variance)
            # Other lists of extra parts begin with a header's name, which is in lower case.
            extra = (b"NO-VARY-SEARCH", variance.name, *extra)
        elif not extra:
            return self.plain_key
        return self.site.key(self.raw_path, query, self.decoded_path, extra)

    def work_out_routed(self) -> None:
        """Set `routed`, before the first hit."""
        if self.inner is not None:
            self.routed = None if self.route is None else routed(self.route, self.inner)
            self.inner = None

    def remember_groups(self, groups: Iterable[str], limit: int) -> None:
        """Remember groups that a response named, so that the next miss captures them first."""
        known = [*self.late_groups, *(g for g in groups if g not in self.groups)]
        tables = tuple(filter(is_table_group, known))
        if tables:
            known = [group for group in known if not is_table_group(group)]
            # Other URLs of the route are read from the same tables.
            tables = self.terms.tables = _newest([*self.terms.tables, *tables], MOST_TABLES)
        self.late_groups = (*_newest(known, limit), *tables)
        self.all_groups = (*self.groups, *self.late_groups)

    @property
    def is_taught(self) -> bool:
        """Whether its responses taught something that a new target of the URL would not know."""
        return bool(
            self.vary_names
            or self.late_groups
            or self.unstorable
            or self.unshareable_until
            or self.refresh_after
            or self.search.variance
        )

    # storable and shareable

    def mark_unstorable(
        self,
        now: float,
        rules: Policy,
        *,
        control: tuple[bytes, ...] = (),
        reason: Reason = Reason.NO_STORE,
        fragments: bool = False,
    ) -> None:
        """Remember that requests for this URL need not wait for each other.

        Args:
            now: monotonic seconds.
            rules: by which the response was judged.
            control: the Cache-Control that forbade storing, where nothing is stored for the URL:
                then it need not be looked up either.
            reason: the word for what it says.
            fragments: whether the request asked for a fragment.
        """
        self.unshareable_until = now + UNCACHEABLE_SECONDS
        self.unstorable, self.unstorable_reason = control, reason
        self.unstorable_fragments = fragments
        self.answers_others = rules.default_lifetime > 0

    def waited_in_vain(self) -> None:
        """Let no request wait until a fill is in time again.

        A stream that never ends would otherwise keep each new client waiting once.
        """
        self.unshareable_until = inf

    def filled_in_time(self) -> None:
        """Let requests wait for fills again."""
        if self.unshareable_until == inf:
            self.unshareable_until = 0.0

    def is_unstorable(self, now: float, *, fragments: bool = False) -> bool:
        """Return whether a lookup would find nothing, and the response would not be stored."""
        known = self.unstorable != () and self.unshareable_until > now
        return known and self.unstorable_fragments is fragments

    def recheck_unstorable(self, headers: Headers) -> Reason:
        """Return why a response is not stored.

        As soon as its Cache-Control is another one, the URL is looked up again.
        """
        if headers.get_all(b"cache-control") == self.unstorable:
            return self.unstorable_reason
        self.unstorable = ()
        return Reason.RELEARNT


def _newest(groups: Iterable[str], limit: int) -> tuple[str, ...]:
    """Return the last groups, each once, where there are too many."""
    return tuple(dict.fromkeys(reversed(tuple(groups))))[:limit][::-1]
