"""One question, spread over the nodes of a cluster: whom to ask what, and what the answers mean.

The rounds are the same for both halves, so that nothing here sends anything: each function yields
the packets of a round, which are to be sent side by side and carry their answers afterwards.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final, TypeVar, final

from redis.exceptions import AskError, MovedError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import (
    Begin,
    Command,
    Fetched,
    Plan,
    creation,
    is_replicated,
)
from maxage.redis_store.servers.node import Node, describe
from maxage.redis_store.servers.topology import Cluster
from maxage.store.tokens import belongs

T = TypeVar("T")
Rounds = Generator[list["Packet"], None, T]

_ASKING: Final[Command] = ("ASKING",)
_UNANSWERED: Final = StoreUnavailableError("a part of the store is away")
_Answers = list[tuple[bytes, Any]]
"""For each key the history of the server that answered, and its answer."""


@final
class Packet:
    """What one node is asked in one round, and what it answered."""

    def __init__(
        self, node: Node, positions: Sequence[int], plan: Plan, *, asking: bool = False
    ) -> None:
        self.node: Final = node
        self.positions: Final = positions
        self.asking: Final = asking
        self.history = b""
        self.was_answered = False
        self.answers: Sequence[Any] = [_UNANSWERED] * len(positions)
        """One for each position."""
        self._plan = plan

    def commands(self, history: bytes) -> list[Command]:
        """Return the commands, and note the history of the server that they go to."""
        self.history = history
        commands = [self._plan(position, history) for position in self.positions]
        if not self.asking:
            return commands
        # It counts for the one command after it.
        return [each for command in commands for each in (_ASKING, command)]

    def take(self, answers: Sequence[Any]) -> None:
        """Note the answers, of which a last one may be that to WAIT."""
        self.was_answered = True
        count = len(self.positions) * (2 if self.asking else 1)
        if len(answers) > count and not is_replicated(answers[-1]):
            return
        self.answers = answers[1:count:2] if self.asking else answers[:count]


def running(cluster: Cluster, keys: Sequence[bytes], plan: Plan) -> Rounds[list[Any]]:
    """Send one command for each key; return the answers, errors included."""
    answers = yield from _asked(cluster, keys, plan)
    return [answer for _, answer in answers]


def fetching(
    cluster: Cluster,
    keys: Sequence[bytes],
    token_keys: Sequence[bytes],
    begin: Begin,
) -> Rounds[Fetched]:
    """Read values and tokens, and create the tokens that are missing.

    Raises:
        StoreUnavailableError: not every node that was needed gave a proper answer.
    """
    found = yield from _read(cluster, [*keys, *token_keys])
    values = [value for _, value in found[: len(keys)]]
    tokens = [token if belongs(token, history) else None for history, token in found[len(keys) :]]
    lacking = [i for i, token in enumerate(tokens) if token is None]
    if lacking:
        present = [(token_keys[i], found[len(keys) + i][1]) for i in lacking]
        created = yield from _created(cluster, present, begin)
        for i, token in zip(lacking, created, strict=True):
            tokens[i] = token
    return values, tokens


def _created(
    cluster: Cluster, present: Sequence[tuple[bytes, bytes | None]], begin: Begin
) -> Rounds[list[bytes | None]]:
    """Create tokens, given their keys and what lies there, and read them as they are then."""
    keys = [key for key, _ in present]
    yield from _asked(cluster, keys, lambda i, history: creation(*present[i], history, begin))
    found = yield from _read(cluster, keys)
    return [token if belongs(token, history) else None for history, token in found]


def _read(cluster: Cluster, keys: Sequence[bytes]) -> Rounds[list[tuple[bytes, bytes | None]]]:
    """Return what lies under each key, with the history of the server where it lies."""
    answers = yield from _asked(cluster, keys, lambda i, _: ("GET", keys[i]), reading=True)
    return [(history, _string(answer)) for history, answer in answers]


def _asked(
    cluster: Cluster, keys: Sequence[bytes], plan: Plan, *, reading: bool = False
) -> Rounds[_Answers]:
    """Ask each key's node, and where it is redirected to, once."""
    told: _Answers = [(b"", _UNANSWERED)] * len(keys)
    first = _grouped((cluster.node_for(key), False, i) for i, key in enumerate(keys))
    packets = [Packet(node, positions, plan) for (node, _), positions in first.items()]
    yield packets
    _note(packets, told, reading=reading)
    moved = [
        (cluster.redirected(answer, by=packet.node), not isinstance(answer, MovedError), position)
        for packet in packets
        for position, answer in zip(packet.positions, packet.answers, strict=True)
        if isinstance(answer, AskError)
    ]
    if moved:
        packets = [
            Packet(node, positions, plan, asking=asking)
            for (node, asking), positions in _grouped(moved).items()
        ]
        yield packets
        _note(packets, told, reading=reading)
    return told


def _grouped(
    places: Iterable[tuple[Node | None, bool, int]],
) -> dict[tuple[Node, bool], list[int]]:
    groups: dict[tuple[Node, bool], list[int]] = {}
    for node, asking, position in places:
        if node is not None:
            groups.setdefault((node, asking), []).append(position)
    return groups


def _note(packets: Sequence[Packet], told: _Answers, *, reading: bool) -> None:
    """Put answers in their places, and count what they show of their nodes."""
    for packet in packets:
        if packet.was_answered:
            refused = (a for a in packet.answers if isinstance(a, Exception) and not _is_told(a))
            error = next(refused, None) if reading else None
            if error is None:
                packet.node.succeeded()
            else:
                packet.node.failed(error)
        for position, answer in zip(packet.positions, packet.answers, strict=True):
            told[position] = (packet.history, answer)


def _is_told(error: Exception) -> bool:
    """Return whether the error says where, or what, the value is: the node is well."""
    return isinstance(error, AskError) or str(error).startswith("WRONGTYPE")


def _string(answer: object) -> bytes | None:
    """Return the answer to GET; a value of another type counts as none.

    Raises:
        StoreUnavailableError: it is none.
    """
    if isinstance(answer, bytes | None):
        return answer
    if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
        return None
    if answer is _UNANSWERED:
        raise StoreUnavailableError(*_UNANSWERED.args)
    raise StoreUnavailableError(describe(answer) if isinstance(answer, Exception) else "no value")
