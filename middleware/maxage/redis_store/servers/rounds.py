"""The rounds of a question: read values and tokens, or run one command for each key."""

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers import cluster_routing
from maxage.redis_store.servers.commands import (
    Begin,
    Claim,
    Claims,
    Command,
    Created,
    Fetched,
    Lacking,
    Plan,
    Read,
    claim_commands,
    creations,
    strings,
)
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.packet import UNANSWERED, Packet, Rounds
from maxage.redis_store.servers.topology import Cluster, Topology
from maxage.store.tokens import belongs

_NONE_LACKING: Final[dict[int, Lacking]] = {}


def fetching(
    topology: Topology, keys: Sequence[bytes], token_keys: Sequence[bytes], begin: Begin
) -> Rounds[Fetched]:
    """Read values and tokens in one round trip; create missing tokens in a second one.

    `begin` is told of each token that is created.

    Raises:
        StoreUnavailableError: a server that was needed gave no proper answer.
    """
    values, tokens, lacking, _ = yield from reading(topology, keys, token_keys)
    if lacking:
        created = yield from creating(topology, tuple(lacking.values()), begin, no_claims)
        for position, token in zip(lacking, created.tokens, strict=True):
            tokens[position] = token
    return values, tokens


def reading(
    topology: Topology,
    keys: Sequence[bytes],
    token_keys: Sequence[bytes],
    claims: Sequence[Claim] = (),
) -> Rounds[Read]:
    """Read values and tokens, and make claims, in one round trip.

    Raises:
        StoreUnavailableError: a server that was needed gave no proper answer.
    """
    if isinstance(topology, Cluster):
        return cluster_routing.reading(topology, keys, token_keys, claims)
    return _reading(topology.nodes[0], keys, token_keys, claims)


def _reading(
    node: Node, keys: Sequence[bytes], token_keys: Sequence[bytes], claims: Sequence[Claim]
) -> Rounds[Read]:
    packet = lookup(node, keys, token_keys, claims)
    yield [packet]
    return read_of(packet, keys, token_keys)


def lookup(
    node: Node, keys: Sequence[bytes], token_keys: Sequence[bytes], claims: Sequence[Claim] = ()
) -> Packet:
    """Return the packet that reads values and tokens from one server, and makes claims."""
    made = claim_commands(claims)
    reads = [*keys, *token_keys, *[key for key, _ in claims]]
    commands = [*made, ("MGET", *reads)]
    return Packet(node, lambda _: commands, lambda answers: strings(answers[-1], len(reads)))


def read_of(packet: Packet, keys: Sequence[bytes], token_keys: Sequence[bytes]) -> Read:
    """Return what `lookup` read.

    Raises:
        StoreUnavailableError: the server gave no proper answer.
    """
    found, history = packet.answers, packet.history
    if found is None:
        raise StoreUnavailableError(*UNANSWERED.args)
    first, end = len(keys), len(keys) + len(token_keys)
    tokens, lacking = found[first:end], _NONE_LACKING
    for token in tokens:
        if not belongs(token, history):
            lacking = {
                i: Lacking(token_keys[i], present, history)
                for i, present in enumerate(tokens)
                if not belongs(present, history)
            }
            tokens = [None if i in lacking else token for i, token in enumerate(tokens)]
            break
    return Read(found[:first], tokens, lacking, found[end:])


def no_claims(drawn: Sequence[bytes]) -> Sequence[Claim]:
    """Return no claims."""
    del drawn
    return ()


def creating(
    topology: Topology, lacking: Sequence[Lacking], begin: Begin, claims: Claims
) -> Rounds[Created]:
    """Create tokens, make claims, and read both, in one round trip.

    Raises:
        StoreUnavailableError: a server that was needed did not answer.
    """
    if isinstance(topology, Cluster):
        return cluster_routing.creating(topology, lacking, begin, claims)
    return _creating(topology.nodes[0], lacking, begin, claims)


def _creating(
    node: Node, lacking: Sequence[Lacking], begin: Begin, claims: Claims
) -> Rounds[Created]:
    count = len(lacking)
    keys = [one.key for one in lacking]

    def plan(history: bytes) -> list[Command]:
        commands = creations(lacking, history, begin)
        made = claims([command[2] for command in commands])
        commands += claim_commands(made)
        keys[count:] = [key for key, _ in made]
        return [*commands, ("MGET", *keys)]

    def check(answers: list[Any]) -> list[Any]:
        node.written(answers[:-1])
        refused = isinstance(answers[-1], ResponseError)
        return [None] * len(keys) if refused else strings(answers[-1], len(keys))

    packet = Packet(node, plan, check)
    yield [packet]
    if packet.answers is None:
        raise StoreUnavailableError(*UNANSWERED.args)
    read, history = packet.answers, packet.history
    tokens = [token if belongs(token, history) else None for token in read[:count]]
    return Created(tokens, read[count:])


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
