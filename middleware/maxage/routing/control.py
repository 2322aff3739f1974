"""Control: what decorators and rules say about a route, each alone or all together."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from starlette.requests import Request

VaryBy = Callable[[Request], str | Awaitable[str]]
"""Returns a text on which responses depend besides the URL: a user, a tenant, a set of roles.

It runs for every request of the route, so that it can authenticate: if it raises, the application
answers the request uncached, with its own checks.
"""


class Control(Struct, frozen=True, kw_only=True):
    """What one decorator or rule says about a route; None: nothing."""

    cache: bool = True
    """False forbids caching, whatever all others say."""
    ttl: float | None = None
    """Freshness lifetime in seconds of responses that do not state their own."""
    tags: tuple[str, ...] = ()
    """Tags of the responses; `{name}` stands for a path parameter."""
    vary_by: VaryBy | None = None
    invalidates: tuple[str, ...] = ()
    """Paths and tags that mutating requests purge too."""
    only: bool = False
    """Whether mutating requests purge nothing else than `invalidates`."""
    isolated: bool = False
    """Whether the responses depend on nothing outside of their own tree of routes."""


def combined(speaking: Sequence[Control]) -> Control:
    """Return what several controls say together.

    A prohibition always wins, and names add up.

    Args:
        speaking: the controls; the first lifetime and the first `vary_by` hold.
    """
    lifetimes = [said.ttl for said in speaking if said.ttl is not None]
    callables = [said.vary_by for said in speaking if said.vary_by is not None]
    return Control(
        cache=all(said.cache for said in speaking),
        ttl=lifetimes[0] if lifetimes else None,
        tags=tuple(dict.fromkeys(tag for said in speaking for tag in said.tags)),
        vary_by=callables[0] if callables else None,
        invalidates=tuple(dict.fromkeys(name for said in speaking for name in said.invalidates)),
        only=any(said.only for said in speaking),
        isolated=any(said.isolated for said in speaking),
    )
