"""Fallback replies: what the guide's clients answer while Redis is away or caching is disabled.

Reads answer None or empty, writes False or 0. A lock, a script, a transaction or a subscription has
no fallback reply: it raises `UnsupportedWhileAwayError`.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# The fallback replies are of any type.

from copy import deepcopy
from types import TracebackType
from typing import Any, Final, final

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

from maxage.errors import UnsupportedWhileAwayError
from maxage.redis_store.servers.node import Node
from maxage.redis_store.shared_state import RedisState

OUTAGE_ERRORS: Final = (
    AuthenticationError, AuthorizationError, BusyLoadingError, ClusterDownError, MasterDownError,
    NoPermissionError, OutOfMemoryError, ReadOnlyError, SlotNotCoveredError, TryAgainError,
    redis.ConnectionError, redis.TimeoutError, OSError,
)  # fmt: skip
"""Errors that the server's state causes. All other errors are mistakes of the caller."""

UNREACHABLE_CLUSTER: Final = ("Redis Cluster cannot be connected", "All slots are not covered")
"""First words of redis-py's `RedisClusterException` that mean an outage of the cluster."""

_BLOCKING_COMMANDS: Final = frozenset({
    "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "XREAD",
    "XREADGROUP", "WAIT",
})  # fmt: skip
"""Commands that wait by design: their timeout is no failure of the server."""

_FALLBACK_REPLIES: Final[dict[str, Any]] = {
    **{name: [] for name in (
        "KEYS", "LRANGE", "HKEYS", "HVALS", "SORT", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE",
        "ZREVRANGEBYSCORE", "ZRANGEBYLEX", "XRANGE", "XREVRANGE", "GEOPOS", "GEODIST", "GEOSEARCH",
        "ZMSCORE", "SMISMEMBER", "TIME", "COMMAND",
    )},
    **{name: set() for name in ("SMEMBERS", "SINTER", "SUNION", "SDIFF")},
    **{name: {} for name in ("HGETALL", "INFO", "CONFIG GET")},
    **dict.fromkeys(("SCAN", "HSCAN", "SSCAN", "ZSCAN"), (0, [])),
    **dict.fromkeys(("GET", "GETRANGE", "SUBSTR", "HGET", "LINDEX", "TYPE", "ZSCORE", "ZRANK",
                     "ZREVRANK", "OBJECT", "DUMP", "RANDOMKEY", "SRANDMEMBER", "HRANDFIELD",
                     "GETEX", "GETDEL", "GETSET", "LPOP", "RPOP", "SPOP", "ZPOPMIN", "ZPOPMAX",
                     "LMPOP", "ZMPOP", "LMOVE", "RPOPLPUSH", "MEMORY USAGE"), None),
    **dict.fromkeys(("EXISTS", "TTL", "PTTL", "EXPIRETIME", "STRLEN", "HLEN", "LLEN", "SCARD",
                     "ZCARD", "ZCOUNT", "BITCOUNT", "GETBIT", "DBSIZE", "XLEN", "HSTRLEN",
                     "PFCOUNT", "LPOS"), 0),
    **dict.fromkeys(("SISMEMBER", "HEXISTS", "PING", "ECHO"), False),
    **dict.fromkeys(("SET", "SETEX", "PSETEX", "SETNX", "MSET", "MSETNX", "EXPIRE", "PEXPIRE",
                     "EXPIREAT", "PEXPIREAT", "PERSIST", "RENAME", "RENAMENX", "HMSET", "LSET",
                     "LTRIM", "RESTORE", "COPY", "MOVE", "FLUSHDB", "FLUSHALL", "SMOVE", "HSETNX",
                     "PFADD", "PFMERGE", "SELECT"), False),
    **dict.fromkeys(("DEL", "UNLINK", "TOUCH", "APPEND", "INCR", "INCRBY", "INCRBYFLOAT", "DECR",
                     "DECRBY", "SETRANGE", "SETBIT", "HSET", "HDEL", "HINCRBY", "HINCRBYFLOAT",
                     "LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LINSERT", "LREM", "SADD", "SREM",
                     "ZADD", "ZREM", "ZINCRBY", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "XDEL",
                     "XTRIM", "GEOADD", "SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE", "ZUNIONSTORE",
                     "ZINTERSTORE", "PUBLISH"), 0),
}  # fmt: skip
"""The fallback reply of each command; a list, set or dict is copied for each caller."""


def fallback_reply(command: object, argument_count: int) -> Any:
    """Return the fallback reply of a command.

    Raises:
        UnsupportedWhileAwayError: the command has none (locks, scripts, transactions).
    """
    name = str(command).upper()
    if name in {"MGET", "HMGET"}:
        return [None] * (argument_count - (name == "HMGET"))
    if name not in _FALLBACK_REPLIES:
        raise unsupported(name)
    return deepcopy(_FALLBACK_REPLIES[name])


def unsupported(operation: str) -> UnsupportedWhileAwayError:
    """Return the error of an operation that has no fallback reply."""
    return UnsupportedWhileAwayError(
        f"{operation} needs Redis, which is away or disabled. Retry when Redis answers."
    )


@final
class OutageGuard:
    """Context manager around one command: suppresses the error of an outage, and counts it.

    A reply counts as a success of the node.

    Args:
        args: the command with its arguments; empty for several commands.
        node: the server that is asked; None: not known.
        redis_state: starts the background probe after an outage of the whole cluster.
    """

    __slots__ = ("_args", "_node", "_redis_state")

    def __init__(
        self,
        args: tuple[Any, ...] = (),
        node: Node | None = None,
        redis_state: RedisState | None = None,
    ) -> None:
        self._args = args
        self._node = node
        self._redis_state = redis_state

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None and self._node is not None:
            self._node.succeeded()
        if not self._is_outage(error):
            return False
        if isinstance(error, RedisClusterException) and self._redis_state is not None:
            self._redis_state.recover()
        # The refusal of one command is no failure of the server, nor is `max_connections`.
        ours = (ResponseError, MaxConnectionsError)
        if self._node is not None and error and not isinstance(error, ours):
            self._node.failed(error)
        return True

    def _is_outage(self, error: BaseException | None) -> bool:
        if isinstance(error, redis.TimeoutError) and self._args:
            return str(self._args[0]).upper() not in _BLOCKING_COMMANDS
        return isinstance(error, OUTAGE_ERRORS) or (
            isinstance(error, RedisClusterException) and str(error).startswith(UNREACHABLE_CLUSTER)
        )


class FallbackClient:
    """Mixin of the clients: gives fallback replies while Redis is away or disabled."""

    redis_state: RedisState | None = None
    """What this process knows of the servers; None: caching is disabled, or has no URL."""
    strict: bool = False
    """Whether to raise instead of giving a fallback reply; for locks."""

    @property
    def away(self) -> bool:
        """Whether commands get fallback replies without asking a server."""
        state = self.redis_state
        return state is None or all(node.breaker.open for node in state.nodes)

    def _is_away(self, args: tuple[Any, ...]) -> bool:
        node = self._node(args)
        return self.away or (node is not None and node.breaker.open)

    def _node(self, args: tuple[Any, ...]) -> Node | None:
        """Return the server that a command goes to; None: it depends on more than its first key."""
        state = self.redis_state
        if state is None or state.node is not None:
            return state and state.node
        key = args[1] if len(args) > 1 else None
        if isinstance(key, str):
            key = key.encode()
        return state.topology.node_for(key) if isinstance(key, bytes) else None

    def _guard(self, args: tuple[Any, ...] = ()) -> OutageGuard:
        return OutageGuard(args, self._node(args), self.redis_state)

    def _fallback(self, args: tuple[Any, ...]) -> Any:
        if self.strict:
            raise unsupported(str(args[0]))
        return fallback_reply(args[0], len(args) - 1)

    def _require_redis(self, operation: str) -> None:
        if self.away:
            raise unsupported(operation)
