"""Claims: collapsed forwarding across processes.

Before a process calls the application for a response that others may want too, it writes a claim to
the store, for the response's key and tokens. A process that finds a claim of another one waits: it
looks the response up again and again, and takes it by the rules for any stored response, with
tokens that it read itself. So a claim never lets a purged response be served.

A claim lives for less than a second and is renewed while its process lives: others do not wait
longer for a process that died. It is removed without a comparison: a claim that is removed early
costs a second run of the handler, and nothing else.
"""

import os
import weakref
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, Protocol, final

from msgspec import Struct

from maxage.store.base import CLAIM_ENDED, CLAIM_SECONDS
from maxage.store.wanted_claim import WantedClaim

_RENEWAL_SECONDS: Final = 0.25
"""Between two renewals of the claims of a process; the first one comes no later than that."""
_VALUE_BYTES: Final = 8
_NOT_SHAREABLE: Final = b"-"
"""The value of a claim whose response turned out not to be shareable."""


class ClaimState(Enum):
    """What a process has to do about a response that is not stored."""

    OURS = "call the application; others wait"
    TAKEN = "another process calls it: wait"
    ENDED = "another process has just written the response: look it up"
    NOT_SHAREABLE = "call the application; the response is for one request alone"
    UNKNOWN = "call the application; the store did not answer"


class ClaimStore(Protocol):
    """The store of claims; see `Store` for the methods."""

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None: ...

    async def write(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool: ...

    async def delete(self, keys: Sequence[bytes]) -> bool: ...


class Runner(Protocol):
    """What runs the work on claims beside the requests: `Background`, or threads."""

    @property
    def owner(self) -> object:
        """The event loop that runs the work now, or the runner of all threads."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any]) -> object:
        """Run work in the background."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after so many seconds."""
        ...


def new_values(count: int) -> Sequence[bytes]:
    """Return values by which a process knows its own claims."""
    drawn = os.urandom(_VALUE_BYTES * count)
    return [drawn[i : i + _VALUE_BYTES] for i in range(0, len(drawn), _VALUE_BYTES)]


def claim_key(namespace: str, key: bytes, tokens: Collection[bytes | None]) -> bytes | None:
    """Return the key of the claim to a response, or None where a token is missing.

    The tokens are part of it: a process that read other ones cannot take the response.
    """
    if None in tokens:
        return None
    parts = [key, *filter(None, tokens)]
    digest = blake2b(b"\0".join(parts), digest_size=16).hexdigest()
    return f"{namespace}:f:{digest}".encode()


@final
class Claims:
    """The claims of this process in one store.

    Args:
        store: where they lie.
        runner: renews and removes them.
        not_shareable_for: seconds for which a response is known not to be shareable.
    """

    def __init__(self, store: ClaimStore, runner: Runner, *, not_shareable_for: float) -> None:
        self.store: Final = store
        self.runner: Final = runner
        self.not_shareable_for: Final = not_shareable_for
        self._renewals: Final[weakref.WeakKeyDictionary[object, _Renewals]] = (
            weakref.WeakKeyDictionary()
        )
        self._last: tuple[weakref.ref[object], _Renewals] | None = None
        """Those that were used last, with their owner; most processes have only one event loop.
        One value, since event loops of several threads change it."""

    def to(self, key: bytes) -> "Claim":
        """Return a claim of this key; it is not taken yet."""
        (value,) = new_values(1)
        return Claim(self, key, value)

    def taken(self, wanted: WantedClaim) -> "Claim | None":
        """Return the claim that a lookup has made and that is ours; None: it is not."""
        if wanted.claim_key is None or wanted.present != wanted.value:
            return None
        renewals = self.renewals()
        claim = Claim(self, wanted.claim_key, wanted.value, None, renewals)
        renewals.add(claim)
        return claim

    def made(self, wanted: WantedClaim) -> "Claim | None":
        """Return the claim that a lookup has made; None: it made none, or got no answer."""
        if wanted.claim_key is None or wanted.present is None:
            return None
        return Claim(self, wanted.claim_key, wanted.value, wanted.present)

    def renewals(self) -> "_Renewals":
        """Return the object that renews the claims taken in this event loop, or in any thread."""
        owner = self.runner.owner
        last = self._last
        if last is not None and last[0]() is owner:
            return last[1]
        renewals = self._renewals.get(owner)
        if renewals is None:
            renewals = self._renewals[owner] = _Renewals(self.store, self.runner)
        self._last = (weakref.ref(owner), renewals)
        return renewals


@final
class _Renewals:
    """Renews the claims taken in one event loop, or in all threads, together."""

    __slots__ = ("_runner", "_store", "_waits", "claims")

    def __init__(self, store: ClaimStore, runner: Runner) -> None:
        self.claims: Final[set[Claim]] = set()
        self._store: Final = store
        self._runner: Final = runner
        self._waits = False
        """Whether a renewal is to come. A reference to its timer would hold an ended event loop."""

    def add(self, claim: "Claim") -> None:
        """Renew a claim from now on, until it is discarded."""
        self.claims.add(claim)
        if not self._waits:
            self._wait()

    def _wait(self) -> None:
        self._waits = True
        self._runner.call_later(_RENEWAL_SECONDS, self._renew)

    def _renew(self) -> None:
        self._waits = False
        if self.claims:
            values = [(claim.key, claim.value) for claim in tuple(self.claims)]
            self._runner.spawn(self._store.write(values, keep_for=CLAIM_SECONDS, tokens={}))
            self._wait()


@final
class Claim(Struct, eq=False):
    """The claim of this process to one response."""

    _claims: Claims
    key: bytes
    value: bytes
    """Lies under the key while the claim is ours."""
    _present: bytes | None = None
    """What a lookup has just found under the key, after it tried to claim."""
    _renewals: _Renewals | None = None
    """Renews the claim; None: it is not ours."""
    _shareable: bool = True

    async def take(self) -> ClaimState:
        """Claim the response unless another process has; return the state of the claim."""
        value, self._present = self._present, None
        if value is None:
            value = await self._claims.store.claim(self.key, self.value, keep_for=CLAIM_SECONDS)
        if value == self.value:
            self.hold()
            return ClaimState.OURS
        states = {
            None: ClaimState.UNKNOWN,
            CLAIM_ENDED: ClaimState.ENDED,
            _NOT_SHAREABLE: ClaimState.NOT_SHAREABLE,
        }
        return states.get(value, ClaimState.TAKEN)

    def hold(self) -> None:
        """Renew it until it ends: it is ours."""
        self._renewals = self._claims.renewals()
        self._renewals.add(self)

    def cannot_be_shared(self) -> None:
        """Let no request wait for such a response for the time being."""
        self._shareable = False

    def end(self, *, written: bool) -> None:
        """Let the others go on; `written`: the response is being written, which ends the claim."""
        if self._renewals is None:
            return
        self._renewals.claims.discard(self)
        self._renewals = None
        store, runner = self._claims.store, self._claims.runner
        if not self._shareable:
            values, seconds = [(self.key, _NOT_SHAREABLE)], self._claims.not_shareable_for
            runner.spawn(store.write(values, keep_for=seconds, tokens={}))
        elif not written:
            runner.spawn(store.delete((self.key,)))
