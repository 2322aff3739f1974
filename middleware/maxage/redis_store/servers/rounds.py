"""The rounds of a question: read values and tokens, or run one command for each key."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers import cluster_routing
from maxage.redis_store.servers.commands import (
    Begin,
    Command,
    Fetched,
    Plan,
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
    packet = commanding(node, keys, plan)
    yield [packet]
    return answers_of(packet, len(keys))


def commanding(node: Node, keys: Sequence[bytes], plan: Plan) -> Packet:
    """Return the packet that runs one command for each key on one server."""
    positions = range(len(keys))
    return Packet(node, lambda history: [plan(position, history) for position in positions])


def answers_of(packet: Packet, count: int) -> Sequence[Any]:
    """Return the answers to `commanding`; see `running`."""
    return [UNANSWERED] * count if packet.answers is None else packet.answers


def _fetching(
    node: Node, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
) -> Rounds[Fetched]:
    packet = reading(node, keys, token_keys)
    yield [packet]
    return (yield from completing(packet, token_keys, begin))


def reading(node: Node, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Packet:
    """Return the packet that reads values and tokens from one server."""
    commands: list[Command] = [("MGET", *keys, *token_keys)]
    count = len(keys) + len(token_keys)
    return Packet(node, lambda _: commands, lambda answers: strings(answers[0], count))


def complete(packet: Packet, key_count: int) -> Fetched | None:
    """Return the values and tokens that `reading` read; None if it read less than all tokens."""
    found, history = packet.answers, packet.history
    if found is None:
        return None
    tokens = found[key_count:]
    for token in tokens:
        if not belongs(token, history):
            return None
    return found[:key_count], tokens


def completing(packet: Packet, token_keys: Sequence[bytes], begin: Begin) -> Rounds[Fetched]:
    """Return what `reading` read, after the missing tokens are created."""
    found, history = packet.answers, packet.history
    if found is None:
        raise StoreUnavailableError(*UNANSWERED.args)
    first_token = len(found) - len(token_keys)
    values, tokens = found[:first_token], found[first_token:]
    lacking = [i for i, token in enumerate(tokens) if not belongs(token, history)]
    if lacking:
        present = [(token_keys[i], tokens[i]) for i in lacking]
        created = yield from _creating(packet.node, present, begin)
        for i, token in zip(lacking, created, strict=True):
            tokens[i] = token
    return values, tokens


def _creating(
    node: Node, present: Sequence[tuple[bytes, bytes | None]], begin: Begin
) -> Rounds[list[bytes | None]]:
    """Create tokens, given their keys and present values, and read them in the same round trip."""

    def plan(history: bytes) -> list[Command]:
        creations = [creation(key, token, history, begin) for key, token in present]
        return [*creations, ("MGET", *(key for key, _ in present))]

    def check(answers: list[Any]) -> list[bytes | None]:
        if isinstance(answers[-1], ResponseError):
            return [None] * len(present)
        tokens = strings(answers[-1], len(present))
        return [token if belongs(token, packet.history) else None for token in tokens]

    packet = Packet(node, plan, check)
    yield [packet]
    if packet.answers is None:
        raise StoreUnavailableError(*UNANSWERED.args)
    return packet.answers
