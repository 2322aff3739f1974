"""Lifetimes of tokens: no token ends before an entry that carries it.

A token is created for an hour, or for four once an entry was stored for longer than that. A token
is extended before an entry would outlive it. An extension changes the token's key, which near
caches take for a purge, so extensions are rare: PTTL is asked first, and an extension is twice as
long as needed. GT keeps it from shortening a longer extension of another process.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# redis-py's answers are of any type until they are checked here.

from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, final

from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.servers.commands import CONFIRMED, Command
from maxage.store.base import CLAIM_ENDED, CLAIM_ENDED_SECONDS, StoreWrite
from maxage.store.tokens import LONG_TOKEN_SECONDS, TOKEN_SECONDS, token_key

WriteRounds = Generator[list[Command], Sequence[Any], bool]
"""Yields the commands of each round, one for each key; is sent their answers. Returns success."""
_Token = tuple[bytes, bytes]
"""The key of a group's token, and the token."""

_MARGIN: Final = 5.0
"""Seconds by which a token outlives its entries, which may be on other servers of a cluster."""
_REMEMBERED: Final = 1024
"""Tokens whose ends are remembered."""
_ENDED_MILLISECONDS: Final = int(CLAIM_ENDED_SECONDS * 1000)
_UNKNOWN: Final = (b"", 0.0)
_NO_EXPIRY: Final = -1
"""The answer of PTTL for a key without an end."""


@final
class TokenLifetimes:
    """The ends of the tokens of a namespace, as far as this process knows them.

    Args:
        namespace: the prefix of all keys.
        clock: monotonic seconds.
    """

    def __init__(self, namespace: str, *, clock: Clock = monotonic_clock) -> None:
        self._key: Final = partial(token_key, namespace)
        self._clock: Final = clock
        self.token_seconds: int = TOKEN_SECONDS
        """The lifetime of new tokens."""
        self._ends: dict[bytes, tuple[bytes, float]] = {}
        """The last known token of each key, and its earliest end (monotonic seconds)."""

    def beginning(self, keys: Sequence[bytes], tokens: Iterable[bytes]) -> int:
        """Return the lifetime in seconds of tokens that were just drawn, and remember their end.

        If another token wins, the remembered end belongs to no token, which does no harm.
        """
        if len(self._ends) + len(keys) > _REMEMBERED:
            self._ends.clear()
        ends = self._clock() + self.token_seconds
        self._ends.update(zip(keys, zip(tokens, repeat(ends), strict=False), strict=False))
        return self.token_seconds

    def writing(self, writes: Iterable[StoreWrite]) -> WriteRounds:
        """Store values, and extend the tokens that they carry; return whether all were stored."""
        asked_at, lasting = self._clock(), True
        sets: list[Command] = []
        endings: list[Command] = []
        carried: dict[tuple[str, bytes], float] = {}
        for values, keep_for, tokens, ended in writes:
            milliseconds = int(keep_for * 1000)
            if milliseconds <= 0:
                lasting = False
                continue
            if keep_for + _MARGIN > TOKEN_SECONDS:
                # New tokens live longer from now on, so that they need no extension.
                self.token_seconds = LONG_TOKEN_SECONDS
            for key, value in values:
                sets.append(("SET", key, value, "PX", milliseconds))
            for of_group in tokens.items():
                if carried.get(of_group, 0.0) < keep_for:
                    carried[of_group] = keep_for
            if ended is not None:
                endings.append(("SET", ended, CLAIM_ENDED, "PX", _ENDED_MILLISECONDS))
        if not sets:
            return False
        unsure = self._unsure(carried, asked_at)
        questions = [("PTTL", key) for key, _ in unsure]
        answers = yield [*sets, *questions, *endings]
        stored = [answer in CONFIRMED for answer in answers[: len(sets)]]
        if not any(stored):
            return False
        late: dict[_Token, float] = {}
        for (token, needed), answer in zip(unsure.items(), answers[len(sets) :], strict=False):
            left = _seconds(answer)
            self._remember(token, asked_at + left)
            if left < needed:
                late[token] = needed
        yield from self._extended(late)
        return lasting and all(stored)

    def _unsure(
        self, carried: Mapping[tuple[str, bytes], float], now: float
    ) -> dict[_Token, float]:
        """Return the tokens that may end too early, with the seconds that they have to last.

        Args:
            carried: the tokens of groups, with the longest lifetime of what carries them.
            now: in monotonic seconds.
        """
        unsure: dict[_Token, float] = {}
        for (group, token), keep_for in carried.items():
            key = self._key(group)
            known, ends = self._ends.get(key, _UNKNOWN)
            if known != token or ends < now + keep_for + _MARGIN:
                unsure[key, token] = keep_for + _MARGIN
        return unsure

    def _extended(self, late: Mapping[_Token, float]) -> Generator[list[Command], Sequence[Any]]:
        """Extend tokens that would end too early."""
        seconds = {t: int(2 * max(needed - _MARGIN, TOKEN_SECONDS)) for t, needed in late.items()}
        asked_at = self._clock()
        for condition in (("GT",), ()):
            if not seconds:
                return
            answers = yield [("EXPIRE", t[0], s, *condition) for t, s in seconds.items()]
            for (token, lifetime), answer in zip([*seconds.items()], answers, strict=True):
                if isinstance(answer, int):
                    self._remember(token, asked_at + lifetime)
                # Redis 6.2 has no GT. There, if two processes extend a token at the same moment,
                # the shorter extension may win.
                if not _is_unknown(answer):
                    del seconds[token]

    def _remember(self, token: _Token, ends: float) -> None:
        if len(self._ends) >= _REMEMBERED:
            self._ends.clear()
        self._ends[token[0]] = (token[1], ends)


def _seconds(answer: object) -> float:
    """Return the remaining lifetime in an answer to PTTL; 0 where it is unknown."""
    if not isinstance(answer, int):
        return 0.0
    return float("inf") if answer == _NO_EXPIRY else max(0, answer) / 1000


def _is_unknown(answer: object) -> bool:
    """Return whether the server lacks this form of the command."""
    return isinstance(answer, ResponseError) and "wrong number of arguments" in str(answer)
