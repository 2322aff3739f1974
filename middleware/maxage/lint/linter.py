"""Lint an application: it is never called, nothing is stored, and no server is asked."""

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, Final

from maxage.errors import SettingsError
from maxage.lint.application import Application
from maxage.lint.checks.alive import check_alive
from maxage.lint.checks.identity import check_identity
from maxage.lint.checks.layers import check_layers, check_readable
from maxage.lint.checks.models import check_models
from maxage.lint.checks.writing import check_get_writes, check_late_commits, check_purges
from maxage.lint.codes import Code
from maxage.lint.finding import Finding

_CHECKS: Final[tuple[Callable[[Application], Iterator[Finding]], ...]] = (
    check_identity, check_get_writes, check_purges, check_late_commits, check_layers,
    check_readable, check_models, check_alive,
)  # fmt: skip


def lint(app: Any, *, ignore: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return the findings for an application, by code and route, notes included.

    Routes, policies and what writes purge are those that the cache itself reads. What handlers do
    is read from their source, and from that of the application's own functions that they call. An
    application without a cache is looked at as behind a default one.

    Args:
        app: the application, with its CacheMiddleware if it has one.
        ignore: codes that are not told, besides those in `CACHE_LINT_IGNORE`.

    Raises:
        SettingsError: there is no such code, or a setting of the application's cache is invalid.
    """
    return copy_context().run(_linted, app, ignore)


def _linted(app: Any, ignore: Iterable[str]) -> tuple[Finding, ...]:
    known = Application(app)
    silenced = _codes((*ignore, *known.settings.cache_lint_ignore))
    found = [one for check in _CHECKS for one in check(known) if one.code not in silenced]
    told = {(one.code, one.source, one.reason): one for one in reversed(found)}
    return tuple(sorted(told.values(), key=lambda one: (one.code, one.route)))


def _codes(names: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(name.strip().upper() for name in names)
    unknown = sorted(wanted.difference(Code))
    if unknown:
        raise SettingsError(
            f"lint got the code {unknown[0]!r} to ignore; it takes {', '.join(Code)}."
        )
    return wanted
