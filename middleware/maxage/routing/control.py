"""Control: what one decorator or rule says about a route."""

from collections.abc import Awaitable, Callable

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
