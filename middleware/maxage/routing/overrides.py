"""Dependency overrides in force: FastAPI's `dependency_overrides` of an application."""

import hashlib
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from maxage.routing.route_table import RouteTable

_Overrides = Mapping[Any, Callable[..., Any]]


class _Nothing:
    """Stands for an application where there is none of FastAPI."""

    dependency_overrides: Final[dict[Any, Any]] = {}


@final
class Overrides:
    """Tells whether an application's dependency overrides are still those of its route table.

    Args:
        table: the routes, with the applications whose overrides they obey.
        before: those of the table before.
    """

    def __init__(self, table: RouteTable, before: "Overrides | None" = None) -> None:
        providers = {id(route.wired_by): route.wired_by for route in table.routes}
        self._seen: Final = tuple(
            (one, dict(overrides_of(one))) for one in providers.values() if one is not None
        )
        self.main: Final[tuple[Any, _Overrides]] = (
            self._seen[0] if self._seen else (_Nothing, _Nothing.dependency_overrides)
        )
        """The first application and the overrides that it had. Each hit compares these two, which
        costs less than `hold`; those of mounted applications are compared within a second."""
        self.ids: Final = [(id(provider), _ids(seen)) for provider, seen in self._seen]
        """Identities of the objects; this one keeps them alive."""
        self._held: Final = [(one, _ids(seen)) for one, seen in self._seen]
        same = before is not None and before.ids == self.ids
        self.name: Final[str] = before.name if before and same else _name(self._seen)
        """Part of each key: what was stored under other overrides answers nothing."""

    def hold(self) -> bool:
        """Return whether no override was added, removed or changed."""
        for one, ids in self._held:
            overrides = getattr(one, "dependency_overrides", None)
            if (overrides or ids) and _ids(overrides or {}) != ids:
                return False
        return True


def overrides_of(provider: Any) -> _Overrides:
    """Return the overrides that a FastAPI application has now; empty without an application."""
    return getattr(provider, "dependency_overrides", None) or {}


def _ids(overrides: _Overrides) -> list[tuple[int, int]]:
    """Return the identities of overrides: different objects may be equal."""
    return [(id(one), id(other)) for one, other in overrides.items()]


def _name(seen: Sequence[tuple[Any, _Overrides]]) -> str:
    """Return a name for overrides: empty without any, and the same one in all processes if each
    is found under its module and name. Others are objects of this process, whose name is random.
    """
    pairs = [
        (str(number), _title(one), _title(other))
        for number, (_, overrides) in enumerate(seen)
        for one, other in overrides.items()
    ]
    if not pairs:
        return ""
    if any(title is None for pair in pairs for title in pair):
        return f"!{secrets.token_hex(6)}"
    text = "\n".join(f"{number} {one} {other}" for number, one, other in pairs)
    return "!" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _title(call: Any) -> str | None:
    """Return module and name of an object that is found by them; None: another one may be."""
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is call else None
