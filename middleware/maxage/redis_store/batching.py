"""Batching: all lookups of one turn of the event loop share one round trip, and so do all commands.

One MGET carries the keys of every lookup of the turn. A client's work around a command costs more
than the command itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Command, Fetched
from maxage.store.base import StoreReply
from maxage.turn import Turn

logger = logging.getLogger("maxage")

Fetch = Callable[[Sequence[bytes], Sequence[str]], Awaitable[Fetched]]
"""Reads the values of distinct keys and the tokens of distinct groups in one round trip."""
_Lookup = tuple[tuple[bytes, ...], tuple[str, ...]]
"""The keys and groups of one lookup."""


@final
class LookupBatcher:
    """Batches the lookups of one event loop. Not for use from several threads."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._turn: Final = Turn(self._answered)

    def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> "asyncio.Future[StoreReply]":
        """Return a future of the reply; it fails with `StoreUnavailableError`.

        Equal lookups of one turn share one reply.
        """
        return self._turn.ask((tuple(keys), tuple(groups)))

    async def _answered(self, lookups: list[_Lookup]) -> list[StoreReply]:
        """Read each key and group once, however many lookups need it."""
        distinct = dict.fromkeys(lookups) if len(lookups) > 1 else lookups
        keys, groups = lookups[0]
        if len(distinct) > 1:
            keys = tuple(dict.fromkeys(key for each, _ in distinct for key in each))
            groups = tuple(dict.fromkeys(group for _, each in distinct for group in each))
        try:
            values, tokens = await self._fetch(keys, groups)
        except StoreUnavailableError:
            raise
        except Exception as error:
            # A failed lookup never fails its request.
            logger.exception("A lookup failed unexpectedly: its requests are answered uncached.")
            raise StoreUnavailableError("the lookup failed") from error
        if len(distinct) == 1:
            return [StoreReply(values, tokens)] * len(lookups)
        value_of = dict(zip(keys, values, strict=True))
        token_of = dict(zip(groups, tokens, strict=True))
        replies = {
            lookup: StoreReply([value_of[k] for k in lookup[0]], [token_of[g] for g in lookup[1]])
            for lookup in distinct
        }
        return [replies[lookup] for lookup in lookups]


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
