"""The seal of a typed value: it binds the value to the tokens that it was stored under."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A typed value that a request has set, and what binds it to its tokens."""

    token: bytes
    """The group's token that the value was stored under."""
    namespace: bytes
    """The namespace's token that it was stored under."""
    key: bytes
    """Where its seal lies."""
    digest: bytes
    """Of the value."""
    keep_for: float
    """Seconds."""

    def seal(self, token: bytes) -> bytes:
        """Return what binds the same value to another token of its group."""
        return bind(self.digest, self.namespace, token)


def bind(digest: bytes, namespace: bytes, token: bytes) -> bytes:
    """Return what binds a value, by its digest, to the tokens it was stored under."""
    return b" ".join((digest, namespace, token))


def seal_of(value: bytes, namespace: bytes, token: bytes) -> bytes:
    """Return what binds a value to the tokens it was stored under."""
    return bind(digest_of(value), namespace, token)


def digest_of(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).hexdigest().encode()


def is_sealed(
    value: bytes, seal: bytes | None, namespace: bytes | None, token: bytes | None
) -> bool:
    """Return whether the seal is this value's own, and its tokens are the current ones."""
    if seal is None or namespace is None or token is None:
        return False
    return seal == seal_of(value, namespace, token)
