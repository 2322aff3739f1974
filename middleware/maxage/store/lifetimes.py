"""How long tokens live: never shorter than an entry that carries them.

A token is created for an hour, or for four once something was kept for longer than that. Before an
entry may outlive its token, the token is extended. That changes its key, which every near cache
hears of as of a purge; so it is asked first how long the token lives yet, and an extension is for
twice as long as it has to be. It never shortens what another process has extended further: that is
what GT says.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# What redis-py reads is of any type until it is checked here.

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, final

from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.store import CLAIM_ENDED, CLAIM_ENDED_SECONDS
from maxage.store.commands import CONFIRMED, Command
from maxage.store.tokens import LONG_TOKEN_SECONDS, TOKEN_SECONDS, token_key

Write = Generator[list[Command], Sequence[Any], bool]
"""Yields the commands of each round, one for each key, and is sent their answers."""

_MARGIN: Final = 5.0
"""Seconds by which a token outlives its entries: on a cluster they lie on different servers."""
_REMEMBERED: Final = 10_000
"""Tokens of which it is remembered until when they live."""
_USUAL_NAME: Final = 200
"""The longest name of such a group."""
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
        self._ends: dict[str, tuple[bytes, float]] = {}
        """The token last seen of each group, and until when (monotonic) it lives at least."""

    def writing(
        self,
        values: Sequence[tuple[bytes, Any]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
        ended: bytes | None = None,
    ) -> Write:
        """Keep the values for `keep_for` seconds, and the tokens that they carry longer.

        Args:
            values: what to keep, with its keys.
            keep_for: seconds.
            tokens: the token of each group that the values depend on.
            ended: the key of a claim that ends with this.

        Returns:
            Whether all values were kept.
        """
        if keep_for + _MARGIN > TOKEN_SECONDS:
            # So that each new group's token need not be extended.
            self.token_seconds = LONG_TOKEN_SECONDS
        unsure = [group for group in tokens if not self._outlives(group, tokens[group], keep_for)]
        milliseconds, asked_at = int(keep_for * 1000), self._clock()
        commands: list[Command] = [("SET", key, value, "PX", milliseconds) for key, value in values]
        commands += [("PTTL", self._key(group)) for group in unsure]
        if ended is not None:
            commands.append(("SET", ended, CLAIM_ENDED, "PX", int(CLAIM_ENDED_SECONDS * 1000)))
        answers = yield commands
        if any(said not in CONFIRMED for said in answers[: len(values)]):
            return False
        told = answers[len(values) : len(values) + len(unsure)]
        for group, said in zip(unsure, told, strict=True):
            self._remember(group, tokens[group], asked_at + _seconds(said))
        yield from self._extended({g: tokens[g] for g in unsure}, keep_for)
        return True

    def _extended(self, tokens: Mapping[str, bytes], keep_for: float) -> Write:
        """Extend the tokens that would end too early; return whether all live long enough."""
        late = [group for group in tokens if not self._outlives(group, tokens[group], keep_for)]
        seconds, asked_at = int(2 * max(keep_for, TOKEN_SECONDS)), self._clock()
        for condition in (("GT",), ()):
            if late:
                answers = yield [("EXPIRE", self._key(g), seconds, *condition) for g in late]
                for group, said in zip(late, answers, strict=True):
                    if isinstance(said, int):
                        self._remember(group, tokens[group], asked_at + seconds)
                # Redis 6.2 knows no GT. There, of two processes that extend a token in the same
                # moment, the one that needs it for less may come last.
                late = [g for g, said in zip(late, answers, strict=True) if _is_unknown(said)]
        return not late

    def _outlives(self, group: str, token: bytes, keep_for: float) -> bool:
        known, ends = self._ends.get(group, (b"", 0.0))
        return known == token and ends >= self._clock() + keep_for + _MARGIN

    def _remember(self, group: str, token: bytes, ends: float) -> None:
        if len(group) > _USUAL_NAME:
            # A client may have made it up: it is asked for each time instead.
            return
        if len(self._ends) >= _REMEMBERED:
            self._ends.clear()
        self._ends[group] = (token, ends)

    def _key(self, group: str) -> bytes:
        return token_key(self._namespace, group)


def _seconds(answer: object) -> float:
    """Return for how long a key lives yet; 0 where that was not told."""
    if not isinstance(answer, int):
        return 0.0
    return float("inf") if answer == _NO_EXPIRY else max(0, answer) / 1000


def _is_unknown(answer: object) -> bool:
    """Return whether the server does not know this form of the command."""
    return isinstance(answer, ResponseError) and "wrong number of arguments" in str(answer)
