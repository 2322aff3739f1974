"""Seals: a seal binds a typed value to the tokens that it was stored under."""

from hashlib import blake2b

from msgspec import Struct


class SealedValue(Struct, frozen=True, kw_only=True):
    """A typed value that a request has set: what its seal is made of, but for a new token."""

    token: bytes
    """The group's token that the value was stored under."""
    namespace: bytes
    """The namespace's token that the value was stored under."""
    key: bytes
    """The key of the seal."""
    digest: bytes
    """The digest of the value."""
    keep_for: float
    """Seconds."""

    def seal(self, token: bytes) -> bytes:
        """Return the seal that binds the same value to another token of its group."""
        return seal_of(self.digest, self.namespace, token)


def seal_of(digest: bytes, namespace: bytes, token: bytes) -> bytes:
    """Return the seal that binds a value, by its digest, to the tokens it is stored under."""
    return b" ".join((digest, namespace, token))


def digest_of(value: bytes, kind: bytes) -> bytes:
    """Return the digest of a value of this kind: the same bytes of another type have another one.

    Args:
        value: as it is stored.
        kind: names the type and the encoding, in up to 64 bytes.
    """
    return blake2b(value, digest_size=16, key=kind).hexdigest().encode()
