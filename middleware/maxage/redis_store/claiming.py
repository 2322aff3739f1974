"""The claims that lookups make in their own round trips."""

from collections.abc import Mapping, Sequence
from typing import Final, final

from maxage.redis_store.servers.commands import Claim
from maxage.store.claims import claim_key, new_values
from maxage.store.wanted_claim import WantedClaim


@final
class Claiming:
    """The claims of one round trip. Requests that want the same one share it.

    Args:
        namespace: the prefix of all keys.
        wanted: the claims to make.
    """

    def __init__(self, namespace: str, wanted: Sequence[WantedClaim]) -> None:
        self._namespace: Final = namespace
        self._wanted: Final = wanted
        self._named: list[Sequence[bytes | None]] = []
        """The tokens that each of them names."""
        self._made: dict[bytes, bytes] = {}
        """The claims that are sent: their keys and values."""

    def expected(self) -> Sequence[Claim]:
        """Return the claims to make before the tokens are read, by the expected ones."""
        return self._claims([wanted.expected or () for wanted in self._wanted])

    def claims(self, tokens: Mapping[str, bytes | None]) -> Sequence[Claim]:
        """Return the claims to make, given the tokens that were read or are created with them."""
        return self._claims([list(map(tokens.get, wanted.groups)) for wanted in self._wanted])

    def _claims(self, named: list[Sequence[bytes | None]]) -> Sequence[Claim]:
        self._named, drawn = named, new_values(len(named))
        made: dict[bytes, bytes] = {}
        for wanted, tokens, value in zip(self._wanted, named, drawn, strict=True):
            key = wanted.claim_key = claim_key(self._namespace, wanted.key, tokens)
            if key is not None:
                wanted.value = made.setdefault(key, value)
        self._made = made
        return tuple(made.items())

    def answered(self, present: Sequence[bytes | None], tokens: Mapping[str, bytes | None]) -> None:
        """Note the value of each claim; one that names other tokens than those of now is void.

        There are no values where no claim was sent.
        """
        values = dict(zip(self._made, present, strict=False))
        for wanted, named in zip(self._wanted, self._named, strict=False):
            key = wanted.claim_key
            wanted.present = None if key is None else values.get(key)
            if wanted.present is None or list(map(tokens.get, wanted.groups)) != list(named):
                wanted.claim_key = wanted.present = None
