"""How long tokens live: never shorter than an entry that carries them.

A token is created for an hour, or for four once something was kept for longer than that. Before an
entry may outlive its token, the token is extended. That changes its key, which every near cache
hears of as of a purge; so it is asked first how long the token lives yet, and an extension is for
twice as long as it has to be. It never shortens what another process has extended further: that is
what GT says.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# What redis-py reads is of any type until it is checked here.

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, final

from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.servers.commands import CONFIRMED, Command
from maxage.store.base import CLAIM_ENDED, CLAIM_ENDED_SECONDS, StoreWrite
from maxage.store.tokens import LONG_TOKEN_SECONDS, TOKEN_SECONDS, token_key

Rounds = Generator[list[Command], Sequence[Any], bool]
"""Yields the commands of each round, one for each key, and is sent their answers."""
_Token = tuple[bytes, bytes]
"""The key under which a group's token lies, and the token."""

_MARGIN: Final = 5.0
"""Seconds by which a token outlives its entries: on a cluster they lie on different servers."""
_REMEMBERED: Final = 10_000
"""Tokens of which it is remembered until when they live."""
_ENDED_MILLISECONDS: Final = int(CLAIM_ENDED_SECONDS * 1000)
_UNKNOWN: Final = (b"", 0.0)
_NO_EXPIRY: Final = -1
"""What PTTL answers about a key that lives for ever."""


@final
class TokenLifetimes:
    """Until when the tokens of a namespace live, as far as this process knows.

    Args:
        namespace: the prefix of all keys.
        clock: monotonic seconds.
    """

    def __init__(self, namespace: str, *, clock: Clock = monotonic_clock) -> None:
        self._namespace: Final = namespace
        self._clock: Final = clock
        self.token_seconds: int = TOKEN_SECONDS
        """For how long tokens are written now."""
        self._ends: dict[bytes, tuple[bytes, float]] = {}
        """The token last known under each key, and until when (monotonic) it lives at least."""

    def beginning(self, key: bytes, token: bytes) -> int:
        """Return for how many seconds to write a token that was just drawn, and remember it.

        Where another one lies there in the end, what is remembered is about nothing.
        """
        self._remember((key, token), self._clock() + self.token_seconds)
        return self.token_seconds

    def writing(self, writings: Iterable[StoreWrite]) -> Rounds:
        """Keep values, and the tokens that they carry longer; return whether all were kept."""
        asked_at, lasting = self._clock(), True
        sets: list[Command] = []
        endings: list[Command] = []
        unsure: dict[_Token, float] = {}
        for values, keep_for, tokens, ended in writings:
            milliseconds = int(keep_for * 1000)
            if milliseconds <= 0:
                lasting = False
                continue
            sets += [("SET", key, value, "PX", milliseconds) for key, value in values]
            self._note_unsure(unsure, tokens, keep_for + _MARGIN, asked_at)
            if ended is not None:
                endings.append(("SET", ended, CLAIM_ENDED, "PX", _ENDED_MILLISECONDS))
        if not sets:
            return False
        questions = [("PTTL", key) for key, _ in unsure]
        answers = yield [*sets, *questions, *endings]
        kept = [said in CONFIRMED for said in answers[: len(sets)]]
        if not any(kept):
            return False
        late: dict[_Token, float] = {}
        for (token, needed), said in zip(unsure.items(), answers[len(sets) :], strict=False):
            left = _seconds(said)
            self._remember(token, asked_at + left)
            if left < needed:
                late[token] = needed
        yield from self._extended(late)
        return lasting and all(kept)

    def _note_unsure(
        self,
        unsure: dict[_Token, float],
        tokens: Mapping[str, bytes],
        needed: float,
        now: float,
    ) -> None:
        """Note the tokens that may not live for as long as they are needed, in seconds."""
        if needed > TOKEN_SECONDS:
            # So that each new group's token need not be extended.
            self.token_seconds = LONG_TOKEN_SECONDS
        for group, token in tokens.items():
            key = token_key(self._namespace, group)
            known, ends = self._ends.get(key, _UNKNOWN)
            if known != token or ends < now + needed:
                unsure[key, token] = max(needed, unsure.get((key, token), 0.0))

    def _extended(self, late: Mapping[_Token, float]) -> Generator[list[Command], Sequence[Any]]:
        """Extend tokens that would end too early."""
        seconds = {t: int(2 * max(needed - _MARGIN, TOKEN_SECONDS)) for t, needed in late.items()}
        asked_at = self._clock()
        for condition in (("GT",), ()):
            if not seconds:
                return
            answers = yield [("EXPIRE", t[0], s, *condition) for t, s in seconds.items()]
            for (token, for_long), said in zip(tuple(seconds.items()), answers, strict=True):
                if isinstance(said, int):
                    self._remember(token, asked_at + for_long)
                # Redis 6.2 knows no GT. There, of two processes that extend a token in the same
                # moment, the one that needs it for less may come last.
                if not _is_unknown(said):
                    del seconds[token]

    def _remember(self, token: _Token, ends: float) -> None:
        if len(self._ends) >= _REMEMBERED:
            self._ends.clear()
        self._ends[token[0]] = (token[1], ends)


def _seconds(answer: object) -> float:
    """Return for how long a key lives yet; 0 where that was not told."""
    if not isinstance(answer, int):
        return 0.0
    return float("inf") if answer == _NO_EXPIRY else max(0, answer) / 1000


def _is_unknown(answer: object) -> bool:
    """Return whether the server does not know this form of the command."""
    return isinstance(answer, ResponseError) and "wrong number of arguments" in str(answer)
