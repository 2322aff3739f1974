"""Terms: the policy and rules of a route, for all its URLs to which the same `Rule`s apply."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, final

from msgspec.structs import replace

from maxage.invalidation.groups import PathGroups
from maxage.observe.counters import RouteCounts, Tally
from maxage.rfc9111.policy import Policy
from maxage.routing.default_lifetime import SecretNames, takes_default
from maxage.routing.route_policy import RoutePolicy, Rule, matching_rules, route_policy
from maxage.routing.route_table import RouteInfo, RouteMatch

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

DEEPEST: Final = 32
"""Segments of a path that is cached; each may need a token of its own."""
_MOST_TERMS: Final = 4096
"""Combinations of a route and rules whose terms are remembered."""

Restriction = Literal["path or query", "files", "documentation", "security", "headers", "deep"]
"""Why a URL gets no default lifetime (the first four), or is not cached (the last two): its path is
a probe's or stands for operations, or its query carries a secret; its route serves files, shows the
routes, checks credentials, or reads all request headers; its path has too many segments."""


@final
class Terms:
    """Policy and rules shared by all URLs of a route to which the same `Rule`s apply.

    Args:
        route: the route.
        policy: what settings, rules and decorators say.
        rules: the same for the rules of RFC 9111.
        counts: of the route.
        matching: the `Rule`s that apply.
        restriction: why these URLs get no default lifetime, or are not cached; None: neither.
        checks_credentials: whether each request counts as one with credentials: a hit would skip
            the check that the route makes.
    """

    __slots__ = (
        "answers_others",
        "checks_credentials",
        "counts",
        "explicit_rules",
        "is_plain",
        "matching",
        "path_groups",
        "policy",
        "restriction",
        "route",
        "rules",
        "tables",
    )

    def __init__(
        self,
        route: RouteInfo | None,
        policy: RoutePolicy,
        rules: Policy,
        *,
        counts: RouteCounts,
        matching: tuple[Rule, ...] = (),
        restriction: Restriction | None = None,
        checks_credentials: bool = False,
    ) -> None:
        self.route: Final = route
        self.policy: Final = policy
        self.rules: Final = rules
        self.counts: Final = counts
        self.matching: Final = matching
        self.restriction: Final = restriction
        self.checks_credentials: Final = checks_credentials
        declared = rules.lifetime_is_declared or policy.vary_by is not None
        self.explicit_rules: Final = (
            rules if declared else _without_default(rules, known=route is not None)
        )
        """Rules for a response that an unknown route has given: it takes no default lifetime."""
        self.answers_others: Final = rules.default_lifetime > 0
        """Whether a response is expected to answer other requests without validation."""
        self.is_plain: Final = policy.vary_by is None and not rules.keyed_fields
        """Whether the URL alone distinguishes its requests."""
        self.path_groups: PathGroups | None = None
        """The groups of its paths, once one was asked for."""
        self.tables: tuple[str, ...] = ()
        """Groups of tables that a response of the route was read from; the newest ones last."""


def _without_default(rules: Policy, *, known: bool) -> Policy:
    # Guessing a lifetime is a setting for all that an application without known routes sends.
    fraction = 0.0 if known else rules.heuristic_fraction
    return replace(rules, default_lifetime=0.0, heuristic_fraction=fraction)


@final
class TermsFinder:
    """Finds the terms of routes, and remembers a bounded number of them."""

    def __init__(self, settings: "CacheSettings", rules: Sequence[Rule], tally: Tally) -> None:
        self._settings: Final = settings
        self._rules: Final = tuple(rules)
        self._tally: Final = tally
        self.secrets: Final = SecretNames(settings.cache_credential_query)
        self._base_rules: Final = _policy(settings)
        self._rules_memo: dict[tuple[float, bool, tuple[bytes, ...]], Policy] = {}
        self._memo: dict[tuple[RouteInfo | None, tuple[Rule, ...], bool], Terms] = {}

    def forget(self) -> None:
        """Forget the terms: there are other routes."""
        self._memo.clear()

    def at(
        self, path: str, inner: str, match: RouteMatch | None, *, by_default: bool = True
    ) -> Terms:
        """Return the terms of a path.

        Args:
            path: as clients spell it.
            inner: as the router sees it.
            match: its route, if one is known.
            by_default: whether it takes the default lifetime.
        """
        route = None if match is None else match.route
        matching = matching_rules(self._rules, path, inner) if self._rules else ()
        terms = self._memo.get((route, matching, by_default))
        if terms is None:
            if len(self._memo) >= _MOST_TERMS:
                self._memo.clear()
            terms = self._new(route, matching, by_default=by_default)
            self._memo[route, matching, by_default] = terms
        return terms

    def _new(
        self, route: RouteInfo | None, matching: tuple[Rule, ...], *, by_default: bool
    ) -> Terms:
        if route is not None and self.secrets.are_in_template(route.template):
            by_default = False
        restriction: Restriction | None = None if by_default else "path or query"
        if route is not None and (route.serves_files or route.is_documentation):
            # They change without a write.
            by_default = False
            restriction = "files" if route.serves_files else "documentation"
        policy = route_policy(
            default_lifetime=self._settings.cache_expiration if by_default else 0.0,
            rules=matching,
            control=route.control if route is not None else None,
        )
        # A hit would skip a check of credentials: never cached implicitly.
        guarded = route is not None and route.has_security and policy.vary_by is None
        if guarded:
            restriction = "security"
        if route is not None and route.reads_all_headers and policy.vary_by is None:
            policy, restriction = replace(policy, cache=False), "headers"
        lifetime = 0.0 if guarded else policy.default_lifetime
        keyed = () if route is None else route.declared_fields
        rules = self._rules_with(lifetime, declared=policy.lifetime_is_declared, keyed=keyed)
        counts = self._tally.of_route(route.template if route is not None else None)
        checks = route is not None and route.has_security
        return Terms(
            route, policy, rules, counts=counts, matching=matching, restriction=restriction,
            checks_credentials=checks and not self._settings.cache_authorization_only,
        )  # fmt: skip

    def of_deep(self, path: str, inner: str, *, by_default: bool) -> Terms:
        """Return the terms of a path with more segments than `DEEPEST`: it is not cached."""
        terms = self.at(path, inner, None, by_default=by_default)
        return Terms(
            None, replace(terms.policy, cache=False), terms.rules,
            counts=self._tally.of_route(None), matching=terms.matching, restriction="deep",
        )  # fmt: skip

    def _rules_with(self, lifetime: float, *, declared: bool, keyed: tuple[bytes, ...]) -> Policy:
        """Return the rules with a default lifetime; an application declares only a few."""
        rules = self._rules_memo.get((lifetime, declared, keyed))
        if rules is None:
            rules = replace(
                self._base_rules,
                default_lifetime=lifetime,
                lifetime_is_declared=declared,
                keyed_fields=keyed,
            )
            self._rules_memo[lifetime, declared, keyed] = rules
        return rules

    def policy_of(self, route: RouteInfo) -> RoutePolicy:
        """Return the policy of a route, by the rules that match its template."""
        # Only a rule for any depth is about all paths of a parameter that takes slashes.
        path = route.template.replace(":path}", "}" + "/{}" * DEEPEST)
        match = RouteMatch(route=route, path=path, params={})
        default = takes_default(path, b"", self.secrets)
        return self.at(path, path, match, by_default=default).policy


def _policy(settings: "CacheSettings") -> Policy:
    """Return the rules that the settings make, before rules and decorators are asked."""
    return Policy(
        default_lifetime=settings.cache_expiration,
        heuristic_fraction=settings.cache_heuristic_fraction,
        obey_request_directives=settings.cache_obey_request_directives,
        store_set_cookie=settings.cache_store_set_cookie,
        store_server_errors=settings.cache_store_server_errors,
        store_client_errors=settings.cache_store_client_errors,
        stale_if_error=settings.cache_stale_if_error,
        stale_while_revalidate=settings.cache_stale_while_revalidate,
        exchange_fields=frozenset(n.lower().encode() for n in settings.cache_exchange_headers),
        store_partial=settings.cache_store_partial,
        language_order=settings.cache_language_order,
        language_select=settings.cache_language_select,
    )
