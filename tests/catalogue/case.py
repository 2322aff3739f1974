"""What a case is: something attacked or broken, what must come of it, and where that is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.catalogue.bench import Bench
from tests.support.raw_http import HeaderInput, RawResponse

Recorder = Callable[[str, object], None]
Play = Callable[[Bench], None]
"""Does what the case describes, and raises AssertionError where it does not come out so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack or fault."""

    id: str
    area: str
    what: str
    """What is attacked or broken, for the table."""
    expected: str
    """What must come of it, for the table."""
    reference: str
    """RFC clause, CVE, paper or page that says why."""
    play: Play
    nodes: int = 1
    """How many nodes it takes at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One request and what its answer must be; `{run}` in the target stands for the case's own
    path, so that no case sees what another one has stored.
    """

    target: str
    method: str = "GET"
    headers: HeaderInput = ()
    body: bytes = b""
    raw: bytes | None = None
    """The whole request as bytes, in place of all the above; `{run}` is replaced."""
    status: int | Sequence[int] | None = 200
    shows: str | None = None
    """What the body must hold."""
    hides: str | None = None
    """What neither the body nor a header may hold."""
    hit: bool | None = None
    """Whether the answer must come from the store; None: it may."""
    stored: bool | None = None
    """Whether the answer must be stored, by its Cache-Status."""
    has: tuple[tuple[str, str], ...] = field(default=())
    """Header fields that the answer must have, with these values."""
    lacks: tuple[str, ...] = ()
    """Header fields that the answer must not have."""

    def check(self, answer: RawResponse) -> None:
        """Compare the answer with what it must be."""
        allowed = (self.status,) if isinstance(self.status, int) else self.status
        assert allowed is None or answer.status in allowed, answer
        said = answer.header("cache-status") or b""
        assert self.shows is None or self.shows.encode() in answer.body, answer
        whole = answer.body + b"\n" + b"\n".join(b"%b: %b" % line for line in answer.headers)
        assert self.hides is None or self.hides.encode() not in whole, answer
        assert self.hit is None or (b"; hit" in said) == self.hit, answer
        assert self.stored is None or (b"; stored" in said) == self.stored, answer
        for name, value in self.has:
            assert value.encode() in answer.headers_named(name), (name, answer)
        for name in self.lacks:
            assert answer.header(name) is None, (name, answer)


def get(target: str, headers: HeaderInput = (), **more: Any) -> Send:
    """A GET, and what its answer must be."""
    return Send(target=target, headers=headers, **more)


def raw(text: bytes, **more: Any) -> Send:
    """Exact bytes, and what their answer must be."""
    return Send(target="", raw=text, **more)


def script(*steps: Send) -> Play:
    """Send one request after the other, each to the next node, and check every answer."""

    def play(bench: Bench) -> None:
        for number, step in enumerate(steps):
            answer = bench.send(
                number, step.method, step.target, step.headers, step.body, raw=step.raw
            )
            step.check(answer)
            if len(bench.nodes) > 1:  # a node finds by itself what waits to be written
                bench.settle()

    return play


def noted(record: Recorder, case: Case, bench: Bench) -> None:
    """Tell the report which case is played where."""
    record("area", case.area)
    record("case", case.id)
    record("setup", bench.setup)
