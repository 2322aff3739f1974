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


_SIZES: Final = tuple([b"\r\n$%d\r\n" % size for size in range(1024)])
"""What stands before a part of a command, by the bytes of the part; for longer ones it is made."""
_READY: Final = len(_SIZES)


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
            size, length = len(key), len(value)
            # Written out, since a call takes a third of the time of the whole. A dictionary that
            # makes what it lacks is slower too.
            parts += (
                beginning, _SIZES[size] if size < _READY else _before(size), key,
                _SIZES[length] if length < _READY else _before(length),
            )  # fmt: skip
            if length >= _LARGE:
                whole += (b"".join(parts), value)
                parts = [end]
            else:
                parts += (value, end)
        elif command[0] == "MGET":
            parts.append(b"*%d\r\n$4\r\nMGET" % len(command))
            for key in command[1:]:
                size = len(key)
                parts += (_SIZES[size] if size < _READY else _before(size), key)
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
    end = b"".join([_before(len(part)) + part for part in parts])
    return b"*%d\r\n$3\r\nSET" % (3 + len(parts)), end + b"\r\n"


def _before(size: int) -> bytes:
    """Return what stands before a part of this many bytes."""
    return b"\r\n$%d\r\n" % size
