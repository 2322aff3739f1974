"""Rounds on a cluster: which master gets which command, and what their answers mean."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import AskError, InvalidResponse, MovedError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Begin, Command, Fetched, Plan, creation
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.packet import UNANSWERED, Check, Packet, Rounds
from maxage.redis_store.servers.topology import Cluster
from maxage.store.tokens import belongs

_ASKING: Final[Command] = ("ASKING",)
"""It counts for the one command after it."""
_Answers = list[tuple[bytes, Any]]
"""For each key the history of the server that answered, and its answer."""


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
    """Create tokens, given their keys and present values; return the tokens after that."""
    keys = [key for key, _ in present]
    yield from _asked(cluster, keys, lambda i, history: creation(*present[i], history, begin))
    found = yield from _read(cluster, keys)
    return [token if belongs(token, history) else None for history, token in found]


def _read(cluster: Cluster, keys: Sequence[bytes]) -> Rounds[list[tuple[bytes, bytes | None]]]:
    """Return the value of each key, with the history of its server."""
    answers = yield from _asked(cluster, keys, lambda i, _: ("GET", keys[i]), check=_check_gets)
    return [(history, _string(answer)) for history, answer in answers]


def _asked(
    cluster: Cluster, keys: Sequence[bytes], plan: Plan, *, check: Check | None = None
) -> Rounds[_Answers]:
    """Ask the master of each key, and once more the server that a redirection names."""
    told: _Answers = [(b"", UNANSWERED)] * len(keys)
    places = _grouped((cluster.node_for(key), False, i) for i, key in enumerate(keys))
    for is_last in (False, True):
        packets = [_packet(node, asking, at, plan, check) for (node, asking), at in places.items()]
        yield packets
        moved: list[tuple[Node | None, bool, int]] = []
        for packet, ((_, asking), positions) in zip(packets, places.items(), strict=True):
            answers = packet.answers or ()
            for position, answer in zip(positions, answers[asking :: 1 + asking], strict=False):
                told[position] = (packet.history, answer)
                if isinstance(answer, AskError) and not is_last:
                    node = cluster.redirected(answer, by=packet.node)
                    moved.append((node, not isinstance(answer, MovedError), position))
        places = _grouped(moved)
        if not places:
            break
    return told


def _packet(
    node: Node, asking: bool, positions: Sequence[int], plan: Plan, check: Check | None
) -> Packet:
    """Return the packet of a server for some positions of a plan.

    Where the server only takes the keys over (`asking`), each command follows an ASKING.
    """

    def commands(history: bytes) -> list[Command]:
        planned = [plan(position, history) for position in positions]
        return [each for one in planned for each in (_ASKING, one)] if asking else planned

    return Packet(node, commands, check)


def _grouped(
    places: Iterable[tuple[Node | None, bool, int]],
) -> dict[tuple[Node, bool], list[int]]:
    groups: dict[tuple[Node, bool], list[int]] = {}
    for node, asking, position in places:
        if node is not None:
            groups.setdefault((node, asking), []).append(position)
    return groups


def _check_gets(answers: list[Any]) -> list[Any]:
    """Return the answers; raise the first one that shows a broken server."""
    for answer in answers:
        if not isinstance(answer, bytes | AskError | None) and not _is_foreign(answer):
            raise answer if isinstance(answer, ResponseError) else InvalidResponse("no value")
    return answers


def _is_foreign(answer: object) -> bool:
    """Return whether the key has a value of another type."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def _string(answer: object) -> bytes | None:
    """Return the answer to GET; a value of another type counts as none.

    Raises:
        StoreUnavailableError: there was no answer, or a second redirection.
    """
    if isinstance(answer, bytes | None):
        return answer
    if _is_foreign(answer):
        return None
    raise StoreUnavailableError(*UNANSWERED.args)
