"""The pytest plugin: fixtures for tests of applications with a cache, and `--maxage-audit`.

pytest imports it in every run of an environment that has maxage, so it lies beside the package and
imports nothing of it: `import maxage` takes 0.4 s. What it needs is in `maxage.testing`.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for an audit."""
    parser.getgroup("maxage").addoption(
        "--maxage-audit",
        action="store_true",
        help="Report what stored answers depend on besides their keys, and fail if there is any.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin an audit where one is wanted."""
    if config.getoption("maxage_audit"):
        from maxage.testing.audit_plugin import AuditPlugin  # noqa: PLC0415 - see above

        config.pluginmanager.register(AuditPlugin(), "maxage-audit")
