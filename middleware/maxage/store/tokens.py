"""Groups and their tokens (design section 5): what an entry depends on, and how that changes.

A token is `<history>-<random>`. The history names the server history in which it was written; the
random part is drawn anew for every write, a retry included, so that no delayed write can revive
an entry. A token that is missing or names another history counts as missing, and missing is a
miss.

A soft purge puts a mark behind the token, `<history>-<random>~<mark>`. It is written at a fixed
place into whatever token lies there, so that it needs no read before it and cannot undo a purge.
"""

import hashlib
import os
from binascii import b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

NAMESPACE_GROUP: Final = "n"
"""The group that every entry of a namespace belongs to; its purge drops everything."""

TOKEN_SECONDS: Final = 3600
"""Seconds for which a token is kept at least; longer where an entry needs it longer."""

LONG_TOKEN_SECONDS: Final = 4 * TOKEN_SECONDS
"""Seconds for which it is kept where entries have been kept for longer than that."""

HIDDEN_HISTORY: Final = b"hidden"
"""The history where the server does not tell its own."""

_HISTORY_LENGTH: Final = 12
_RANDOM_BYTES: Final = 12
_MARK_BYTES: Final = 6  # both are multiples of 3, which need no padding
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_MARK: Final = b"~"
_QUARANTINED: Final = b"!"
_LONGEST_NAME: Final = 200


def _random(count: int) -> bytes:
    """Return what so many random bytes are in base64, of letters, digits, `-` and `_`."""
    return b2a_base64(os.urandom(count), newline=False).translate(_URL_SAFE)


def fresh_token(history: bytes) -> bytes:
    """Return a token of this history that was never used before."""
    return history + b"-" + _random(_RANDOM_BYTES)


def purged_token(history: bytes, quarantine: float) -> bytes:
    """Return the token that a purge writes; nothing is stored under it in quarantine.

    Such a token lives for `quarantine` seconds in the store itself, so that no two clocks are
    compared. The next lookup that finds it gone creates an ordinary one.
    """
    token = fresh_token(history)
    if not quarantine:
        return token
    place = len(history) + 1
    return token[:place] + _QUARANTINED + token[place + 1 :]


def is_quarantined(token: bytes) -> bool:
    """Return whether the group was purged so lately that nothing is to be stored in it."""
    return any_quarantined((token,))


def any_quarantined(tokens: Iterable[bytes | None]) -> bool:
    """Return whether any of the groups with these tokens was purged so lately."""
    # No other token has this character.
    return _QUARANTINED in b"".join(filter(None, tokens))


def fresh_mark() -> bytes:
    """Return the mark of a soft purge; all are of the same length, as all tokens of a history."""
    return _MARK + _random(_MARK_BYTES)


def mark_place(history: bytes) -> int:
    """Return where in a token of this history a mark begins."""
    return len(history) + 1 + _RANDOM_BYTES * 4 // 3


def softened(token: bytes, now: bytes | None) -> bool:
    """Return whether nothing but soft purges made the token into what it is now."""
    return now is not None and token.partition(_MARK)[0] == now.partition(_MARK)[0]


def belongs(token: bytes | None, history: bytes) -> bool:
    """Return whether the token is there and was written in this history."""
    return token is not None and token.startswith(history) and token[len(history) :][:1] == b"-"


def history_of(info: bytes) -> bytes:
    """Return the history that the answer to INFO replication names.

    `master_replid` changes when another server or an older snapshot takes over; `run_id` does not
    change when a demoted node is promoted again with its old data.
    """
    for line in info.splitlines():
        name, _, value = line.partition(b":")
        if name == b"master_replid" and value.strip().isalnum():
            return value.strip()[:_HISTORY_LENGTH]
    return HIDDEN_HISTORY


def has_replicas(info: bytes) -> bool:
    """Return whether the answer to INFO replication tells of replicas that follow.

    One that still receives its first copy confirms nothing.
    """
    lines = (line.partition(b":") for line in info.splitlines())
    return any(name.startswith(b"slave") and b"state=online" in value for name, _, value in lines)


def token_prefix(namespace: str) -> bytes:
    """Return what the keys of all tokens of a namespace begin with, and no other key of ours."""
    return namespace.encode() + b":t:"


@lru_cache(maxsize=16_384)
def token_key(namespace: str, group: str) -> bytes:
    """Return the key under which the group's token lies."""
    name = group.encode("utf-8", "surrogatepass")
    if len(name) > _LONGEST_NAME:
        # Long names are hashed; the letter in front keeps them apart from short ones.
        name = b"h:" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()
    return token_prefix(namespace) + name
