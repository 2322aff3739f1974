"""The pytest plugin: fixtures for tests of applications with a cache, an audit, and lint.

pytest imports it in every run of an environment that has maxage, so it lies beside the package and
imports nothing of it: `import maxage` takes 0.3 s. What it needs is in `maxage.testing`.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from maxage.testing.clock import CacheClock
    from maxage.testing.isolation import IsolatedCache


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for an audit and for lint."""
    group = parser.getgroup("maxage")
    group.addoption(
        "--maxage-audit",
        action="store_true",
        help="Report what stored answers depend on besides their keys, and fail if there is any.",
    )
    group.addoption(
        "--maxage-lint",
        metavar="MODULE:APP",
        help="Report what a cache would break in an application, and fail if there is any.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin an audit, or lint an application, where that is wanted."""
    if config.getoption("maxage_audit"):
        from maxage.testing.audit_plugin import AuditPlugin  # noqa: PLC0415 - see above

        config.pluginmanager.register(AuditPlugin(), "maxage-audit")
    name = config.getoption("maxage_lint")
    if name is not None and not hasattr(config, "workerinput"):
        from maxage.testing.lint_plugin import LintPlugin  # noqa: PLC0415 - see above

        config.pluginmanager.register(LintPlugin(name), "maxage-lint")


@pytest.fixture(scope="session")
def cache_redis_url() -> str | None:
    """The URL of a Redis server for `fresh_cache`. Override it; None is the embedded store."""
    return None


@pytest.fixture(scope="session")
def _isolated_cache(cache_redis_url: str | None) -> "Generator[IsolatedCache]":
    from maxage.testing.isolation import IsolatedCache  # noqa: PLC0415 - see above

    cache = IsolatedCache(cache_redis_url)
    yield cache
    cache.end()


@pytest.fixture
def fresh_cache(_isolated_cache: "IsolatedCache") -> Generator[None]:
    """An empty cache for this test: for responses, typed values and purges by hand."""
    with _isolated_cache.installed():
        yield


@pytest.fixture
def cache_clock(fresh_cache: None, _isolated_cache: "IsolatedCache") -> "CacheClock":
    """The clock of `fresh_cache`: it stands still, and `advance(seconds)` moves it."""
    del fresh_cache
    _isolated_cache.clock.stop()
    return _isolated_cache.clock


@pytest.fixture
def no_cache() -> Generator[None]:
    """No cache for this test: all requests pass through, and typed caches store nothing."""
    from maxage.testing.isolation import without_cache  # noqa: PLC0415 - see above

    with without_cache():
        yield
