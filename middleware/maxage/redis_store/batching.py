"""Batching: all lookups of one turn of the event loop share one round trip, and so do all commands.

One MGET carries the keys of every lookup of the turn. A client's work around a command costs more
than the command itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.claiming import Claiming
from maxage.redis_store.servers.commands import Claim, Claims, Command, Created, Lacking, Read
from maxage.store.base import StoreReply
from maxage.store.wanted_claim import WantedClaim
from maxage.turn import Turn

logger = logging.getLogger("maxage")

Fetch = Callable[[Sequence[bytes], Sequence[str], Sequence[Claim]], Awaitable[Read]]
"""Reads the values of distinct keys and the tokens of distinct groups, and makes claims."""
Create = Callable[[Sequence[Lacking], Claims, float], Awaitable[Created]]
"""Creates distinct tokens, and makes claims, until a time (monotonic seconds)."""
_Lookup = tuple[tuple[bytes, ...], tuple[str, ...]]
"""The keys and groups of one lookup."""
_Asked = tuple[tuple[bytes, ...], tuple[str, ...], WantedClaim | None]
"""The same, with the claim that leaves with it."""


class Reply(StoreReply):
    """A reply of which tokens may be missing."""

    lacking: dict[int, Lacking] | None = None
    """The tokens that are still to be created, by their position."""


_Incomplete = tuple[Reply, Sequence[str], WantedClaim | None, float]
"""A reply, its groups, the claim that its request wants, and when its read budget ends."""


@final
class LookupBatcher:
    """Batches the lookups of one event loop. Not for use from several threads.

    Args:
        namespace: of the claims.
        fetch: makes the first round trip of a turn.
        create: makes the second one, for those lookups alone that need it.
    """

    def __init__(self, namespace: str, fetch: Fetch, create: Create) -> None:
        self._namespace: Final = namespace
        self._fetch: Final = fetch
        self._create: Final = create
        self._turn: Final = Turn(self._answered)
        self._second: Final = Turn(self._completed)

    def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> "asyncio.Future[Reply]":
        """Return a future of the reply; it fails with `StoreUnavailableError`.

        Equal lookups of one turn share one reply.
        """
        early = wanted if wanted is not None and wanted.expected is not None else None
        return self._turn.ask((tuple(keys), tuple(groups), early))

    def complete(
        self, reply: Reply, groups: Sequence[str], wanted: WantedClaim | None, due: float
    ) -> "asyncio.Future[None]":
        """Return a future that ends when the reply has all tokens, and the claim is made.

        Args:
            reply: of `read`.
            groups: of the lookup.
            wanted: the claim to make.
            due: when its read budget ends (monotonic seconds).
        """
        return self._second.ask((reply, groups, wanted, due))

    async def _answered(self, asked: list[_Asked]) -> list[Reply]:
        """Read each key and group once, however many lookups need it."""
        lookups: list[_Lookup] = [each[:2] for each in asked]
        distinct = dict.fromkeys(lookups) if len(lookups) > 1 else lookups
        keys, groups = lookups[0]
        if len(distinct) > 1:
            keys = tuple(dict.fromkeys(chain.from_iterable([each for each, _ in distinct])))
            groups = tuple(dict.fromkeys(chain.from_iterable([each for _, each in distinct])))
        early = [wanted for *_, wanted in asked if wanted is not None]
        claiming = Claiming(self._namespace)
        claims = claiming.expected(early) if early else ()
        try:
            values, tokens, lacking, claimed = await self._fetch(keys, groups, claims)
        except Exception as error:
            raise _failed(error) from error
        if early:
            claiming.answered(claimed)
        if len(distinct) == 1:
            return [Reply(values, tokens, None, lacking)] * len(lookups)
        value_of = dict(zip(keys, values, strict=True))
        token_of = dict(zip(groups, tokens, strict=True))
        replies = {
            lookup: Reply([value_of[k] for k in lookup[0]], [token_of[g] for g in lookup[1]])
            for lookup in distinct
        }
        if lacking:
            lacking_of = {groups[i]: one for i, one in lacking.items()}
            for (_, wanted), reply in replies.items():
                reply.lacking = {
                    i: lacking_of[group] for i, group in enumerate(wanted) if group in lacking_of
                }
        return [replies[lookup] for lookup in lookups]

    async def _completed(self, asked: list[_Incomplete]) -> list[None]:
        """Create each token once, however many lookups lack it, and make their claims."""
        lacking: dict[str, Lacking] = {}
        claiming = Claiming(self._namespace)
        for reply, groups, wanted, _ in asked:
            lacking |= {groups[i]: one for i, one in (reply.lacking or {}).items()}
            if wanted is not None:
                claiming.add(wanted, dict(zip(groups, reply.tokens, strict=True)))

        def claims(drawn: Sequence[bytes]) -> Sequence[Claim]:
            return claiming.claims(dict(zip(lacking, drawn, strict=True)))

        due = min(ends for *_, ends in asked)
        try:
            tokens, claimed = await self._create(tuple(lacking.values()), claims, due)
        except Exception as error:
            raise _failed(error) from error
        created = dict(zip(lacking, tokens, strict=True))
        claiming.answered(claimed, created)
        for reply, groups, _, _ in asked:
            if reply.lacking:
                reply.tokens = [
                    created[groups[i]] if i in reply.lacking else token
                    for i, token in enumerate(reply.tokens)
                ]
                reply.lacking = None
        return [None] * len(asked)


def _failed(error: Exception) -> StoreUnavailableError:
    """Return the error that the requests of a failed lookup see; it never fails them."""
    if isinstance(error, StoreUnavailableError):
        return error
    logger.error(
        "A lookup failed unexpectedly: its requests are answered uncached.", exc_info=error
    )
    return StoreUnavailableError("the lookup failed")


Send = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]
"""Sends commands; returns their answers, errors included."""


@final
class CommandBatcher:
    """Batches the commands of one event loop, but no purges: a purge waits for no other command."""

    def __init__(self, send: Send) -> None:
        self._send: Final = send
        self._turn: Final = Turn(self._answered)

    def send(self, commands: Sequence[Command]) -> "asyncio.Future[Sequence[Any]]":
        """Return a future of the answers, errors included."""
        return self._turn.ask(commands)

    async def _answered(self, batch: list[Sequence[Command]]) -> list[Sequence[Any]]:
        together = [command for commands in batch for command in commands]
        try:
            answers = await self._send(together)
        except Exception:
            logger.exception("Commands failed unexpectedly: they count as not answered.")
            answers = [None] * len(together)
        parts: list[Sequence[Any]] = []
        start = 0
        for commands in batch:
            parts.append(answers[start : start + len(commands)])
            start += len(commands)
        return parts
