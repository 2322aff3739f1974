"""Assertions about routes: does this write purge that read?

No handler runs: the application's routes, decorators and rules decide.
"""

from typing import Any, Final

from maxage.cache.targets import Targets
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.route_map import scope_of, targets_of
from maxage.store.tokens import NAMESPACE_GROUP

_HOST: Final = Headers(((b"host", b"testserver"),))
_NOT_SEEN: Final = (
    "This test sees the tags and invalidates() of routes. It does not see tags that a response "
    "names itself, nor objects read through the typed cache."
)


def check_route_invalidates(app: Any, write: str, read: str) -> None:
    """Do `assert_invalidates` by the application's routes."""
    __tracebackhide__ = True
    purged, known, told = _both(app, write, read)
    if known is None:
        raise AssertionError(f"{read} is never cached: there is nothing to invalidate.")
    if purged.isdisjoint(known):
        raise AssertionError(f"{write} does not invalidate {read}.\n{told}\n{_NOT_SEEN}")


def check_route_does_not_invalidate(app: Any, write: str, read: str) -> None:
    """Do `assert_does_not_invalidate` by the application's routes."""
    __tracebackhide__ = True
    purged, known, told = _both(app, write, read)
    both = purged.intersection(known or ())
    if both:
        raise AssertionError(
            f"{write} invalidates {read}: both have {', '.join(sorted(both))}.\n{told}"
        )


def groups_told(app: Any, write: str, read: str) -> str:
    """Return what a write purges and which groups a read is in, for a message."""
    try:
        return _both(app, write, read)[2]
    except AssertionError as error:
        return str(error)


def _both(app: Any, write: str, read: str) -> tuple[frozenset[str], frozenset[str] | None, str]:
    """Return the purged groups, the groups of the read (None: never cached), and a text of both."""
    method, changed = _parsed(write)
    if not is_unsafe(method):
        raise AssertionError(f"{write!r} changes nothing; a write is a POST, PUT, PATCH or DELETE.")
    reading, asked = _parsed(read)
    if reading != "GET":
        raise AssertionError(f"{read!r} is no GET; only responses to GET are stored.")
    targets = targets_of(app)
    purged = targets.touched(scope_of(method, changed), _HOST).groups
    target = targets.find(scope_of("GET", asked), _HOST)
    known = [group for group in target.groups if group != NAMESPACE_GROUP]
    told = (
        f"  {write} ({_route(targets, method, changed)}) purges {', '.join(purged)}\n"
        f"  {read} ({_route(targets, 'GET', asked)}) is in {', '.join(known)}"
    )
    return frozenset(purged), frozenset(target.groups) if target.policy.cache else None, told


def _parsed(request: str) -> tuple[str, str]:
    method, _, target = request.strip().partition(" ")
    if not method.isalpha() or not target.strip().startswith("/"):
        raise AssertionError(f"{request!r} is no request; it takes a form such as 'PUT /items/5'.")
    return method.upper(), target.strip()


def _route(targets: Targets, method: str, target: str) -> str:
    """Return the template of the route that answers.

    Raises:
        AssertionError: no route does, probably by a typing error.
    """
    scope = scope_of(method, target)
    table = targets.routes.table(scope)
    if not table.routes:
        return "no routes are known"
    match = targets.match(scope, _HOST)
    if match is None:
        raise AssertionError(f"{method} {target} has no route in this application.")
    return f"route {match.route.template}"
