"""The Redis clients of the guide: `get_redis` and its awaitable twin `get_async_redis`.

`get_redis` returns a `redis.Redis` that raises nothing because Redis is away. It blocks its thread
for at most the budget, at most three times per outage. In an `async def` handler that thread runs
the event loop: use `get_async_redis` there.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as _AsyncPipeline
from redis.asyncio.client import PubSub as _AsyncPubSub
from redis.backoff import NoBackoff
from redis.client import Pipeline as _Pipeline
from redis.client import PubSub as _PubSub
from redis.retry import Retry

from maxage.redis.cluster_clients import (
    RedisCluster,
    SharedCluster,
    async_cluster_clients,
    cluster_client,
)
from maxage.redis.fallback import FallbackClient, unsupported
from maxage.redis.loop_pool import LoopPool
from maxage.redis_options import client_options
from maxage.redis_store.servers.node import Node
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.redis_url import ServerGroup, server_group, server_url
from maxage.settings import CacheSettings
from maxage.settings_in_force import settings_in_force

PipelineType = TypeVar("PipelineType", bound=FallbackClient)
PubSubType = TypeVar("PubSubType", bound=FallbackClient)


class _OneServerClient(FallbackClient, Generic[PipelineType, PubSubType]):
    """Mixin of both clients of one server: how pipelines, locks and subscriptions are made."""

    _pipeline_class: type[PipelineType]
    _pubsub_class: type[PubSubType]
    connection_pool: Any
    response_callbacks: Any

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> PipelineType:
        """Return a pipeline; while Redis is away, each of its commands gets None."""
        make: Any = self._pipeline_class
        made: PipelineType = make(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        made.redis_state = self.redis_state
        return made

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock. Its methods raise `UnsupportedWhileAwayError` while Redis is away."""
        self._require_redis("a lock")
        make: Any = type(self)
        strict = make(connection_pool=self.connection_pool)
        strict.redis_state, strict.strict = self.redis_state, True
        lock: Any = getattr(super(_OneServerClient, strict), "lock")  # noqa: B009 - redis-py's
        return lock(*args, **kwargs)

    def pubsub(self, **kwargs: Any) -> PubSubType:
        """Return a subscription. It raises `UnsupportedWhileAwayError` while Redis is away."""
        self._require_redis("a subscription")
        make: Any = self._pubsub_class
        made: PubSubType = make(self.connection_pool, **kwargs)
        made.redis_state = self.redis_state
        return made


class _Batch(FallbackClient):
    """Mixin of both pipelines of one server: their replies while Redis is away."""

    def _no_replies(self, count: int, *, watching: bool) -> list[Any]:
        if watching:
            raise unsupported("a watched transaction")
        return [None] * count


class PubSub(FallbackClient, _PubSub):
    """A subscription; its commands raise while Redis is away."""

    def execute_command(self, *args: Any) -> Any:
        """Send a command; the first one connects."""
        with self._guard(args):
            return super().execute_command(*args)
        raise unsupported("a subscription")


class AsyncPubSub(FallbackClient, _AsyncPubSub):
    """A subscription; its commands raise while Redis is away."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command; the first one connects."""
        with self._guard(args):
            return await super().execute_command(*args)
        raise unsupported("a subscription")


class Pipeline(_Batch, _Pipeline):
    """Commands that are sent together."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; while Redis is away, return None for each."""
        count, watching = len(self.command_stack), self.watching
        if not self.away:
            with self._guard():
                return super().execute(raise_on_error)
        self.reset()
        return self._no_replies(count, watching=watching)

    def watch(self, *names: Any) -> Any:
        """Watch keys; raise `UnsupportedWhileAwayError` while Redis is away."""
        self._require_redis("WATCH")
        with self._guard():
            return super().watch(*names)
        self.reset()
        raise unsupported("WATCH")


class AsyncPipeline(_Batch, _AsyncPipeline):  # type: ignore[misc] # redis-py's own bases disagree
    """Commands that are sent together."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; while Redis is away, return None for each."""
        count, watching = len(self.command_stack), self.watching
        if not self.away:
            with self._guard():
                return await super().execute(raise_on_error)
        await self.reset()
        return self._no_replies(count, watching=watching)

    async def watch(self, *names: Any) -> Any:  # type: ignore[override] # redis-py's own bases disagree
        """Watch keys; raise `UnsupportedWhileAwayError` while Redis is away."""
        self._require_redis("WATCH")
        with self._guard():
            return await super().watch(*names)
        await self.reset()
        raise unsupported("WATCH")


class Redis(_OneServerClient[Pipeline, PubSub], redis.Redis):
    """Synchronous client that gives fallback replies while Redis is away or disabled.

    Reads return None or empty, writes False or 0, a pipeline None for each command. Locks, scripts,
    WATCH, transactions and subscriptions raise `UnsupportedWhileAwayError` within the budget.
    """

    _pipeline_class = Pipeline
    _pubsub_class = PubSub

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command; while Redis is away, return its fallback reply."""
        if not self._is_away(args):
            with self._guard(args):
                return super().execute_command(*args, **options)
        return self._fallback(args)


class AsyncRedis(  # type: ignore[misc] # redis-py's own bases disagree
    _OneServerClient[AsyncPipeline, AsyncPubSub], redis.asyncio.Redis
):
    """The awaitable twin of `Redis`."""

    _pipeline_class = AsyncPipeline
    _pubsub_class = AsyncPubSub

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command; while Redis is away, return its fallback reply."""
        if not self._is_away(args):
            with self._guard(args):
                return await super().execute_command(*args, **options)
        return self._fallback(args)


def get_redis() -> Redis:
    """Return the synchronous client; a FastAPI dependency, and callable by itself.

    The client connects when it is first used. It opens no connection while caching is disabled or
    `REDIS_URL` is unset: all replies are fallback replies then. On a Redis Cluster the client is a
    `redis.RedisCluster`; call `get_redis` for each request there, because no client of a cluster
    can be made before a node answers.
    """
    settings = settings_in_force()
    state, cluster = _servers(settings)
    if state is not None and cluster is not None:
        # redis-py has no common base for the two; their commands are the same.
        return cast("Redis", _cluster_client(settings, cluster, state) or Redis())
    return _client(settings)


def get_async_redis() -> AsyncRedis:
    """Return a new awaitable client, the twin of `get_redis`.

    Clients share the connections of the event loop that runs their commands; closing a client
    leaves these open. They are closed when the loop ends.
    """
    settings = settings_in_force()
    state, cluster = _servers(settings)
    if state is not None and cluster is not None:
        clients = async_cluster_clients(cluster, state, settings.cache_read_budget)
        return cast("AsyncRedis", SharedCluster(clients, state))
    if state is None or state.node is None:
        return AsyncRedis()
    return _with_state(AsyncRedis(connection_pool=_loop_pool(settings, state.node)), state)


@lru_cache(maxsize=8)
def _loop_pool(settings: CacheSettings, node: Node) -> LoopPool:
    def connect_timeout() -> float:
        is_slow = _is_slow_to_connect(settings) and not node.breaker.suspicious
        return settings.cache_connect_budget if is_slow else settings.cache_read_budget

    options = node.options(in_loop=True) | _options(settings)
    return LoopPool(connect_timeout, **options)


@lru_cache(maxsize=8)
def _client(settings: CacheSettings) -> Redis:
    state, _ = _servers(settings)
    if state is None or state.node is None:
        return Redis()
    options = state.node.options(in_loop=False) | _options(settings)
    if _is_slow_to_connect(settings):
        budget = settings.cache_read_budget
        options |= state.node.connecting(options, budget, settings.cache_connect_budget)
    pool = redis.ConnectionPool(retry=Retry(NoBackoff(), 0), **options)
    return _with_state(cast("Redis", Redis.from_pool(pool)), state)


_Client = TypeVar("_Client", bound=FallbackClient)


def _with_state(client: _Client, state: RedisState) -> _Client:
    client.redis_state = state
    return client


_cluster_clients: dict[CacheSettings, RedisCluster] = {}


def _cluster_client(
    settings: CacheSettings, cluster: ServerGroup, state: RedisState
) -> RedisCluster | None:
    client = _cluster_clients.get(settings)
    if client is None:
        client = cluster_client(cluster, state, settings.cache_read_budget)
        if client is not None:
            _cluster_clients[settings] = client
    return client


def _options(settings: CacheSettings) -> dict[str, Any]:
    """Return the connection options that both clients share."""
    budget = settings.cache_read_budget
    own = {"socket_timeout": budget, "socket_connect_timeout": budget, "protocol": 2}
    return client_options(settings.redis_url or "") | own


def _is_slow_to_connect(settings: CacheSettings) -> bool:
    """Return whether connecting takes a handshake or a function, so that it has its own budget."""
    return settings.redis_credentials is not None or (settings.redis_url or "").lower().startswith(
        ("rediss", "valkeys")
    )


def _servers(settings: CacheSettings) -> tuple[RedisState | None, ServerGroup | None]:
    """Return the state of the servers, None where there are none; and the cluster, if it is one."""
    url = server_url(settings.redis_url)
    if not settings.use_redis_cache or url is None:
        return None, None
    group = server_group(url)
    is_cluster = group is not None and group.kind == "cluster"
    state = redis_state_for(url, settings.cache_namespace, settings.redis_credentials)
    return state, group if is_cluster else None
