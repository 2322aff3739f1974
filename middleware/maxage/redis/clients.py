"""The names of the Redis integration guide: `RedisCache`, `get_redis`, and their awaitable twins.

`get_redis` gives a `redis.Redis` that never raises because Redis is away, and that blocks its
thread for at most the budgets. In an `async def` handler that is the whole event loop, at most
three times per outage; `get_async_redis` does not block it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# redis-py leaves part of its own signatures without types.

from functools import lru_cache
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as _AsyncPipeline
from redis.asyncio.client import PubSub as _AsyncPubSub
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.client import Pipeline as _Pipeline
from redis.client import PubSub as _PubSub
from redis.retry import Retry

from maxage.redis.away import AWAY, WAITING, note, pretended, refuse
from maxage.redis.cluster_clients import RedisCluster, async_cluster_client, cluster_client
from maxage.redis_store.servers.node import Node
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.redis_url import ServerGroup, server_group, server_url
from maxage.settings import CacheSettings, settings_from_environment

__all__ = ["AsyncRedis", "Redis", "get_async_redis", "get_redis"]


class Redis(redis.Redis):
    """A synchronous client that answers at once, as if empty, while Redis is away or disabled.

    Reads answer None or what is empty, writes False or 0, a pipeline None for each command. What
    must not be pretended (locks, scripts, WATCH, transactions, subscriptions) raises
    `UnsupportedWhileAwayError` within the budget.
    """

    node: Node | None = None
    strict: bool = False
    """Whether to raise where an answer would have to be made up; for locks."""

    @property
    def away(self) -> bool:
        """Whether commands are answered without asking the server."""
        return self.node is None or self.node.breaker.open

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command, or answer as if the server were empty."""
        if self.away:
            return self._pretended(args)
        assert self.node is not None  # noqa: S101 - what `away` has just said
        try:
            answer = super().execute_command(*args, **options)
        except AWAY as error:
            if isinstance(error, redis.TimeoutError) and str(args[0]).upper() in WAITING:
                raise
            note(self.node, error)
            return self._pretended(args)
        self.node.succeeded()
        return answer

    def _pretended(self, args: tuple[Any, ...]) -> Any:
        return refuse(str(args[0])) if self.strict else pretended(args[0], len(args) - 1)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "Pipeline":
        """Return a pipeline which answers None for each command while Redis is away."""
        pipeline = Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.node = self.node
        return pipeline

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock, which is real or not at all: its methods raise while Redis is away."""
        if self.away:
            refuse("a lock")
        real = Redis(connection_pool=self.connection_pool)
        real.node, real.strict = self.node, True
        return redis.Redis.lock(real, *args, **kwargs)

    def pubsub(self, **kwargs: Any) -> "PubSub":
        """Return a subscription, which is real or not at all."""
        if self.away:
            refuse("a subscription")
        subscription = PubSub(self.connection_pool, **kwargs)
        subscription.node = self.node
        return subscription


class PubSub(_PubSub):
    """A subscription: what is sent for it raises while Redis is away."""

    node: Node | None = None

    def execute_command(self, *args: Any) -> Any:
        """Send a command; a connection is made with the first one."""
        try:
            return super().execute_command(*args)
        except AWAY as error:
            if self.node is not None:
                note(self.node, error)
            refuse("a subscription")


class Pipeline(_Pipeline, Redis):  # pyright: ignore[reportIncompatibleMethodOverride] -- redis-py's own bases disagree
    """Commands sent together."""

    node: Node | None = None

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Put a command into the pipeline."""
        return _Pipeline.execute_command(self, *args, **kwargs)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; while Redis is away, answer None for each."""
        count = len(self.command_stack)
        watching = self.watching
        if self.away:
            self.reset()
            return refuse("a watched transaction") if watching else [None] * count
        assert self.node is not None  # noqa: S101
        try:
            answers = _Pipeline.execute(self, raise_on_error)
        except AWAY as error:
            note(self.node, error)
            self.reset()
            return refuse("a watched transaction") if watching else [None] * count
        self.node.succeeded()
        return answers

    def watch(self, *names: Any) -> Any:
        """Watch keys, which is real or not at all."""
        if self.away:
            refuse("WATCH")
        assert self.node is not None  # noqa: S101
        try:
            return _Pipeline.watch(self, *names)
        except AWAY as error:
            note(self.node, error)
            self.reset()
            refuse("WATCH")


class AsyncRedis(redis.asyncio.Redis):
    """The awaitable twin of `Redis`."""

    node: Node | None = None
    strict: bool = False
    """Whether to raise where an answer would have to be made up; for locks."""

    @property
    def away(self) -> bool:
        """Whether commands are answered without asking the server."""
        return self.node is None or self.node.breaker.open

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command, or answer as if the server were empty."""
        if self.away:
            return self._pretended(args)
        assert self.node is not None  # noqa: S101
        try:
            answer = await super().execute_command(*args, **options)
        except AWAY as error:
            if isinstance(error, redis.TimeoutError) and str(args[0]).upper() in WAITING:
                raise
            note(self.node, error)
            return self._pretended(args)
        self.node.succeeded()
        return answer

    def _pretended(self, args: tuple[Any, ...]) -> Any:
        return refuse(str(args[0])) if self.strict else pretended(args[0], len(args) - 1)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "AsyncPipeline":
        """Return a pipeline which answers None for each command while Redis is away."""
        pipeline = AsyncPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.node = self.node
        return pipeline

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Return a lock, which is real or not at all: its methods raise while Redis is away."""
        if self.away:
            refuse("a lock")
        real = AsyncRedis(connection_pool=self.connection_pool)
        real.node, real.strict = self.node, True
        return redis.asyncio.Redis.lock(real, *args, **kwargs)

    def pubsub(self, **kwargs: Any) -> "AsyncPubSub":
        """Return a subscription, which is real or not at all."""
        if self.away:
            refuse("a subscription")
        subscription = AsyncPubSub(self.connection_pool, **kwargs)
        subscription.node = self.node
        return subscription


class AsyncPubSub(_AsyncPubSub):
    """A subscription: what is sent for it raises while Redis is away."""

    node: Node | None = None

    async def execute_command(self, *args: Any) -> Any:
        """Send a command; a connection is made with the first one."""
        try:
            return await super().execute_command(*args)
        except AWAY as error:
            if self.node is not None:
                note(self.node, error)
            refuse("a subscription")


class AsyncPipeline(_AsyncPipeline, AsyncRedis):  # type: ignore[misc] # redis-py's own bases disagree
    """Commands sent together."""

    node: Node | None = None

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Put a command into the pipeline."""
        return _AsyncPipeline.execute_command(self, *args, **kwargs)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; while Redis is away, answer None for each."""
        count = len(self.command_stack)
        watching = self.watching
        if self.away:
            await self.reset()
            return refuse("a watched transaction") if watching else [None] * count
        assert self.node is not None  # noqa: S101
        try:
            answers = await _AsyncPipeline.execute(self, raise_on_error)
        except AWAY as error:
            note(self.node, error)
            await self.reset()
            return refuse("a watched transaction") if watching else [None] * count
        self.node.succeeded()
        return answers

    async def watch(self, *names: Any) -> Any:  # type: ignore[override] # redis-py's own bases disagree
        """Watch keys, which is real or not at all."""
        if self.away:
            refuse("WATCH")
        assert self.node is not None  # noqa: S101
        try:
            return await _AsyncPipeline.watch(self, *names)
        except AWAY as error:
            note(self.node, error)
            await self.reset()
            refuse("WATCH")


def get_redis() -> Redis:
    """Return the synchronous client; a FastAPI dependency, and callable by itself.

    Its connections are made when they are needed, none while caching is disabled or `REDIS_URL` is
    unset; it then answers as if Redis were away. On a Redis Cluster it is a
    `maxage.redis_cluster.RedisCluster`, and made anew while none of the nodes can be reached: do
    not keep it for longer than a request.
    """
    settings = settings_from_environment()
    redis_state = _redis_state(settings)
    group = server_group(settings.redis_url or "")
    if redis_state is not None and group is not None and group.kind == "cluster":
        # redis-py has no common base for the two; their commands are the same.
        return cast("Redis", _cluster_client(settings, group, redis_state) or Redis())
    return _client(settings)


def get_async_redis() -> AsyncRedis:
    """Return an awaitable client, the twin of `get_redis`, for the running event loop."""
    settings = settings_from_environment()
    redis_state = _redis_state(settings)
    group = server_group(settings.redis_url or "")
    if redis_state is not None and group is not None and group.kind == "cluster":
        return cast(
            "AsyncRedis", async_cluster_client(group, redis_state, settings.cache_read_budget)
        )
    return _async_client(settings)


_cluster_clients: dict[CacheSettings, RedisCluster] = {}


def _cluster_client(
    settings: CacheSettings, group: ServerGroup, redis_state: RedisState
) -> RedisCluster | None:
    client = _cluster_clients.get(settings)
    if client is None:
        client = cluster_client(group, redis_state, settings.cache_read_budget)
        if client is not None:
            _cluster_clients[settings] = client
    return client


@lru_cache(maxsize=8)
def _client(settings: CacheSettings) -> Redis:
    node = _node(settings)
    if node is None:
        return Redis()
    options = _options(settings, Retry(NoBackoff(), 0))
    pool = redis.ConnectionPool(**options | node.options(in_loop=False))
    client = cast("Redis", Redis.from_pool(pool))
    client.node = node
    return client


def _async_client(settings: CacheSettings) -> AsyncRedis:
    # A new client for each use: connections belong to one event loop, and to one request here.
    node = _node(settings)
    if node is None:
        return AsyncRedis()
    options = _options(settings, AsyncRetry(NoBackoff(), 0))
    pool = redis.asyncio.ConnectionPool(**options | node.options(in_loop=True))
    client = cast("AsyncRedis", AsyncRedis.from_pool(pool))
    client.node = node
    return client


def _options(settings: CacheSettings, retry: object) -> dict[str, Any]:
    """Return how both clients connect; each has a `Retry` of its own kind."""
    return {
        "retry": retry,
        "socket_timeout": settings.cache_read_budget,
        "socket_connect_timeout": settings.cache_read_budget,
        "protocol": 2,
    }


def _node(settings: CacheSettings) -> Node | None:
    redis_state = _redis_state(settings)
    return None if redis_state is None else redis_state.node


def _redis_state(settings: CacheSettings) -> RedisState | None:
    url = server_url(settings.redis_url)
    if not settings.use_redis_cache or url is None:
        return None
    return redis_state_for(url, settings.cache_namespace)
