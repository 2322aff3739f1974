"""A claim that a lookup makes where it finds nothing, in a round trip that it makes anyway."""

from collections.abc import Sequence
from typing import final

from msgspec import Struct


@final
class WantedClaim(Struct, eq=False, gc=False):
    """What a request wants to claim, and what its lookup has made of it; see `claims`."""

    key: bytes
    """The key of the response."""
    groups: Sequence[str]
    """The groups of the response's URL."""
    expected: Sequence[bytes] | None = None
    """The tokens of the groups, where nothing is expected to be stored under them: then the claim
    leaves together with the lookup itself."""
    value: bytes = b""
    """Lies under the claim's key while the claim is this request's; drawn when it is sent. Requests
    of one process that want the same claim at once share it."""
    claim_key: bytes | None = None
    """The key of the claim that the lookup made; None: it made none for the tokens of now."""
    present: bytes | None = None
    """The value under that key; None: the store did not answer."""
