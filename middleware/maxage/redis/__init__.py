"""Redis in the application: the dependency `get_redis` and the typed cache `RedisCache`."""

from maxage.redis.clients import AsyncRedis, Redis, get_async_redis, get_redis
from maxage.typed.redis_cache import RedisCache

__all__ = ["AsyncRedis", "Redis", "RedisCache", "get_async_redis", "get_redis"]
