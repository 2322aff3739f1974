"""Tests of applications: which write purges which read, and what the cache answered.

    assert_invalidates(app, "PUT /items/5", "GET /items?page=2")
    assert_does_not_invalidate(app, "PUT /items/5", "GET /items/6")

The fixtures are in `maxage_pytest`, a module of its own: pytest imports it in every run.
"""

from maxage.audit import audit
from maxage.route_map import RouteMap, route_map
from maxage.testing.routes import assert_does_not_invalidate, assert_invalidates

__all__ = ["RouteMap", "assert_does_not_invalidate", "assert_invalidates", "audit", "route_map"]
