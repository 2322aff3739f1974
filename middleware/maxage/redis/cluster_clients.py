"""What `get_redis` and its twin give on a Redis Cluster: redis-py's clients, with the same manners.

`redis.RedisCluster` has the commands of `redis.Redis`; a command that names several keys needs them
in one slot, except `delete`, `exists`, `touch`, `unlink`, `mget_nonatomic` and `mset_nonatomic`.
Pipelines are sent side by side and are no transaction.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from typing import Any, Final, cast

import redis
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import ClusterPipeline as _AsyncClusterPipeline
from redis.asyncio.cluster import RedisCluster as _AsyncRedisCluster
from redis.asyncio.lock import Lock as AwaitableLock
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.cluster import ClusterPipeline as _ClusterPipeline
from redis.cluster import RedisCluster as _RedisCluster
from redis.exceptions import RedisClusterException
from redis.lock import Lock as BlockingLock
from redis.retry import Retry

from maxage.redis.away import AWAY, WAITING, note, pretended, refuse
from maxage.redis_store.servers.node import Node
from maxage.redis_store.shared_state import RedisState
from maxage.redis_url import ServerGroup

_UNREACHABLE: Final = ("Redis Cluster cannot be connected", "All slots are not covered")
"""How redis-py begins to say that the cluster is to blame, in an exception for all mistakes."""


class _Manners:
    """What both clients share: who is asked, and whether he is away."""

    redis_state: RedisState | None = None
    """What is known of the nodes; None while redis-py's own constructor asks for the commands."""

    @property
    def away(self) -> bool:
        """Whether no node answers, so that commands are answered without asking."""
        if self.redis_state is None or self.redis_state.topology.is_untried:
            # Nobody has asked yet: redis-py finds the nodes.
            return False
        return all(node.breaker.open for node in self.redis_state.nodes)

    def _is_away(self, args: tuple[Any, ...]) -> bool:
        node = self._node(args)
        return self.away or (node is not None and node.breaker.open)

    def _node(self, args: tuple[Any, ...]) -> Node | None:
        """Return the master that keeps the first key; None: it cannot be told that easily."""
        if self.redis_state is None:
            return None
        key = args[1] if len(args) > 1 else None
        if isinstance(key, str):
            key = key.encode()
        return self.redis_state.topology.node_for(key) if isinstance(key, bytes) else None

    def _blame(self, args: tuple[Any, ...], error: Exception) -> None:
        node = self._node(args)
        if node is not None:
            note(node, error)
        if self.redis_state is not None and isinstance(error, RedisClusterException):
            self.redis_state.recover()


class _Lock(BlockingLock):
    """A lock that is real or not at all."""

    def do_acquire(self, token: str) -> bool:
        """Take the lock unless somebody has it; raise where the answer is made up."""
        milliseconds = int(self.timeout * 1000) if self.timeout else None
        taken: Any = self.redis.set(self.name, token, nx=True, px=milliseconds)
        return refuse("a lock") if taken is False else bool(taken)


class _AsyncLock(AwaitableLock):
    """The awaitable twin."""

    async def do_acquire(self, token: str | bytes) -> bool:
        """Take the lock unless somebody has it; raise where the answer is made up."""
        milliseconds = int(self.timeout * 1000) if self.timeout else None
        taken: Any = await self.redis.set(self.name, token, nx=True, px=milliseconds)
        return refuse("a lock") if taken is False else bool(taken)


def _is_absence(error: Exception, args: tuple[Any, ...] = ("",)) -> bool:
    """Return whether the error shows that a node is away, and no mistake of the caller."""
    if isinstance(error, redis.TimeoutError) and str(args[0]).upper() in WAITING:
        return False
    return isinstance(error, AWAY) or (
        isinstance(error, RedisClusterException) and str(error).startswith(_UNREACHABLE)
    )


class RedisCluster(_Manners, _RedisCluster):
    """A synchronous client that answers as if empty where a node is away."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command, or answer as if the cluster were empty."""
        if self._is_away(args):
            return pretended(args[0], len(args) - 1)
        run: Any = super().execute_command
        try:
            if self.redis_state is not None and self._has_forgotten():
                self.nodes_manager.initialize()
            return run(*args, **kwargs)
        except (*AWAY, RedisClusterException, AttributeError) as error:
            is_absence = _is_absence(error, args) or self._has_forgotten()
            if self.redis_state is None or not is_absence:
                raise
            self._blame(args, error)
            return pretended(args[0], len(args) - 1)

    def _has_forgotten(self) -> bool:
        # After a node was lost redis-py may drop all it knows, and then stumbles over that.
        return self.nodes_manager.default_node is None

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> "ClusterPipeline":
        """Return a pipeline which answers None for each command where a node is away."""
        make: Any = super().pipeline
        made = make(None if self.away else transaction, shard_hint)
        # redis-py names its own class in there.
        made.__class__ = ClusterPipeline
        return cast("ClusterPipeline", made)

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock, which is real or not at all: its methods raise while Redis is away."""
        return super().lock(*args, **{"lock_class": _Lock} | kwargs)

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        """Return a subscription, which is real or not at all."""
        if self.away:
            refuse("a subscription")
        make: Any = super().pubsub
        return make(*args, **kwargs)


class ClusterPipeline(_ClusterPipeline):
    """Commands sent together."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; where a node is away, answer None for each."""
        count = len(self)
        try:
            return super().execute(raise_on_error)
        except (*AWAY, RedisClusterException) as error:
            if not _is_absence(error):
                raise
            return [None] * count


class AsyncRedisCluster(_Manners, _AsyncRedisCluster):  # type: ignore[misc] # redis-py's own bases disagree
    """The awaitable twin of `RedisCluster`."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command, or answer as if the cluster were empty."""
        if self._is_away(args):
            return pretended(args[0], len(args) - 1)
        try:
            return await super().execute_command(*args, **kwargs)
        except (*AWAY, RedisClusterException) as error:
            if self.redis_state is None or not _is_absence(error, args):
                raise
            self._blame(args, error)
            return pretended(args[0], len(args) - 1)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> "AsyncClusterPipeline":
        """Return a pipeline which answers None for each command where a node is away."""
        made: Any = super().pipeline(None if self.away else transaction, shard_hint)
        made.__class__ = AsyncClusterPipeline
        return cast("AsyncClusterPipeline", made)

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock, which is real or not at all: its methods raise while Redis is away."""
        return super().lock(*args, **{"lock_class": _AsyncLock} | kwargs)

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        """Return a subscription, which is real or not at all."""
        if self.away:
            refuse("a subscription")
        return super().pubsub(*args, **kwargs)


class AsyncClusterPipeline(_AsyncClusterPipeline):
    """Commands sent together."""

    __slots__ = ()

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Send the commands; where a node is away, answer None for each."""
        count = len(self)
        try:
            return await super().execute(raise_on_error, allow_redirections)
        except (*AWAY, RedisClusterException) as error:
            if not _is_absence(error):
                raise
            return [None] * count


def cluster_client(
    group: ServerGroup, redis_state: RedisState, timeout: float
) -> RedisCluster | None:
    """Return a client; None while no node of the cluster can be reached.

    Args:
        group: where the nodes are.
        upstream: what is known of them.
        timeout: seconds that connecting, and each answer, may take.
    """
    try:
        if redis_state.topology.is_untried:
            # Later the background thread looks for it.
            redis_state.topology.learn(timeout)
        if all(node.breaker.open for node in redis_state.nodes):
            redis_state.recover()
            return None
        client: Any = RedisCluster.from_url(
            group.server_url(*group.hosts[0]),
            startup_nodes=[ClusterNode(host, port) for host, port in group.hosts[1:]],
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            protocol=2,
        )
    except (*AWAY, RedisClusterException):
        redis_state.recover()
        return None
    client.redis_state = redis_state
    return cast("RedisCluster", client)


def async_cluster_client(
    group: ServerGroup, redis_state: RedisState, timeout: float
) -> AsyncRedisCluster:
    """Return a new awaitable client for the running event loop; it connects when it is used."""
    client: Any = AsyncRedisCluster.from_url(
        group.server_url(*group.hosts[0]),
        startup_nodes=[AsyncClusterNode(host, port) for host, port in group.hosts[1:]],
        retry=AsyncRetry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        protocol=2,
    )
    client.redis_state = redis_state
    return cast("AsyncRedisCluster", client)
