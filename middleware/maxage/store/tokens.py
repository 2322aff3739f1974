"""Tokens of groups: an entry is current while the tokens of all its groups are those it carries.

A token is `<history>-<random>`. The history names the server history in which the token was
written. The random part is drawn anew for every write and every retry, so that no delayed write
revives an entry. A token of another history counts as missing, and an entry with a missing token is
a miss.

A soft purge appends a mark to the token: `<history>-<random>~<mark>`. The mark is written at a
fixed offset, whatever the token is: a soft purge needs no read before it and cannot undo a purge.
"""

import hashlib
import os
from binascii import b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

NAMESPACE_GROUP: Final = "n"
"""The group of all entries of a namespace; its purge drops everything."""

TOKEN_SECONDS: Final = 3600
"""Shortest lifetime of a token in seconds; a token outlives the entries that carry it."""

LONG_TOKEN_SECONDS: Final = 4 * TOKEN_SECONDS
"""Lifetime of a token in seconds once an entry was stored for longer than `TOKEN_SECONDS`."""

MOST_KNOWN_GROUPS: Final = 64
"""Groups of the largest purge whose keys and commands are kept for the next one like it."""

HIDDEN_HISTORY: Final = b"hidden"
"""The history of a server that does not tell its own."""

_HISTORY_LENGTH: Final = 12
_RANDOM_BYTES: Final = 12
_MARK_BYTES: Final = 6  # both are multiples of 3, which need no padding
_LENGTH: Final = _RANDOM_BYTES * 4 // 3
"""Characters of the random part of a token."""
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_MARK: Final = b"~"
_QUARANTINED: Final = b"!"
_LONGEST_NAME: Final = 200


def token_keys(namespace: str, groups: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the keys of the groups' tokens."""
    keys = _known_token_keys if len(groups) <= MOST_KNOWN_GROUPS else _token_keys
    return keys(namespace, groups)


def _token_keys(namespace: str, groups: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple([token_key(namespace, group) for group in groups])


# Requests of one route purge the same groups.
_known_token_keys: Final = lru_cache(maxsize=64)(_token_keys)


@lru_cache(maxsize=512)
def token_key(namespace: str, group: str) -> bytes:
    """Return the key of the group's token."""
    name = group.encode("utf-8", "surrogatepass")
    if len(name) > _LONGEST_NAME:
        # The prefix keeps hashed names apart from short ones.
        name = b"h:" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()
    return token_prefix(namespace) + name


@lru_cache(maxsize=16)
def token_prefix(namespace: str) -> bytes:
    """Return the prefix of the keys of all tokens of a namespace, and of no other key of ours."""
    return namespace.encode() + b":t:"


def history_of(info: bytes) -> bytes:
    """Return the history that a reply to INFO replication names.

    `master_replid` changes when another server or an older snapshot takes over; `run_id` does not
    change when a demoted node is promoted again with its old data.
    """
    for line in info.splitlines():
        name, _, value = line.partition(b":")
        if name == b"master_replid" and value.strip().isalnum():
            return value.strip()[:_HISTORY_LENGTH]
    return HIDDEN_HISTORY


def has_replicas(info: bytes) -> bool:
    """Return whether a reply to INFO replication names a replica that is in sync.

    A replica that still receives its first copy confirms nothing.
    """
    lines = (line.partition(b":") for line in info.splitlines())
    return any(name.startswith(b"slave") and b"state=online" in value for name, _, value in lines)


def belongs(token: bytes | None, history: bytes) -> bool:
    """Return whether there is a token, and it was written in this history."""
    return token is not None and token.startswith(history + b"-")


def purged_token(history: bytes, quarantine: float) -> bytes:
    """Return the token that a purge writes; if it is quarantined, nothing is stored under it.

    The store itself ends a quarantined token after `quarantine` seconds, so that no two clocks are
    compared. The next lookup creates an ordinary token.
    """
    token = fresh_token(history)
    if not quarantine:
        return token
    place = len(history) + 1
    return token[:place] + _QUARANTINED + token[place + 1 :]


def fresh_token(history: bytes) -> bytes:
    """Return a new token of this history."""
    return history + b"-" + _random(_RANDOM_BYTES)


def fresh_tokens(history: bytes, count: int) -> list[bytes]:
    """Return new tokens of this history."""
    drawn, beginning = _random(_RANDOM_BYTES * count), history + b"-"
    return [beginning + drawn[i : i + _LENGTH] for i in range(0, len(drawn), _LENGTH)]


def _random(count: int) -> bytes:
    """Return this many random bytes in URL-safe base64."""
    return b2a_base64(os.urandom(count), newline=False).translate(_URL_SAFE)


def is_quarantined(token: bytes) -> bool:
    """Return whether nothing is to be stored under the token: its group was just purged."""
    return any_quarantined((token,))


def any_quarantined(tokens: Iterable[bytes | None]) -> bool:
    """Return whether any of these tokens is quarantined."""
    # No other token has this character. `in` would first try it as an integer, by an exception.
    return b"".join(filter(None, tokens)).find(_QUARANTINED) >= 0


def fresh_mark() -> bytes:
    """Return a new mark of a soft purge; all marks have the same length."""
    return _MARK + _random(_MARK_BYTES)


def mark_place(history: bytes) -> int:
    """Return the offset of the mark in a token of this history."""
    return len(history) + 1 + _LENGTH


def softened(token: bytes, now: bytes | None) -> bool:
    """Return whether only soft purges have changed the token into `now`."""
    return now is not None and token.partition(_MARK)[0] == now.partition(_MARK)[0]
