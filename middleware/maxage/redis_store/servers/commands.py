"""The commands that are sent to servers, and the meaning of their answers."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# redis-py's answers are of any type until they are checked here.

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct
from redis.exceptions import InvalidResponse, ResponseError

from maxage.store.base import CLAIM_SECONDS
from maxage.store.tokens import HIDDEN_HISTORY, TOKEN_SECONDS, fresh_mark, fresh_tokens, mark_place

Command = tuple[Any, ...]
"""A command's name, its key and its other arguments."""

Plan = Callable[[int, bytes], Command]
"""Returns the command for a position in a list of keys, given the history of its server.

It is called anew for each attempt, so that no attempt reuses the random value of another one.
"""

Fetched = tuple[list[bytes | None], list[bytes | None]]
"""Values and tokens, in the order of their keys."""

Claim = tuple[bytes, bytes]
"""The key of a claim, and the value to be written under it."""

Claims = Callable[[Sequence[bytes]], Sequence[Claim]]
"""Returns the claims to make, given the tokens that were just drawn."""


class Lacking(Struct, frozen=True):
    """A token that is to be created."""

    key: bytes
    present: bytes | None
    """The value of its key: a token of another history."""
    history: bytes
    """The history of its server."""


class Read(NamedTuple):
    """The answers to one round trip, in the order of its keys."""

    values: list[bytes | None]
    tokens: list[bytes | None]
    lacking: dict[int, Lacking]
    """The tokens that are to be created, by their position."""
    claimed: Sequence[bytes | None] = ()
    """The value of each claim; None where there was no answer."""


class Created(NamedTuple):
    """The tokens after some were created, and the values of the claims made with them."""

    tokens: Sequence[bytes | None]
    claimed: Sequence[bytes | None]


Begin = Callable[[Sequence[bytes], Sequence[bytes]], int]
"""Called with the keys of tokens to be written, and the tokens; returns their lifetime in seconds.
"""

CLAIM_MILLISECONDS: Final = int(CLAIM_SECONDS * 1000)

CONFIRMED: Final = (b"OK", "OK")
"""The answers to a SET that was carried out."""

_VALUES: Final = frozenset({bytes, type(None)})
"""The types of the values in an answer to MGET."""
_SHORTEST_MARKED: Final = mark_place(HIDDEN_HISTORY) + len(fresh_mark())


def claim_commands(claims: Sequence[Claim]) -> list[Command]:
    """Return the commands that make claims, unless there are some."""
    return [("SET", key, value, "NX", "PX", CLAIM_MILLISECONDS) for key, value in claims]


def strings(answer: object, count: int) -> list[bytes | None]:
    """Return the answer to an MGET of `count` keys.

    Raises:
        ResponseError: the server's error.
        InvalidResponse: no server that works answers this.
    """
    if isinstance(answer, ResponseError):
        raise answer
    if isinstance(answer, list) and len(answer) == count and _VALUES.issuperset(map(type, answer)):
        return answer
    raise InvalidResponse("the answer is not that to the command")


def creations(lacking: Sequence[Lacking], history: bytes, begin: Begin) -> list[Command]:
    """Return the commands that create tokens of this history."""
    keys, tokens = [one.key for one in lacking], fresh_tokens(history, len(lacking))
    seconds = begin(keys, tokens)
    # NX, since another worker may have created the token meanwhile. A token of another history is
    # overwritten: a new unique value is a purge, which is always safe.
    return [
        ("SET", one.key, token, "EX", seconds, "NX")
        if one.present is None
        else ("SET", one.key, token, "EX", seconds)
        for one, token in zip(lacking, tokens, strict=True)
    ]


def creation(lacking: Lacking, history: bytes, begin: Begin) -> Command:
    """Return the command that creates one token of this history."""
    (command,) = creations((lacking,), history, begin)
    return command


def is_replicated(answer: object) -> bool:
    """Return whether an answer to WAIT says that a replica has all earlier writes.

    An error does not: the user may not call WAIT, or the server is no primary any more.
    """
    return isinstance(answer, int) and answer > 0


def as_written(commands: Sequence[Command]) -> Plan:
    """Return the plan of commands that are the same for every server."""
    return lambda position, _: commands[position]


def token_command(
    key: bytes, token: bytes, quarantine: float = 0.0, *, seconds: int = TOKEN_SECONDS
) -> Command:
    """Return the command that writes a token.

    Args:
        key: the token's key.
        token: the token.
        quarantine: its lifetime in seconds, where it is a quarantined one.
        seconds: the lifetime of any other token.
    """
    lifetime = ("PX", max(1, int(quarantine * 1000))) if quarantine else ("EX", seconds)
    return ("SET", key, token, *lifetime)


def mark_command(key: bytes, history: bytes) -> Command:
    """Return the command that puts the mark of a soft purge behind a token of this history."""
    return ("SETRANGE", key, mark_place(history), fresh_mark())


def is_marked(answer: object) -> bool:
    """Return whether an answer to SETRANGE, a length, is that of a token with its mark."""
    return isinstance(answer, int) and answer >= _SHORTEST_MARKED
