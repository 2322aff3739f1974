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


class _Sizes(dict[int, bytes]):
    """The sizes in front of the parts of a command; those of most parts are ready."""

    def __missing__(self, size: int) -> bytes:
        """Return a size that is not ready."""
        return b"$%d\r\n" % size


_SIZES: Final = _Sizes({size: b"$%d\r\n" % size for size in range(512)})


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes of commands in one piece; a large value of SET is another, and not copied.

    hiredis takes several times as long for the commands of a miss.
    """
    whole: list[bytes] = []
    parts: list[bytes] = []
    for command in commands:
        if command[0] == "SET":
            key, value = command[1], command[2]
            beginning, end = _around_set(command[3:])
            parts += (beginning, _SIZES[len(key)], key, b"\r\n", _SIZES[len(value)])
            if len(value) >= _LARGE:
                whole += (b"".join(parts), value)
                parts = [end]
            else:
                parts += (value, end)
        elif command[0] == "MGET":
            parts.append(b"*%d\r\n$4\r\nMGET\r\n" % len(command))
            for key in command[1:]:
                parts += (_SIZES[len(key)], key, b"\r\n")
        else:
            parts.append(_pack(command))
    return [*whole, b"".join(parts)]


@lru_cache(maxsize=256)
def _around_set(options: tuple[str | int, ...]) -> tuple[bytes, bytes]:
    """Return the bytes of a SET with these options before its key and behind its value."""
    parts = [str(option).encode() for option in options]
    end = b"".join([_SIZES[len(part)] + part + b"\r\n" for part in parts])
    return b"*%d\r\n$3\r\nSET\r\n" % (3 + len(parts)), b"\r\n" + end


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
