"""The claims that lookups make in their own round trips."""

from collections.abc import Mapping, Sequence
from typing import Final, final

from maxage.redis_store.servers.commands import Claim
from maxage.store.claims import claim_key
from maxage.store.wanted_claim import WantedClaim


@final
class Claiming:
    """The claims of one round trip. Requests that want the same one share it.

    Args:
        namespace: the prefix of all keys.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace: Final = namespace
        self._wanted: Final[list[tuple[WantedClaim, Mapping[str, bytes | None]]]] = []
        self._drawn: Mapping[str, bytes] = {}
        self._made: dict[bytes, WantedClaim] = {}
        """The claims that are sent, by their keys."""

    def add(self, wanted: WantedClaim, tokens: Mapping[str, bytes | None]) -> None:
        """Make a claim, given the tokens of its groups as they were read."""
        self._wanted.append((wanted, tokens))

    def expected(self, early: Sequence[WantedClaim]) -> Sequence[Claim]:
        """Return the claims to make before the tokens are read, by the expected ones."""
        for wanted in early:
            self.add(wanted, dict(zip(wanted.groups, wanted.expected or (), strict=True)))
        return self.claims({})

    def claims(self, drawn: Mapping[str, bytes]) -> Sequence[Claim]:
        """Return the claims to make, given the tokens that are created with them."""
        self._drawn, self._made = drawn, {}
        for wanted, read in self._wanted:
            tokens = [read.get(group) or drawn.get(group) for group in wanted.groups]
            key = claim_key(self._namespace, wanted.key, tokens)
            if key is not None:
                wanted.claim_key = key
                wanted.value = self._made.setdefault(key, wanted).value
        return [(key, wanted.value) for key, wanted in self._made.items()]

    def answered(
        self,
        present: Sequence[bytes | None],
        created: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Note the value of each claim; one that names a token that was not created is void.

        Args:
            present: the values, in the order of `claims`; empty where none was sent.
            created: the tokens that were created; another process may have been first.
        """
        values = dict(zip(self._made, present, strict=False))
        lost = {group for group, token in (created or {}).items() if token != self._drawn[group]}
        for wanted, _ in self._wanted:
            key = wanted.claim_key
            wanted.present = None if key is None else values.get(key)
            if wanted.present is None or not lost.isdisjoint(wanted.groups):
                wanted.claim_key = wanted.present = None
