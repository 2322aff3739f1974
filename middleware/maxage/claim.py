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
from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, final

from maxage.store import CLAIM_ENDED, Store

CLAIM_SECONDS: Final = 0.8
"""How long others wait for a process that has died."""
_BEAT_SECONDS: Final = 0.25
"""Between two renewals of a claim."""
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
class Claim:
    """The claim of this process to one response."""

    __slots__ = ("_alone", "_mine", "_spawn", "_store", "_timer", "alone_for", "key")

    def __init__(self, store: Store, spawn: Spawn, key: bytes, *, alone_for: float) -> None:
        self.key: Final = key
        self.alone_for: Final = alone_for
        """Seconds for which it is told that a response cannot be shared."""
        self._store: Final = store
        self._spawn: Final = spawn
        self._mine: Final = secrets.token_bytes(8)
        self._timer: asyncio.TimerHandle | None = None
        self._alone = False

    async def take(self) -> Standing:
        """Claim the response unless another process has; ask for how things stand."""
        lies = await self._store.claim(self.key, self._mine, keep_for=CLAIM_SECONDS)
        if lies == self._mine:
            self._hold()
            return Standing.LEAD
        standings = {None: Standing.UNKNOWN, CLAIM_ENDED: Standing.ENDED, _ALONE: Standing.ALONE}
        return standings.get(lies, Standing.WAIT)

    def cannot_be_shared(self) -> None:
        """Note that nobody is to wait for such a response for the time being."""
        self._alone = True

    def end(self, *, written: bool) -> None:
        """Let the others go on; `written`: the response is being written, which ends the claim."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._alone:
            told = [(self.key, _ALONE)]
            self._spawn(self._store.write(told, keep_for=self.alone_for, tokens={}))
        elif not written:
            self._spawn(self._store.delete((self.key,)))

    def _hold(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        mine = [(self.key, self._mine)]
        self._spawn(self._store.write(mine, keep_for=CLAIM_SECONDS, tokens={}))
        self._hold()


def claim_key(namespace: str, key: bytes, tokens: Iterable[bytes | None]) -> bytes | None:
    """Return the key of the claim to a response, or None where a token is missing.

    The tokens are part of it: who read other ones could not take the response.
    """
    digest = blake2b(key, digest_size=16)
    for token in tokens:
        if token is None:
            return None
        digest.update(b"\0" + token)
    return b"%b:f:%b" % (namespace.encode(), digest.hexdigest().encode())
