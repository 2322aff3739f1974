"""What is sent to the servers, and what their answers say; the same for both halves."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# What redis-py reads is of any type until it is checked here.

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import InvalidResponse, ResponseError

from maxage.store.tokens import HIDDEN_HISTORY, TOKEN_SECONDS, fresh_mark, fresh_token, mark_place

Command = tuple[Any, ...]
"""A command's name, its key and what follows."""

Plan = Callable[[int, bytes], Command]
"""The command at a position of a list of keys, given the history of the server that it goes to.

It is asked anew for each attempt, so that no attempt uses another one's random value.
"""

Fetched = tuple[list[bytes | None], list[bytes | None]]
"""Values and tokens, in the order of their keys."""

Begin = Callable[[bytes, bytes], int]
"""Is told of a token that is about to be written, with its key; says for how many seconds."""

CONFIRMED: Final = (b"OK", "OK")
"""What a server says to a SET that it did."""


_SHORTEST_MARKED: Final = mark_place(HIDDEN_HISTORY) + len(fresh_mark())


def is_replicated(answer: object) -> bool:
    """Return whether this answer to WAIT says that a replica has what was written before.

    An error says that nobody knows: the user may not ask, or the server is no primary any more.
    """
    return isinstance(answer, int) and answer > 0


def answers_of(answers: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """Return the answers to `count` commands, errors included, without that to a WAIT after them.

    None for each where nothing was answered, or where no replica has what they wrote.
    """
    if answers is None or (len(answers) > count and not is_replicated(answers[-1])):
        return [None] * count
    return answers[:count]


def as_written(commands: Sequence[Command]) -> Plan:
    """Return the plan of commands that are the same for every server."""
    return lambda position, _: commands[position]


def token_command(
    key: bytes, token: bytes, quarantine: float = 0.0, *, seconds: int = TOKEN_SECONDS
) -> Command:
    """Return the command which writes a token, for `quarantine` seconds where it is to settle."""
    lifetime = ("PX", max(1, int(quarantine * 1000))) if quarantine else ("EX", seconds)
    return ("SET", key, token, *lifetime)


def creation_commands(
    lacking: Sequence[tuple[bytes, bytes | None]], history: bytes, begin: Begin
) -> list[Command]:
    """Return commands which create tokens, given their keys and what lies there now.

    The last one reads them all.
    """
    commands: list[Command] = [creation(key, present, history, begin) for key, present in lacking]
    return [*commands, ("MGET", *(key for key, _ in lacking))]


def creation(key: bytes, present: bytes | None, history: bytes, begin: Begin) -> Command:
    """Return the command which creates a token where `present` lies now."""
    # Another worker may have created it meanwhile, hence NX; a token of another history is
    # overwritten: a new unique value is a purge, which is always safe.
    only_if_missing = ("NX",) if present is None else ()
    token = fresh_token(history)
    return (*token_command(key, token, seconds=begin(key, token)), *only_if_missing)


def created_before(keys: Sequence[bytes], plan: Plan, begin: Begin) -> Plan:
    """Return the plan for `twice(keys)`: each token is created where it is missing, then `plan`."""

    def both(position: int, history: bytes) -> Command:
        index, created = divmod(position, 2)
        return plan(index, history) if created else creation(keys[index], None, history, begin)

    return both


def twice(keys: Sequence[bytes]) -> list[bytes]:
    """Return each key two times."""
    return [key for key in keys for _ in range(2)]


def marking(keys: Sequence[bytes]) -> Plan:
    """Return the plan which puts the mark of a soft purge behind each token."""
    return lambda index, history: ("SETRANGE", keys[index], mark_place(history), fresh_mark())


def is_marked(answer: object) -> bool:
    """Return whether this answer to SETRANGE, a length, is that of a token with its mark."""
    return isinstance(answer, int) and answer >= _SHORTEST_MARKED


def strings(answer: object, count: int) -> list[bytes | None]:
    """Return the answer to an MGET of `count` keys.

    Raises:
        ResponseError: the server's error.
        InvalidResponse: it is none: whoever answers there is not to be believed.
    """
    if isinstance(answer, ResponseError):
        raise answer
    if isinstance(answer, list) and len(answer) == count:
        checked = [value for value in answer if value is None or isinstance(value, bytes)]
        if len(checked) == count:
            return checked
    raise InvalidResponse("the answer is not that to the command")
