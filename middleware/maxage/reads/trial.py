"""Trial: the application answers every GET, the cache fills, and observers see both.

`maxage.audit` and `maxage.shadow` are observers. While there is none, `answer` is None, and nothing
of this module runs.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from maxage.asgi.types import Message, Receive, Scope, Send
from maxage.errors import StoreUnavailableError
from maxage.observe.failures import tell_of_failure
from maxage.observe.words import Bypass
from maxage.reads.admission import admit
from maxage.reads.capture import Capture
from maxage.reads.fast_path import FastPath
from maxage.reads.forward import exchange_of
from maxage.reads.get import GetResponder, answer_get
from maxage.reads.known_request import Plain
from maxage.rfc9111.decisions import Decision, Forward, OnlyIfCached
from maxage.rfc9111.message import Headers

Result = TypeVar("Result")


AnswerGet = Callable[[FastPath, Plain | None, Scope, Receive, Send, bytes | None], Awaitable[None]]
"""Answers a GET, HEAD or QUERY, as `answer_get` does."""


class Answered(Struct, kw_only=True):
    """One answer of the application, and what the cache would have done instead."""

    reading: GetResponder
    """The request, its target, and the result of its lookup."""
    decision: Decision
    """The decision of the cache before the application was asked."""
    capture: Capture
    """Tells whether the answer was stored, and why not."""
    status: int = 0
    """The status that was sent; 0: there was no answer."""
    headers: Headers
    """The headers that were sent, with those that the cache adds."""
    body: bytes | None = b""
    """The body that was sent; None: it is longer than `CACHE_MAX_BODY_BYTES`."""


class Observation:
    """The view of one observer of one request."""

    scope: Scope
    """The scope that the application gets."""

    def admitted(self) -> None:
        """Note that the key is known: `vary_by` has run, and the application has not."""

    def sent(self) -> None:
        """Note that the last piece of the answer was sent."""

    async def answered(self, answered: Answered) -> None:
        """See the answer; the application call has returned."""

    def close(self) -> None:
        """End, whether there was an answer or not."""


class Observer(Protocol):
    """Sees requests while the cache is tried out."""

    def begin(self, fast_path: FastPath, scope: Scope) -> Observation | None:
        """Return the observation of a GET or HEAD that begins; None: it is of no interest."""
        ...


answer: AnswerGet | None = None
"""Answers a GET in the place of `answer_get`; None: there are no observers."""
_observers: tuple[Observer, ...] = ()


def observe(observer: Observer) -> None:
    """Let an observer see the requests of this process from now on."""
    _use((*_observers, observer))


def ignore(observer: Observer) -> None:
    """Let an observer see no more requests."""
    _use(tuple(one for one in _observers if one is not observer))


def _use(observers: tuple[Observer, ...]) -> None:
    global _observers, answer  # one attribute that each GET looks at
    _observers, answer = observers, _answer_on_trial if observers else None


async def _answer_on_trial(  # noqa: PLR0917 - in the place of answer_get
    fast_path: FastPath,
    plain: Plain | None,
    scope: Scope,
    receive: Receive,
    send: Send,
    content: bytes | None = None,
) -> None:
    """Let the application answer where an observer wants to see it, else answer as usual."""
    observations: list[Observation] = []
    for observer in _observers:
        seen = observations[-1].scope if observations else scope
        if (observation := _guarded(partial(observer.begin, fast_path, seen))) is not None:
            observations.append(observation)
    if not observations:
        await answer_get(fast_path, plain, scope, receive, send, content)
        return
    try:
        longest = fast_path.service.settings.cache_max_body_bytes
        copy = _Copy(send, longest, [observation.sent for observation in observations])
        service, cache, seen = fast_path.service, fast_path.cache, observations[-1].scope
        reading = GetResponder(service, cache, seen, receive, copy.send)
        reading.content = content
        await _ask(reading, observations, copy)
    finally:
        for observation in reversed(observations):
            _guarded(observation.close)


def _guarded(call: Callable[[], Result]) -> Result | None:
    """Call an observer, whose failure breaks no answer."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is told of
        tell_of_failure(error)
        return None


async def _ask(reading: GetResponder, observations: list[Observation], copy: "_Copy") -> None:
    """Look a request up, call the application whatever is stored, and tell the observers."""
    reason = await admit(reading)
    for observation in observations:
        _guarded(observation.admitted)
    if reason is not None:
        await reading.bypass(reason)
        return
    cache, target = reading.cache, reading.target
    key = target.key(reading.request.all_parts())
    near = cache.nearby(target, key, reading.headers)
    decision: Decision | None = None if near is None else await reading.hit_of(near)
    try:
        if decision is None:
            reading.found = await cache.lookup(target, key, reading.headers)
            decision = reading.decide()
    except StoreUnavailableError:
        await reading.bypass(Bypass.STORE_AWAY)
        return
    if isinstance(decision, OnlyIfCached):
        await reading.answer(reading.found)
        return
    # Without the conditions of a stored response, which may answer in the application's place.
    forward = Forward(reason=decision.reason if isinstance(decision, Forward) else "bypass")
    target.counts.forwards[forward.reason] += 1
    exchange = exchange_of(reading, forward, None)
    await exchange.run()
    answered = Answered(
        reading=reading, decision=decision, capture=exchange.capture,
        status=copy.status, headers=copy.headers, body=copy.body,
    )  # fmt: skip
    for observation in observations:
        try:
            await observation.answered(answered)
        except Exception as error:  # noqa: BLE001 - its answer was sent
            tell_of_failure(error)


class _Copy:
    """Passes an answer on to the client, and keeps a copy.

    Args:
        send: of the client.
        longest: bytes of a body that is kept.
        at_end: called before the last piece is sent.
    """

    def __init__(self, send: Send, longest: int, at_end: Sequence[Callable[[], None]]) -> None:
        self._send: Final = send
        self._longest: Final = longest
        self._at_end: Final = at_end
        self._pieces: list[bytes] | None = []
        self._size = 0
        self.status = 0
        self.headers = Headers()

    @property
    def body(self) -> bytes | None:
        """The body; None: it was too long."""
        return None if self._pieces is None else b"".join(self._pieces)

    async def send(self, message: Message) -> None:
        """Copy a message, and pass it on."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], Headers.copied(message["headers"])
        elif message["type"] == "http.response.body":
            self._add(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                for end in self._at_end:
                    _guarded(end)
        await self._send(message)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._longest:
            self._pieces = None
        elif self._pieces is not None:
            self._pieces.append(piece)
