"""The bytes of commands."""

# pyright: reportUnknownMemberType=false
# hiredis leaves part of its own signatures without types.

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import hiredis

from maxage.redis_store.servers.commands import Command
from maxage.store.tokens import MOST_KNOWN_GROUPS

_pack: Final[Callable[[Command], bytes]] = cast("Any", hiredis.pack_command)
"""hiredis' own signature takes tuples of one part."""
_LARGE: Final = 64 * 1024
"""Bytes from which on a value is not copied into one piece with the bytes around it."""


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes of commands. A large value, the third part of a command, is not copied."""
    if not any([c[0] == "SET" and len(c[2]) >= _LARGE for c in commands]):  # noqa: C419 - quicker
        return list(map(_pack, commands))
    pieces: list[bytes] = []
    for command in commands:
        value = command[2] if len(command) > 2 else b""
        if not isinstance(value, bytes) or len(value) < _LARGE:
            pieces.append(_pack(command))
            continue
        first, rest = (_pack(part).partition(b"\r\n")[2] for part in (command[:2], command[3:]))
        head = b"*%d\r\n%b$%d\r\n" % (len(command), first, len(value))
        pieces += (head, value, b"\r\n" + rest)
    return pieces


def joined(pieces: list[bytes]) -> list[bytes]:
    """Return the pieces as one, unless one of them is too large to be copied."""
    if len(pieces) > 1 and max(map(len, pieces)) < _LARGE:
        return [b"".join(pieces)]
    return pieces


def packed_renewals(keys: tuple[bytes, ...], token: bytes, seconds: int) -> bytes:
    """Return the bytes of commands that write one token under each key, for so many seconds."""
    around = _known_around_token if len(keys) <= MOST_KNOWN_GROUPS else _around_token
    return token.join(around(keys, len(token), seconds))


def _around_token(keys: tuple[bytes, ...], size: int, seconds: int) -> list[bytes]:
    """Return the bytes before, between and behind the tokens of `packed_renewals`."""
    commands = [_pack(("SET", key, bytes(size), "EX", seconds)) for key in keys]
    end = len(commands[0]) - commands[0].rindex(bytes(size))
    heads = [command[:-end] for command in commands]
    tail = commands[0][size - end :]
    return [heads[0], *(tail + head for head in heads[1:]), tail]


# Requests of one route purge the same groups.
_known_around_token: Final = lru_cache(maxsize=64)(_around_token)
