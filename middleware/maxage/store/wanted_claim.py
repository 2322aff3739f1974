"""A claim that a lookup makes where it finds nothing, in a round trip that it makes anyway."""

from collections.abc import Sequence
from typing import Final, final


@final
class WantedClaim:
    """What a request wants to claim, and what its lookup has made of it; see `claims`.

    Args:
        key: of the response.
        groups: of the response's URL.
        expected: the tokens of the groups, where nothing is expected to be stored under them: then
            the claim leaves together with the lookup itself.
    """

    __slots__ = ("claim_key", "expected", "groups", "key", "present", "value")

    def __init__(
        self, key: bytes, groups: Sequence[str], *, expected: Sequence[bytes] | None = None
    ) -> None:
        self.key: Final = key
        self.groups: Final = groups
        self.value = b""
        """Lies under the claim's key while the claim is this request's; drawn when it is sent.
        Requests of one process that want the same claim at once share it."""
        self.expected: Final = expected
        self.claim_key: bytes | None = None
        """The key of the claim that the lookup made; None: it made none for the tokens of now."""
        self.present: bytes | None = None
        """The value under that key; None: the store did not answer."""
