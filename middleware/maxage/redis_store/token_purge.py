"""The purge of some groups, from its announcement to the debt for what was not confirmed."""

from collections.abc import Sequence
from typing import Any, Final, Self, TypeVar

from maxage.redis_store.servers.commands import (
    CONFIRMED,
    Command,
    Lacking,
    creation,
    is_marked,
    mark_command,
)
from maxage.redis_store.shared_state import RedisState
from maxage.store.tokens import token_keys

P = TypeVar("P", bound="TokenPurge")


class TokenPurge:
    """One purge of some groups: announce it, write it, owe what was not confirmed.

    It is a context: near caches drop the groups' copies when it is entered, before the first byte
    is sent, and again when it is left. On leaving, each group without a confirmed token is owed,
    whatever ended the purge: an answer, an error or a cancellation.
    """

    is_confirmed_by_replica = False
    """Whether `cache_on_lost_purge="refuse"` makes a replica confirm it."""

    def __init__(self, redis_state: RedisState, groups: Sequence[str]) -> None:
        self.redis_state: Final = redis_state
        self.groups: Final = groups
        self.token_keys: Final = token_keys(redis_state.namespace, tuple(groups))
        self.confirmed = [False] * len(groups)
        """Whether the server confirmed the purge of each group."""

    def __enter__(self) -> Self:
        self.redis_state.purging(self.groups)
        return self

    def __exit__(self, *_: object) -> None:
        self.redis_state.purging(self.groups)
        if not all(self.confirmed):
            pairs = zip(self.groups, self.confirmed, strict=True)
            self.redis_state.owe([group for group, confirmed in pairs if not confirmed])

    @property
    def keys(self) -> Sequence[bytes]:
        """The key of each command."""
        return self.token_keys

    def command(self, position: int, history: bytes) -> Command:
        """Return the command for a position of `keys`, for a server of this history."""
        raise NotImplementedError

    def take(self, answers: Sequence[Any]) -> None:
        """Note which groups the answers confirm."""
        raise NotImplementedError


class Renewal(TokenPurge):
    """Purges groups: writes a fresh token for each.

    Swapping reads the replaced tokens in the same step (SET with GET).
    """

    is_confirmed_by_replica = True

    def __init__(
        self, redis_state: RedisState, groups: Sequence[str], *, swapping: bool = False
    ) -> None:
        super().__init__(redis_state, groups)
        self._options: Final = ("GET",) if swapping else ()
        self._tokens: list[bytes | None] = [None] * len(groups)
        self.replaced: Sequence[bytes | None] = self._tokens
        """The token that each write replaced, when swapping; None where it is unknown."""

    @property
    def tokens(self) -> list[bytes | None]:
        """The fresh tokens; None where the purge is not confirmed."""
        if all(self.confirmed):
            return self._tokens
        pairs = zip(self._tokens, self.confirmed, strict=True)
        return [token if confirmed else None for token, confirmed in pairs]

    def command(self, position: int, history: bytes) -> Command:
        """Return the SET of a fresh token; each attempt draws its own."""
        key = self.token_keys[position]
        command, self._tokens[position] = self.redis_state.purge_command(key, history)
        return (*command, *self._options)

    def take(self, answers: Sequence[Any]) -> None:
        """Note the confirmed groups. A SET with GET answers the token that it replaced, or nil."""
        if self._options:
            self.replaced = [a if isinstance(a, bytes) else None for a in answers]
            self.confirmed = [a is None or isinstance(a, bytes) for a in answers]
        else:
            self.confirmed = list(map(CONFIRMED.__contains__, answers))


class Softening(TokenPurge):
    """Purges groups softly: puts a fresh mark behind each token, which is created if missing."""

    @property
    def keys(self) -> Sequence[bytes]:
        """Each token's key twice: for its creation and for its mark."""
        return [key for key in self.token_keys for _ in range(2)]

    def command(self, position: int, history: bytes) -> Command:
        """Return the command that creates a token if missing, or the one that marks it."""
        index, marks = divmod(position, 2)
        key = self.token_keys[index]
        if marks:
            return mark_command(key, history)
        lacking = Lacking(key, None, history)
        return creation(lacking, history, self.redis_state.lifetimes.beginning)

    def take(self, answers: Sequence[Any]) -> None:
        """Note the groups whose token has its mark."""
        self.confirmed = [is_marked(length) for length in answers[1::2]]
