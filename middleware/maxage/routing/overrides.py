"""Dependency overrides in force: FastAPI's `dependency_overrides` of an application."""

import hashlib
import itertools
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from maxage.routing.route_table import RouteTable

_Overrides = Mapping[Any, Callable[..., Any]]
_changes: Final = itertools.count(1)
_PROCESS: Final = secrets.token_hex(6)


class _Nothing:
    """Stands for an application where there is none of FastAPI."""

    dependency_overrides: Final[dict[Any, Any]] = {}


@final
class Overrides:
    """Tells whether an application's dependency overrides are still those of its route table.

    Args:
        table: the routes, with the applications whose overrides they obey.
        is_first: whether it is the first table. Its overrides are the ones of each process.
    """

    def __init__(self, table: RouteTable, *, is_first: bool) -> None:
        providers = {id(route.wired_by): route.wired_by for route in table.routes}
        self._seen: Final = tuple(
            (one, dict(overrides_of(one))) for one in providers.values() if one is not None
        )
        self.main: Final[tuple[Any, _Overrides]] = (
            self._seen[0] if self._seen else (_Nothing, _Nothing.dependency_overrides)
        )
        """The first application and the overrides that it had. Each hit compares these two, which
        costs less than `hold`; those of mounted applications are compared within a second."""
        pairs = [pair for _, seen in self._seen for pair in seen.items()]
        self.name: Final = _name(pairs, is_first=is_first) if pairs else ""
        """Part of each key: what was stored under other overrides answers nothing."""

    def hold(self) -> bool:
        """Return whether no override was added, removed or changed."""
        return all(overrides_of(provider) == seen for provider, seen in self._seen)


def overrides_of(provider: Any) -> _Overrides:
    """Return the overrides that a FastAPI application has now; empty without an application."""
    return getattr(provider, "dependency_overrides", None) or {}


def _name(pairs: list[tuple[Any, Any]], *, is_first: bool) -> str:
    """Return a name for these overrides: the same one in all processes, where that is possible."""
    names = [_title(one) for pair in pairs for one in pair]
    if not is_first and any("<" in name for name in names):
        # Functions within functions share their names.
        return f"!{_PROCESS}.{next(_changes)}"
    return "!" + hashlib.blake2b("\n".join(names).encode(), digest_size=6).hexdigest()


def _title(call: Any) -> str:
    module, name = getattr(call, "__module__", ""), getattr(call, "__qualname__", None)
    return f"{module}.{name or '<' + type(call).__qualname__ + '>'}"
