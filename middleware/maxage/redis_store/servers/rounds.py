"""The rounds of a question: read values and tokens, or run one command for each key."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers import cluster_routing
from maxage.redis_store.servers.commands import (
    Begin,
    Command,
    Fetched,
    Plan,
    as_written,
    creation,
    strings,
)
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.packet import UNANSWERED, Packet, Rounds
from maxage.redis_store.servers.topology import Cluster, Topology
from maxage.store.tokens import belongs


def fetching(
    topology: Topology, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
) -> Rounds[Fetched]:
    """Read values and tokens in one round trip; create missing tokens in a second one.

    Args:
        topology: the servers.
        keys: of the values.
        token_keys: of the tokens.
        begin: is told of each token that is created.

    Raises:
        StoreUnavailableError: a server that was needed gave no proper answer.
    """
    if isinstance(topology, Cluster):
        return cluster_routing.fetching(topology, keys, token_keys, begin)
    return _fetching(topology.nodes[0], keys, token_keys, begin)


def running(topology: Topology, keys: Sequence[bytes], plan: Plan) -> Rounds[Sequence[Any]]:
    """Run one command for each key.

    Returns:
        The answers, errors included; `UNANSWERED` where there was none, or no replica confirmed it.
    """
    if isinstance(topology, Cluster):
        return cluster_routing.running(topology, keys, plan)
    return _running(topology.nodes[0], keys, plan)


def _running(node: Node, keys: Sequence[bytes], plan: Plan) -> Rounds[Sequence[Any]]:
    packet = Packet(node, range(len(keys)), plan)
    yield [packet]
    return packet.answers


def _fetching(
    node: Node, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
) -> Rounds[Fetched]:
    asked = [("MGET", *keys, *token_keys)]
    check = partial(_check_mget, len(keys) + len(token_keys))
    packet = Packet(node, (0,), as_written(asked), check=check)
    yield [packet]
    answer, history = _answer(packet), packet.history
    values, tokens = answer[: len(keys)], answer[len(keys) :]
    lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
    if lacking:
        present = [(token_keys[i], tokens[i]) for i in lacking]
        created = yield from _creating(node, present, begin)
        for i, token in zip(lacking, created, strict=True):
            tokens[i] = token
    return values, tokens


def _creating(
    node: Node, present: Sequence[tuple[bytes, bytes | None]], begin: Begin
) -> Rounds[list[bytes | None]]:
    """Create tokens, given their keys and present values, and read them in the same round trip."""
    count = len(present)

    def plan(position: int, history: bytes) -> Command:
        if position == count:
            return ("MGET", *(key for key, _ in present))
        return creation(*present[position], history, begin)

    packet = Packet(node, range(count + 1), plan, check=partial(_check_created, count))
    yield [packet]
    if isinstance(packet.answers[-1], ResponseError):
        return [None] * count
    tokens = _answer(packet)
    return [token if belongs(token, packet.history) else None for token in tokens]


def _check_mget(count: int, answers: Sequence[Any]) -> None:
    strings(answers[-1], count)


def _check_created(count: int, answers: Sequence[Any]) -> None:
    if not isinstance(answers[-1], ResponseError):
        strings(answers[-1], count)


def _answer(packet: Packet) -> list[bytes | None]:
    """Return the checked answer to the MGET that ends the packet."""
    answer: Any = packet.answers[-1]
    if answer is UNANSWERED:
        raise StoreUnavailableError(*UNANSWERED.args)
    checked: list[bytes | None] = answer
    return checked
