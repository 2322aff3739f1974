"""Batching: all lookups of one turn of the event loop share round trips, and so do all commands.

One MGET carries the keys of every lookup of the turn. A client's work around a command costs more
than the command itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from time import monotonic
from typing import Any, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.claiming import Claiming
from maxage.redis_store.servers.commands import Claim, Claims, Command, Created, Lacking, Read
from maxage.store.base import StoreReply
from maxage.store.wanted_claim import WantedClaim
from maxage.turn import Asked, Turn

logger = logging.getLogger("maxage")

Fetch = Callable[[Sequence[bytes], Sequence[str], Sequence[Claim]], Awaitable[Read]]
"""Reads the values of distinct keys and the tokens of distinct groups, and makes claims."""
Create = Callable[[Sequence[Lacking], Claims, float], Awaitable[Created]]
"""Creates distinct tokens, and makes claims, for lookups that began at a time (monotonic)."""
_Lookup = tuple[tuple[bytes, ...], tuple[str, ...]]
"""The keys and groups of one lookup."""
_Question = tuple[_Lookup, WantedClaim | None]
"""A lookup, and the claim that its request wants."""
_Incomplete = tuple[StoreReply, tuple[str, ...], "asyncio.Future[StoreReply]"]
"""A reply that waits for the second round trip, its groups, and the future that waits for it."""


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
        self._turn: Final = Turn(self._answer)

    def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> "asyncio.Future[StoreReply]":
        """Return a future of the reply; it fails with `StoreUnavailableError`.

        Equal lookups of one turn share one reply. Missing tokens are created, and `wanted` is the
        claim to make, where nothing is found.
        """
        return self._turn.ask(((tuple(keys), tuple(groups)), wanted))

    async def _answer(self, asked: Asked[_Question, StoreReply]) -> None:
        """Answer each lookup after the first round trip, or after the second one if it needs it."""
        began, batch = monotonic(), _Batch(self._namespace, asked)
        try:
            batch.take(await self._fetch(batch.keys, batch.groups, batch.early))
            if batch.incomplete:
                batch.complete(
                    await self._create(tuple(batch.lacking.values()), batch.claims, began)
                )
        except Exception as error:
            batch.fail()
            raise _failed(error) from error


@final
class _Batch:
    """The lookups of one turn: the keys and groups that they ask for, and their replies."""

    def __init__(self, namespace: str, asked: Asked[_Question, StoreReply]) -> None:
        self._namespace: Final = namespace
        self._asked: Final = asked
        self._lookups: Final[dict[_Lookup, None]] = {}
        early: list[WantedClaim] = []
        for (lookup, wanted), _ in asked:
            self._lookups[lookup] = None
            if wanted is not None and wanted.expected is not None:
                early.append(wanted)
        self.keys, self.groups = next(iter(self._lookups))
        if len(self._lookups) > 1:
            keys = chain.from_iterable([each for each, _ in self._lookups])
            groups = chain.from_iterable([each for _, each in self._lookups])
            self.keys, self.groups = tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(groups))
        self._claiming = Claiming(namespace, early)
        self.early: Final = self._claiming.expected() if early else ()
        """The claims that leave with the first round trip."""
        self._tokens: dict[str, bytes | None] = {}
        self.lacking: dict[str, Lacking] = {}
        """The tokens that are to be created, by their groups."""
        self.incomplete: list[_Incomplete] = []
        """The replies that need a second round trip, for their tokens or their claims."""

    def take(self, read: Read) -> None:
        """Take the answers to the first round trip, and answer the lookups that need no second."""
        self._tokens = dict(zip(self.groups, read.tokens, strict=True))
        if read.lacking:
            self.lacking = {self.groups[i]: one for i, one in read.lacking.items()}
        if self.early:
            self._claiming.answered(read.claimed, self._tokens)
        replies, unclaimed = self._replies(read), list[WantedClaim]()
        for (lookup, wanted), future in self._asked:
            if future.done():
                continue
            reply = replies[lookup]
            lacks = bool(self.lacking) and None in reply.tokens
            claims = wanted is not None and wanted.claim_key is None
            if wanted is not None and claims and (lacks or not any(reply.values)):
                unclaimed.append(wanted)
            elif not lacks:
                future.set_result(reply)
                continue
            self.incomplete.append((reply, lookup[1], future))
        if self.incomplete:
            self._claiming = Claiming(self._namespace, unclaimed)

    def _replies(self, read: Read) -> dict[_Lookup, StoreReply]:
        if len(self._lookups) == 1:
            return dict.fromkeys(self._lookups, StoreReply(read.values, read.tokens))
        value, token = dict(zip(self.keys, read.values, strict=True)).get, self._tokens.get
        return {
            lookup: StoreReply(list(map(value, lookup[0])), list(map(token, lookup[1])))
            for lookup in self._lookups
        }

    def claims(self, drawn: Sequence[bytes]) -> Sequence[Claim]:
        """Return the claims of the second round trip, given the tokens that it creates."""
        created = zip(self.lacking, drawn, strict=True)
        return self._claiming.claims({**self._tokens, **dict(created)})

    def complete(self, created: Created) -> None:
        """Take the answers to the second round trip, and answer all lookups."""
        self._tokens.update(zip(self.lacking, created.tokens, strict=True))
        self._claiming.answered(created.claimed, self._tokens)
        token = self._tokens.get
        for reply, groups, future in self.incomplete:
            reply.tokens = list(map(token, groups))
            if not future.done():
                future.set_result(reply)

    def fail(self) -> None:
        """Answer the lookups that need the second round trip for their claims alone."""
        for reply, _, future in self.incomplete:
            if None not in reply.tokens and not future.done():
                future.set_result(reply)


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
        self._turn: Final = Turn(self._answer)

    def send(self, commands: Sequence[Command]) -> "asyncio.Future[Sequence[Any]]":
        """Return a future of the answers, errors included."""
        return self._turn.ask(commands)

    async def _answer(self, asked: Asked[Sequence[Command], Sequence[Any]]) -> None:
        together = list(chain.from_iterable([commands for commands, _ in asked]))
        try:
            answers = await self._send(together)
        except Exception:
            logger.exception("Commands failed unexpectedly: they count as not answered.")
            answers = [None] * len(together)
        start = 0
        for commands, future in asked:
            end = start + len(commands)
            if not future.done():
                future.set_result(answers[start:end])
            start = end
