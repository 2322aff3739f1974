"""What earlier requests left for the next one like them: target, key, the prepared answer."""

import math
from collections.abc import Awaitable, Callable
from typing import Final, final

from maxage.asgi.types import Scope, Send
from maxage.cache.target import Target
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.freshness import current_age
from maxage.rfc9111.message import HeaderList, StoredResponse
from maxage.store.base import Near
from maxage.store.near_copy import Copy

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether there are other routes, whoever else looks besides."""
_ROUNDING: Final = 1e-6
"""Seconds by which what is prepared ends too early rather than too late."""
Line = tuple[bytes, bytes]
_Form = tuple[str, bytes | None]
"""Method and If-None-Match: what tells the answers from one stored response apart."""
_FORMS: Final[dict[str, _Form]] = {method: (method, None) for method in ("GET", "HEAD")}
_NO_KEYS: Final[dict[tuple[Line, ...], bytes]] = {}
"""Nothing is put into it: with names of selecting fields comes a dictionary of its own."""


@final
class PreparedResponse:
    """A response as it is sent, for as long as it stays the same."""

    __slots__ = ("body", "confirmed", "headers", "since", "status", "target", "until", "wire")

    def __init__(
        self,
        decision: Serve,
        headers: HeaderList,
        *,
        target: Target,
        confirmed: Callable[[], Awaitable[bool]] | None,
        since: float,
        until: float,
    ) -> None:
        self.status: Final = decision.status
        self.body: Final = decision.body
        self.target: Final = target
        self.headers: Final = headers
        self.confirmed: Final = confirmed
        """What has to be awaited, and to be True, before this may answer; None: nothing."""
        self.since: Final = since
        self.until: Final = until
        """From when until when (POSIX seconds) the rules give just this."""
        self.wire: object = None
        """For a server's own use: how it sends this."""

    def suits(self, target: Target, now: float) -> bool:
        """Return whether this answers for the target now."""
        return self.since <= now < self.until and self.target is target

    async def send(self, send: Send) -> None:
        """Send it; what lies outside of us may add to the headers."""
        headers = list(self.headers)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def is_confirmed(near: Near, copy: Copy) -> bool:
    """Return whether a copy may answer: all that was purged before this call has been dropped."""
    return await near.confirm() and copy.kept


@final
class KnownRequest:
    """What the ordinary way found out about a request."""

    __slots__ = (
        "form", "key", "keys", "names", "path", "root_path", "scheme", "target",
        "variance",
    )  # fmt: skip

    def __init__(self, scope: Scope, target: Target, condition: bytes | None) -> None:
        self.target: Final = target
        self.key: Final = target.key(())
        """The primary key."""
        self.variance: Final = target.search.variance
        """What the key was made by."""
        method = scope["method"]
        self.form: Final[_Form] = _FORMS[method] if condition is None else (method, condition)
        self.path: Final[str] = scope["path"]
        self.scheme: Final[str] = scope.get("scheme", "http")
        self.root_path: Final[str] = scope.get("root_path", "")
        self.names: tuple[bytes, ...] = ()
        self.keys: dict[tuple[Line, ...], bytes] = _NO_KEYS


def same_until(stored: StoredResponse, now: float) -> float:
    """Return until when Age and the seconds of freshness that are left stay the same."""
    if now < stored.response_time:
        # The clock was set back: the age stands still.
        return now
    age = current_age(stored, now=now)
    left = stored.freshness_lifetime - age
    return now + min(math.floor(age) + 1 - age, left - math.floor(left)) - _ROUNDING
