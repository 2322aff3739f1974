"""The clients that `get_redis` and `get_async_redis` return on a Redis Cluster.

`redis.RedisCluster` has the commands of `redis.Redis`. A command that names several keys needs them
in one slot, except `delete`, `exists`, `touch`, `unlink`, `mget_nonatomic` and `mset_nonatomic`. A
pipeline sends its commands to several masters and is no transaction.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Self, cast

from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import ClusterPipeline as _AsyncClusterPipeline
from redis.asyncio.cluster import RedisCluster as _AsyncRedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.lock import Lock as AwaitableLock
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.cluster import ClusterPipeline as _ClusterPipeline
from redis.cluster import RedisCluster as _RedisCluster
from redis.exceptions import RedisClusterException
from redis.lock import Lock as BlockingLock
from redis.retry import Retry

from maxage.redis.fallback import (
    OUTAGE_ERRORS,
    UNREACHABLE_CLUSTER,
    FallbackClient,
    OutageGuard,
    unsupported,
)
from maxage.redis.loop_pool import abandon_connections
from maxage.redis_options import client_options, connection_options
from maxage.redis_store.servers.dns import url_options
from maxage.redis_store.servers.passwords import with_credentials
from maxage.redis_store.servers.per_loop import PerLoop
from maxage.redis_store.shared_state import RedisState
from maxage.redis_url import ServerGroup


class _ClusterClient(FallbackClient):
    """Mixin of both cluster clients: what they make, and when the cluster is away."""

    _lock_class: type[Any]
    _pipeline_class: type[Any]

    @property
    def away(self) -> bool:
        """Whether no node answers, so that all commands get fallback replies."""
        # redis-py's constructor has no state yet, and finds the nodes that none has asked for.
        state = self.redis_state
        return state is not None and not state.topology.is_untried and super().away

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Return a pipeline; where a node is away, each of its commands gets None."""
        make: Any = super()
        made = make.pipeline(None if self.away else transaction, shard_hint)
        # redis-py's method names its own class.
        made.__class__ = self._pipeline_class
        return made

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock. Acquiring it raises `UnsupportedWhileAwayError` while Redis is away."""
        make: Any = super()
        return make.lock(*args, **{"lock_class": self._lock_class} | kwargs)

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        """Return a subscription; raise `UnsupportedWhileAwayError` while Redis is away."""
        self._require_redis("a subscription")
        make: Any = super()
        return make.pubsub(*args, **kwargs)


class _Lock(BlockingLock):
    """A lock that has no fallback reply."""

    def do_acquire(self, token: str) -> bool:
        """Take the lock unless it is held; raise where the reply is a fallback reply."""
        return _is_taken(self.redis.set(self.name, token, nx=True, px=_milliseconds(self.timeout)))


class _AsyncLock(AwaitableLock):
    """The awaitable twin."""

    async def do_acquire(self, token: str | bytes) -> bool:
        """Take the lock unless it is held; raise where the reply is a fallback reply."""
        px = _milliseconds(self.timeout)
        return _is_taken(await self.redis.set(self.name, token, nx=True, px=px))


def _milliseconds(seconds: float | None) -> int | None:
    return int(seconds * 1000) if seconds else None


def _is_taken(reply: Any) -> bool:
    if reply is False:
        raise unsupported("a lock")
    return bool(reply)


class ClusterPipeline(_ClusterPipeline):
    """Commands that are sent together."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; where a node is away, return None for each."""
        count = len(self)
        with OutageGuard():
            return super().execute(raise_on_error)
        return [None] * count


class AsyncClusterPipeline(_AsyncClusterPipeline):
    """Commands that are sent together."""

    __slots__ = ()

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Send the commands; where a node is away, return None for each."""
        count = len(self)
        with OutageGuard():
            return await super().execute(raise_on_error, allow_redirections)
        return [None] * count


class RedisCluster(_ClusterClient, _RedisCluster):
    """Synchronous client of a cluster; the keys of a node that is away get fallback replies."""

    _lock_class = _Lock
    _pipeline_class = ClusterPipeline

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command; where its node is away, return its fallback reply."""
        run: Any = super().execute_command
        if self.redis_state is None:
            return run(*args, **kwargs)
        if not self._is_away(args):
            with self._guard(args):
                return self._remembering(run, *args, **kwargs)
        return self._fallback(args)

    def _remembering(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            if self._has_forgotten():
                self.nodes_manager.initialize()
            return run(*args, **kwargs)
        except (RedisClusterException, AttributeError) as error:
            # After the loss of a node redis-py may forget all nodes, and then stumbles over that.
            if not self._has_forgotten():
                raise
            raise RedisClusterException(UNREACHABLE_CLUSTER[0]) from error

    def _has_forgotten(self) -> bool:
        return self.nodes_manager.default_node is None


class AsyncRedisCluster(_ClusterClient, _AsyncRedisCluster):  # type: ignore[misc] # redis-py's own bases disagree
    """The awaitable twin of `RedisCluster`."""

    _lock_class = _AsyncLock
    _pipeline_class = AsyncClusterPipeline

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command; where its node is away, return its fallback reply."""
        if not self._is_away(args):
            with self._guard(args):
                return await super().execute_command(*args, **kwargs)
        return self._fallback(args)

    def abandon(self) -> None:
        """Close the sockets of its event loop, which has ended."""
        nodes: Any = self.nodes_manager
        for node in (*nodes.nodes_cache.values(), *nodes.startup_nodes.values()):
            abandon_connections(node._connections)  # noqa: SLF001 - redis-py has no public way to it
        # Nothing is left to close.
        self._initialize = True


class _Reconnecting(Connection):
    """Connection that connects again where its server has closed it while it was idle.

    redis-py's pools look for that, its cluster client does not.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command."""
        made: Any = self
        if made._reader is not None and made._reader.at_eof():  # noqa: SLF001 - no public way to it
            await self.disconnect(nowait=True)
        await super().send_packed_command(command, check_health)


class _ReconnectingTLS(_Reconnecting, SSLConnection):
    """The same over TLS."""


class SharedCluster(AsyncRedisCluster):
    """The client of the event loop that runs its commands; closing it leaves that one open.

    Args:
        clients: the clients of the event loops.
        state: what this process knows of the nodes.
    """

    def __init__(self, clients: PerLoop[AsyncRedisCluster], state: RedisState) -> None:
        self._clients: Final = clients
        self.redis_state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clients.get(), name)

    def __del__(self, *_: Any) -> None:
        """Do nothing: the client of the event loop outlives this one."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command; where its node is away, return its fallback reply."""
        return await self._clients.get().execute_command(*args, **kwargs)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Return a pipeline; where a node is away, each of its commands gets None."""
        return self._clients.get().pipeline(transaction, shard_hint)

    def pubsub(self, *args: Any, **kwargs: Any) -> Any:
        """Return a subscription; raise `UnsupportedWhileAwayError` while Redis is away."""
        return self._clients.get().pubsub(*args, **kwargs)

    async def initialize(self, *_: Any, **__: Any) -> Self:
        """Return the client; it connects when it is used."""
        return self

    async def aclose(self) -> None:
        """Leave the connections to the other requests; they are closed when the loop ends."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def cluster_client(cluster: ServerGroup, state: RedisState, timeout: float) -> RedisCluster | None:
    """Return a client; None while no node of the cluster answers.

    Args:
        cluster: the addresses of its nodes.
        state: what this process knows of the nodes.
        timeout: seconds that connecting, and each reply, may take.
    """
    try:
        if state.topology.is_untried:
            # Later the background thread asks for the nodes.
            state.topology.learn(timeout)
        if not all(node.breaker.open for node in state.nodes):
            return cast("RedisCluster", _connected(RedisCluster, cluster, state, timeout))
    except (*OUTAGE_ERRORS, RedisClusterException):
        pass
    state.recover()
    return None


@lru_cache(maxsize=8)
def async_cluster_clients(
    cluster: ServerGroup, state: RedisState, timeout: float
) -> PerLoop[AsyncRedisCluster]:
    """Return the awaitable clients of the event loops; each connects when it is used."""

    def make() -> AsyncRedisCluster:
        client: Any = _connected(AsyncRedisCluster, cluster, state, timeout)
        nodes = client.nodes_manager
        is_tls = issubclass(nodes.connection_kwargs["connection_class"], SSLConnection)
        kind = _ReconnectingTLS if is_tls else _Reconnecting
        nodes.connection_kwargs["connection_class"] = kind
        for node in nodes.startup_nodes.values():
            node.connection_class = kind
        return cast("AsyncRedisCluster", client)

    return PerLoop(make, AsyncRedisCluster.aclose, AsyncRedisCluster.abandon)


def _connected(kind: Any, cluster: ServerGroup, state: RedisState, timeout: float) -> Any:
    is_awaitable = kind is AsyncRedisCluster
    node, retry = (AsyncClusterNode, AsyncRetry) if is_awaitable else (ClusterNode, Retry)
    url = cluster.server_url(*cluster.hosts[0])
    options: dict[str, Any] = connection_options(url) | client_options(url)
    if state.credentials is not None:
        user = url_options(url, in_loop=is_awaitable).get("username")
        named = {"username": user} if user else {}
        options = with_credentials(options | named, state.credentials)
        url = replace(cluster, credentials="").server_url(*cluster.hosts[0])
    # There is only database 0, and redis-py takes no number for it.
    options.pop("db", None)
    client = kind.from_url(
        url.partition("?")[0],
        startup_nodes=[node(host, port) for host, port in cluster.hosts[1:]],
        retry=retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        protocol=2,
        **options,
    )
    client.redis_state = state
    return client
