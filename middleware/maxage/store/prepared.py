"""A stored response as it is sent, prepared once for many equal requests."""

from collections.abc import Awaitable, Callable
from typing import Final, final

from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import HeaderList

Form = tuple[str, bytes | None, bool]
"""Method, If-None-Match, and whether zstd is accepted: they tell apart the responses that one
stored response gives."""

MOST_FORMS: Final = 4
"""Forms of one stored response that are prepared at the same time: GET, HEAD and 304."""

Confirm = Callable[[], Awaitable[bool]]
"""Asks whether a copy may answer: all purges before this call have reached it."""


class Owner:
    """Identity of the rules by which a response was prepared, and of what asks for it."""

    __slots__ = ()


@final
class PreparedResponse:
    """A response as it is sent, for as long as it stays the same."""

    __slots__ = ("body", "confirm", "head", "headers", "owner", "since", "status", "until")

    def __init__(
        self,
        decision: Serve,
        headers: HeaderList,
        *,
        owner: Owner,
        confirm: Confirm | None,
        since: float,
        until: float,
    ) -> None:
        self.status: Final = decision.status
        self.body: Final = decision.body
        self.headers: Final = headers
        self.owner: Final = owner
        self.confirm: Final = confirm
        """Must be awaited, and be True, before this answers; None: it may answer at once."""
        self.since: Final = since
        self.until: Final = until
        """POSIX seconds between which the rules give exactly this response."""
        self.head: tuple[list[tuple[bytes, bytes]], bytes | None] | None = None
        """For a server's use: its default headers, and the head that it sends with them."""

    def suits(self, owner: Owner, now: float) -> bool:
        """Return whether this answers for this owner now."""
        return self.since <= now < self.until and self.owner is owner
