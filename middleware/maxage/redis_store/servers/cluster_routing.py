"""Rounds on a cluster: which master gets which command, and what their answers mean."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import AskError, InvalidResponse, MovedError, ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import (
    Begin,
    Claim,
    Claims,
    Command,
    Created,
    Lacking,
    Plan,
    Read,
    claim_commands,
    creation,
)
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.packet import UNANSWERED, Packet, Rounds
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


def reading(
    cluster: Cluster,
    keys: Sequence[bytes],
    token_keys: Sequence[bytes],
    claims: Sequence[Claim],
) -> Rounds[Read]:
    """Read values and tokens, and make claims.

    Raises:
        StoreUnavailableError: not every node that was needed gave a proper answer.
    """
    reads = [*keys, *token_keys]
    commands: list[Command] = [("GET", key) for key in reads]
    for command in claim_commands(claims):
        commands += (command, ("GET", command[1]))
    answers = yield from _asked(
        cluster, [command[1] for command in commands], lambda i, _: commands[i], reads=len(reads)
    )
    found = [(history, _string(answer)) for history, answer in answers[: len(reads)]]
    values = [value for _, value in found[: len(keys)]]
    tokens = [token if belongs(token, history) else None for history, token in found[len(keys) :]]
    lacking = {
        i: Lacking(token_keys[i], found[len(keys) + i][1], found[len(keys) + i][0])
        for i, token in enumerate(tokens)
        if token is None
    }
    claimed = [_value(answer) for _, answer in answers[len(reads) + 1 :: 2]]
    return Read(values, tokens, lacking, claimed)


def creating(
    cluster: Cluster, lacking: Sequence[Lacking], begin: Begin, claims: Claims
) -> Rounds[Created]:
    """Create tokens, make claims, and read both.

    Raises:
        StoreUnavailableError: not every node that was needed answered.
    """
    # The key of a claim names tokens, and its slot must be known before anything is sent.
    drawn = {i: creation(one, one.history, begin) for i, one in enumerate(lacking)}
    made = claims([command[2] for command in drawn.values()])
    claimed = claim_commands(made)
    keys = [one.key for one in lacking] + [key for key, _ in made]

    def plan(position: int, history: bytes) -> Command:
        i, reads = divmod(position, 2)
        if reads:
            return ("GET", keys[i])
        if i >= len(lacking):
            return claimed[i - len(lacking)]
        # Each attempt writes a value of its own, of the history of the server that gets it.
        first = drawn.pop(i, None)
        if first is not None and history == lacking[i].history:
            return first
        return creation(lacking[i], history, begin)

    pairs = [key for key in keys for _ in range(2)]
    answers = (yield from _asked(cluster, pairs, plan))[1::2]
    tokens = [(history, _string(answer)) for history, answer in answers[: len(lacking)]]
    return Created(
        [token if belongs(token, history) else None for history, token in tokens],
        [_value(answer) for _, answer in answers[len(lacking) :]],
    )


def _asked(
    cluster: Cluster, keys: Sequence[bytes], plan: Plan, *, reads: int = 0
) -> Rounds[_Answers]:
    """Ask the master of each key, and once more the server that a redirection names.

    So many commands at the beginning are `reads`: GETs whose answers tell a broken server. A full
    one refuses the claims behind them, and still answers reads.
    """
    told: _Answers = [(b"", UNANSWERED)] * len(keys)
    places = _grouped((cluster.node_for(key), False, i) for i, key in enumerate(keys))
    for is_last in (False, True):
        packets = [_packet(node, asking, at, plan, reads) for (node, asking), at in places.items()]
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


def _packet(node: Node, asking: bool, positions: Sequence[int], plan: Plan, reads: int) -> Packet:
    """Return the packet of a server for some positions of a plan.

    Where the server only takes the keys over (`asking`), each command follows an ASKING.
    """

    def commands(history: bytes) -> list[Command]:
        planned = [plan(position, history) for position in positions]
        return [each for one in planned for each in (_ASKING, one)] if asking else planned

    def check(answers: list[Any]) -> list[Any]:
        told = zip(positions, answers[asking :: 1 + asking], strict=False)
        _check_gets([answer for position, answer in told if position < reads])
        return answers

    return Packet(node, commands, check if reads else None)


def _grouped(
    places: Iterable[tuple[Node | None, bool, int]],
) -> dict[tuple[Node, bool], list[int]]:
    groups: dict[tuple[Node, bool], list[int]] = {}
    for node, asking, position in places:
        if node is not None:
            groups.setdefault((node, asking), []).append(position)
    return groups


def _check_gets(answers: Sequence[Any]) -> None:
    """Raise the first answer that shows a broken server."""
    for answer in answers:
        if not isinstance(answer, bytes | AskError | None) and not _is_foreign(answer):
            raise answer if isinstance(answer, ResponseError) else InvalidResponse("no value")


def _is_foreign(answer: object) -> bool:
    """Return whether the key has a value of another type."""
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def _value(answer: object) -> bytes | None:
    """Return the answer to the GET of a claim; None where there is none."""
    return answer if isinstance(answer, bytes) else None


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
