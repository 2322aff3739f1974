"""Claims: collapsed forwarding across processes.

Before a process asks the application for what others may want too, it puts a claim into the store,
for a key and its tokens. Whoever finds the claim of another process waits for what comes of it: he
looks for the response again and again, and takes it by the same rules as any stored response, with
tokens that he read himself. So nothing here can serve what a purge made untrue.

A claim lives for less than a second and is renewed while its process lives, so that nobody waits
longer for one that died. It is never compared before it is removed: to lose one early costs a
second run of the handler, and nothing else.
"""

import asyncio
import secrets
import weakref
from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, final

from maxage.store.base import CLAIM_ENDED, Store

CLAIM_SECONDS: Final = 0.8
"""How long others wait for a process that has died."""
_BEAT_SECONDS: Final = 0.25
"""Between two renewals of the claims that are held; the first comes no later than that."""
_ALONE: Final = b"-"
"""What lies under a claim when its response turned out not to be shareable."""

Spawn = Callable[[Coroutine[Any, Any, Any]], object]


class Standing(Enum):
    """What a process is to do about a response that is not stored."""

    LEAD = "ask the application; others wait"
    WAIT = "another process asks it"
    ENDED = "another process has just written it"
    ALONE = "ask the application; nobody waits for what cannot be shared"
    UNKNOWN = "ask the application; the store does not say"


@final
class Claims:
    """The claims of this process to the responses of one store.

    Args:
        store: where they lie.
        spawn: runs work in the background.
        alone_for: seconds for which it is told that a response cannot be shared.
    """

    def __init__(self, store: Store, spawn: Spawn, *, alone_for: float) -> None:
        self.store: Final = store
        self.spawn: Final = spawn
        self.alone_for: Final = alone_for
        self._beats: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat]] = (
            weakref.WeakKeyDictionary()
        )

    def to(self, key: bytes) -> "Claim":
        """Return a claim of this key; it is not taken yet."""
        return Claim(self, key)

    def beat(self) -> "_Beat":
        """Return what renews the claims that are held in this event loop."""
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = _Beat(self.store, self.spawn)
        return beat


@final
class Claim:
    """The claim of this process to one response."""

    __slots__ = ("_alone", "_beat", "_claims", "key", "mine")

    def __init__(self, claims: Claims, key: bytes) -> None:
        self.key: Final = key
        self.mine: Final = secrets.token_bytes(8)
        """What lies under the key while this process holds it."""
        self._claims: Final = claims
        self._beat: _Beat | None = None
        """What renews it while it is held."""
        self._alone = False

    async def take(self) -> Standing:
        """Claim the response unless another process has; ask for how things stand."""
        lies = await self._claims.store.claim(self.key, self.mine, keep_for=CLAIM_SECONDS)
        if lies == self.mine:
            self._beat = self._claims.beat()
            self._beat.renew(self)
            return Standing.LEAD
        standings = {None: Standing.UNKNOWN, CLAIM_ENDED: Standing.ENDED, _ALONE: Standing.ALONE}
        return standings.get(lies, Standing.WAIT)

    def cannot_be_shared(self) -> None:
        """Note that nobody is to wait for such a response for the time being."""
        self._alone = True

    def end(self, *, written: bool) -> None:
        """Let the others go on; `written`: the response is being written, which ends the claim."""
        if self._beat is None:
            return
        self._beat.held.discard(self)
        self._beat = None
        claims = self._claims
        if self._alone:
            told = [(self.key, _ALONE)]
            claims.spawn(claims.store.write(told, keep_for=claims.alone_for, tokens={}))
        elif not written:
            claims.spawn(claims.store.delete((self.key,)))


@final
class _Beat:
    """Renews the claims that are held in one event loop, all of them together."""

    __slots__ = ("_awaited", "_spawn", "_store", "held")

    def __init__(self, store: Store, spawn: Spawn) -> None:
        self.held: Final[set[Claim]] = set()
        self._store: Final = store
        self._spawn: Final = spawn
        self._awaited = False
        """Whether a renewal is to come. Its timer would hold on to an event loop that has ended."""

    def renew(self, claim: Claim) -> None:
        """Renew a claim from now on, as long as it is held."""
        self.held.add(claim)
        if not self._awaited:
            self._wait()

    def _wait(self) -> None:
        self._awaited = True
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._tick)

    def _tick(self) -> None:
        self._awaited = False
        if self.held:
            values = [(claim.key, claim.mine) for claim in self.held]
            self._spawn(self._store.write(values, keep_for=CLAIM_SECONDS, tokens={}))
            self._wait()


def claim_key(namespace: str, key: bytes, tokens: Iterable[bytes | None]) -> bytes | None:
    """Return the key of the claim to a response, or None where a token is missing.

    The tokens are part of it: who read other ones could not take the response.
    """
    parts = [key]
    for token in tokens:
        if token is None:
            return None
        parts.append(token)
    digest = blake2b(b"\0".join(parts), digest_size=16).hexdigest()
    return f"{namespace}:f:{digest}".encode()
