"""Tests of applications: did the cache answer, and does a write reach what it has to reach?

The fixtures `fresh_cache`, `cache_clock` and `no_cache` are in `maxage_pytest`, a module of its
own: pytest imports it in every run.
"""

from maxage.audit import audit
from maxage.route_map import RouteMap, route_map
from maxage.testing.clock import CacheClock
from maxage.testing.invalidation import assert_does_not_invalidate, assert_invalidates
from maxage.testing.lint_clean import assert_lint_clean
from maxage.testing.responses import assert_hit, assert_miss

__all__ = [
    "CacheClock",
    "RouteMap",
    "assert_does_not_invalidate",
    "assert_hit",
    "assert_invalidates",
    "assert_lint_clean",
    "assert_miss",
    "audit",
    "route_map",
]
