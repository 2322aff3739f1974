"""Which server keeps which key: one server by itself, or the masters of a Redis Cluster."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol, final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, InvalidResponse, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.redis_store.servers.node import UNMET, Node, Owner
from maxage.redis_store.servers.sentinel import Sentinels
from maxage.redis_url import ServerGroup, redis_py_url, server_group

Address = tuple[str, int]


class Topology(Protocol):
    """The servers that take writes, and which of them keeps a key."""

    @property
    def nodes(self) -> Sequence[Node]:
        """All of them, as far as they are known; the same object as long as nothing changes."""
        ...

    @property
    def is_untried(self) -> bool:
        """Whether nobody has tried yet to learn them."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether nothing has shown that servers have changed since they were learned."""
        ...

    def node_for(self, key: bytes) -> Node | None:
        """Return the server that keeps the key; None: nobody does, as far as is known."""
        ...

    def after_fork(self) -> None:
        """Begin anew in a forked process, whose parent may have held any lock."""
        ...

    def learn(self, timeout: float) -> None:
        """Ask which servers there are.

        Args:
            timeout: seconds that each server asked may take.

        Raises:
            RedisError, OSError: nobody tells.
        """
        ...


@final
class Single:
    """One server, found by its address or by asking sentinels."""

    def __init__(self, node: Node, sentinels: Sentinels | None = None) -> None:
        self.nodes: Final[Sequence[Node]] = (node,)
        self.is_current: Final = True
        self.is_untried: Final = False
        self._sentinels: Final = sentinels
        self._named: Address | None = None

    def node_for(self, key: bytes) -> Node | None:
        """Return the server."""
        del key
        return self.nodes[0]

    def after_fork(self) -> None:
        """Do nothing: there is no lock."""

    def learn(self, timeout: float) -> None:
        """Ask the sentinels whether another server has become the primary.

        Each new connection asks too. This is for those that are there: an old primary takes writes
        until its sentinels have reached it, seconds after they have told everybody else.
        """
        if self._sentinels is None:
            return
        try:
            named = self._sentinels.primary(timeout)
        except RedisError:
            # Whoever is connected stays so while there are no sentinels.
            return
        if self._named not in (None, named):
            self.nodes[0].replaced()
        self._named = named


@final
class Cluster:
    """The masters of a Redis Cluster; safe to use from several threads.

    A master that was not known before took over from another one, which may have lost our last
    purges; it is met like a server whose history changed. A slot that moves between two known
    masters loses nothing: its tokens move too, and count as missing where they come to lie.
    """

    def __init__(self, group: ServerGroup, owner: Owner) -> None:
        self.nodes: Sequence[Node] = ()
        self.is_current = False
        self.is_untried = True
        self._group: Final = group
        self._owner: Final = owner
        self.after_fork()
        self._teller = group.hosts[0]
        self._by_address: dict[Address, Node] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS

    def after_fork(self) -> None:
        """Begin anew in a forked process, whose parent may have held any lock."""
        self._learning = threading.Lock()
        self._lock = threading.Lock()

    def node_for(self, key: bytes) -> Node | None:
        """Return the master of the key's slot."""
        node = self._owners[key_slot(key)]
        if node is None:
            self.is_current = False
            self._owner.recover()
        return node

    def learn(self, timeout: float) -> None:
        """Ask one node after the other for all slots, those that are likely to know first."""
        with self._learning:
            self.is_current = True
            for seed in self._seeds():
                try:
                    self._take(seed, self._ask(seed, timeout))
                except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError):
                    # Garbage too: the next one is asked.
                    continue
                self._teller, self.is_untried = seed, False
                return
            self.is_current = self.is_untried = False
        raise RedisConnectionError("no node tells who keeps which slot")

    def redirected(self, error: AskError, *, by: Node) -> Node:
        """Return the node that an answer names; after MOVED it is the owner of the slot."""
        with self._lock:
            address = self._address_of(by)
            node = self._known((error.host or address[0], error.port))
            has_moved = isinstance(error, MovedError)
            if node not in self.nodes:
                # One that only takes over a slot yet is none of them. It is another object all the
                # same: whoever listens to all of them notices that something lies elsewhere.
                self.nodes = tuple([*self.nodes, node] if has_moved else [*self.nodes])
            if has_moved and self._owners[error.slot_id] is not node:
                self._owners[error.slot_id] = node
                # Who redirects knows more than others do.
                self._teller, self.is_current = address, False
        if not self.is_current:
            self._owner.recover()
        return node

    def _seeds(self) -> list[Address]:
        with self._lock:
            seeds = list(dict.fromkeys((self._teller, *self._by_address, *self._group.hosts)))
            away = {a for a, node in self._by_address.items() if node.breaker.open}
        return sorted(seeds, key=lambda address: address in away)

    def _ask(self, seed: Address, timeout: float) -> Any:
        node = Node(self._group.server_url(*seed), self._owner)
        (slots,) = node.ask([("CLUSTER", "SLOTS")], timeout)
        if isinstance(slots, Exception):
            raise slots
        return slots

    def _take(self, seed: Address, slots: Any) -> None:
        """Note who keeps which slot, as one node told it."""
        ranges = [
            # A node without a name is the one that was asked.
            (int(first), int(last), (host.decode() if host else seed[0], int(port)))
            for first, last, (host, port, *_), *_ in slots
        ]
        if not ranges or any(not 0 <= a <= z < REDIS_CLUSTER_HASH_SLOTS for a, z, _ in ranges):
            raise InvalidResponse("the answer is not that to CLUSTER SLOTS")
        with self._lock:
            owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, address in ranges:
                owners[first : last + 1] = [self._known(address)] * (last + 1 - first)
            before = self.nodes
            nodes = tuple(dict.fromkeys(node for node in owners if node is not None))
            if set(nodes) != set(before):
                # Before anybody is asked by the new owners.
                self.nodes = nodes
            self._owners = owners
            # Who keeps no slot any more is forgotten: if it comes back, it has taken over. Who has
            # none yet may be about to get its first one.
            gone = set(before) - set(nodes)
            self._by_address = {a: n for a, n in self._by_address.items() if n not in gone}

    def _known(self, address: Address) -> Node:
        node = self._by_address.get(address)
        if node is None:
            history = UNMET if self.nodes else None
            url = self._group.server_url(*address)
            node = Node(url, self._owner, is_in_cluster=True, history=history)
            self._by_address[address] = node
        return node

    def _address_of(self, node: Node) -> Address:
        known = (address for address, n in self._by_address.items() if n is node)
        return next(known, self._group.hosts[0])


def topology_for(url: str, owner: Owner) -> Topology:
    """Return the topology that a checked URL names; nothing is asked yet."""
    group = server_group(url)
    if group is None:
        return Single(Node(redis_py_url(url), owner))
    if group.kind == "cluster":
        return Cluster(group, owner)
    sentinels = Sentinels(group)
    node = Node(sentinels.placeholder_url, owner, sentinels=sentinels)
    return Single(node, sentinels)
