"""The servers of a store: a single one, or the masters of a Redis Cluster."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Sequence
from typing import Any, Final, Protocol, final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, InvalidResponse, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.redis_options import RedisCredentials
from maxage.redis_store.servers.node import UNMET, Node, Owner
from maxage.redis_store.servers.sentinel import Sentinels
from maxage.redis_url import ServerGroup, redis_py_url, server_group
from maxage.store.fork_safe import fork_safe_lock

Address = tuple[str, int]


class Topology(Protocol):
    """The servers that take writes, and the one that stores each key."""

    @property
    def nodes(self) -> Sequence[Node]:
        """All known servers; the same object as long as they stay the same."""
        ...

    @property
    def is_untried(self) -> bool:
        """Whether `learn` was never called."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether no sign of other servers came since `learn`."""
        ...

    def node_for(self, key: bytes) -> Node | None:
        """Return the server that stores the key; None: no known server does."""
        ...

    def learn(self, timeout: float) -> None:
        """Ask which servers there are.

        Args:
            timeout: seconds that each server asked may take.

        Raises:
            RedisError, OSError: no server tells.
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

    def learn(self, timeout: float) -> None:
        """Ask the sentinels whether another server has become the primary.

        Each new connection asks too. Existing connections need this: a deposed primary takes writes
        until its sentinels reach it, seconds after they have named the new one.
        """
        if self._sentinels is None:
            return
        try:
            named = self._sentinels.primary(timeout)
        except RedisError:
            # Without sentinels, existing connections stay in use.
            return
        if self._named not in (None, named):
            self.nodes[0].replaced()
        self._named = named


@final
class Cluster:
    """The masters of a Redis Cluster; safe to use from several threads.

    A new master took over from another one and may lack our last purges, so it is treated like a
    server whose history changed. A slot that moves between two known masters loses nothing: its
    tokens move too, and count as missing on the new master.
    """

    def __init__(
        self, group: ServerGroup, owner: Owner, credentials: RedisCredentials | None = None
    ) -> None:
        self.nodes: Sequence[Node] = ()
        self.is_current = False
        self.is_untried = True
        self._group: Final = group
        self._owner: Final = owner
        self._credentials: Final = credentials
        self._learning: Final = fork_safe_lock()
        self._lock: Final = fork_safe_lock()
        self._best_informed = group.hosts[0]
        self._by_address: dict[Address, Node] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS

    def node_for(self, key: bytes) -> Node | None:
        """Return the master of the key's slot."""
        node = self._owners[key_slot(key)]
        if node is None:
            self.is_current = False
            self._owner.recover()
        return node

    def learn(self, timeout: float) -> None:
        """Ask one node after the other for the masters of all slots, the best informed first."""
        with self._learning:
            self.is_current = True
            for seed in self._seeds():
                try:
                    self._take(seed, self._ask(seed, timeout))
                except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError):
                    # An invalid reply included: the next node is asked.
                    continue
                self._best_informed, self.is_untried = seed, False
                return
            self.is_current = self.is_untried = False
        raise RedisConnectionError("no node tells the masters of the slots")

    def redirected(self, error: AskError, *, by: Node) -> Node:
        """Return the node that a redirection names; after MOVED it is the master of the slot."""
        with self._lock:
            address = self._address_of(by)
            node = self._node_at((error.host or address[0], error.port))
            has_moved = isinstance(error, MovedError)
            if node not in self.nodes:
                # A node that is still importing a slot is no master. The tuple is a new one all the
                # same, so that the near cache notices that keys lie elsewhere.
                self.nodes = tuple([*self.nodes, node] if has_moved else [*self.nodes])
            if has_moved and self._owners[error.slot_id] is not node:
                self._owners[error.slot_id] = node
                # A node that redirects knows the newest masters.
                self._best_informed, self.is_current = address, False
        if not self.is_current:
            self._owner.recover()
        return node

    def _seeds(self) -> list[Address]:
        with self._lock:
            seeds = list(
                dict.fromkeys((self._best_informed, *self._by_address, *self._group.hosts))
            )
            away = {a for a, node in self._by_address.items() if node.breaker.open}
        return sorted(seeds, key=lambda address: address in away)

    def _ask(self, seed: Address, timeout: float) -> Any:
        url = self._group.server_url(*seed)
        node = Node(url, self._owner, credentials=self._credentials)
        (slots,) = node.send([("CLUSTER", "SLOTS")], timeout)
        if isinstance(slots, Exception):
            raise slots
        return slots

    def _take(self, seed: Address, slots: Any) -> None:
        """Note the master of each slot, as one node tells it."""
        ranges = [
            # A node without a host is the one that was asked.
            (int(first), int(last), (host.decode() if host else seed[0], int(port)))
            for first, last, (host, port, *_), *_ in slots
        ]
        if not ranges or any(not 0 <= a <= z < REDIS_CLUSTER_HASH_SLOTS for a, z, _ in ranges):
            raise InvalidResponse("the answer is not that to CLUSTER SLOTS")
        with self._lock:
            owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, address in ranges:
                owners[first : last + 1] = [self._node_at(address)] * (last + 1 - first)
            before = self.nodes
            nodes = tuple(dict.fromkeys(node for node in owners if node is not None))
            if set(nodes) != set(before):
                # First: a request that meets the new masters must see the new tuple.
                self.nodes = nodes
            self._owners = owners
            # A master that lost its slots is forgotten: if it comes back, it has taken over. A node
            # without slots stays, since it may be about to get its first one.
            gone = set(before) - set(nodes)
            self._by_address = {a: n for a, n in self._by_address.items() if n not in gone}

    def _node_at(self, address: Address) -> Node:
        node = self._by_address.get(address)
        if node is None:
            history = UNMET if self.nodes else None
            url = self._group.server_url(*address)
            node = Node(
                url,
                self._owner,
                credentials=self._credentials,
                is_in_cluster=True,
                history=history,
            )
            self._by_address[address] = node
        return node

    def _address_of(self, node: Node) -> Address:
        known = (address for address, n in self._by_address.items() if n is node)
        return next(known, self._group.hosts[0])


def topology_for(url: str, owner: Owner, credentials: RedisCredentials | None = None) -> Topology:
    """Return the topology that a checked URL names; no server is asked yet.

    Args:
        url: as in `REDIS_URL`.
        owner: is told what happens to the servers.
        credentials: returns the password for each connection to a server, but not to sentinels.
    """
    group = server_group(url)
    if group is None:
        return Single(Node(redis_py_url(url), owner, credentials=credentials))
    if group.kind == "cluster":
        return Cluster(group, owner, credentials)
    sentinels = Sentinels(group)
    node = Node(sentinels.placeholder_url, owner, credentials=credentials, sentinels=sentinels)
    return Single(node, sentinels)
