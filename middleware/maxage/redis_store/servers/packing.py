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


class _Before(dict[int, bytes]):
    """What stands before a part of a command, by the bytes of the part."""

    def __missing__(self, size: int) -> bytes:
        return b"\r\n$%d\r\n" % size


_BEFORE: Final = _Before()
_BEFORE.update({size: _BEFORE[size] for size in range(1024)})


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


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes of commands in one piece; a large value of SET is another, and not copied.

    hiredis takes several times as long for the commands of a miss.
    """
    whole: list[bytes] = []
    parts: list[bytes] = []
    last: Command | None = None
    beginning = end = b""
    for command in commands:
        if command[0] == "SET":
            key, value, options = command[1], command[2], command[3:]
            if options != last:
                # Most have those of the one before.
                (beginning, end), last = _around_set(options), options
            length = len(value)
            parts += (beginning, _BEFORE[len(key)], key, _BEFORE[length])
            if length >= _LARGE:
                whole += (b"".join(parts), value)
                parts = [end]
            else:
                parts += (value, end)
        elif command[0] == "MGET":
            parts.append(b"*%d\r\n$4\r\nMGET" % len(command))
            for key in command[1:]:
                parts += (_BEFORE[len(key)], key)
            parts.append(b"\r\n")
        else:
            parts.append(_pack(command))
    return [*whole, b"".join(parts)]


def joined(pieces: list[bytes]) -> list[bytes]:
    """Return the pieces as one, unless one of them is too large to be copied."""
    if len(pieces) > 1 and max(map(len, pieces)) < _LARGE:
        return [b"".join(pieces)]
    return pieces


@lru_cache(maxsize=256)
def _around_set(options: tuple[str | int, ...]) -> tuple[bytes, bytes]:
    """Return the bytes of a SET with these options before its key and behind its value."""
    parts = [str(option).encode() for option in options]
    end = b"".join([_BEFORE[len(part)] + part for part in parts])
    return b"*%d\r\n$3\r\nSET" % (3 + len(parts)), end + b"\r\n"
