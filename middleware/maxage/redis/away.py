"""What the guide's clients answer while Redis is away, and what they refuse to make up."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# The empty answers are of any type.

from typing import Any, Final, NoReturn

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

from maxage.errors import UnsupportedWhileAwayError
from maxage.redis_store.servers.node import Node

AWAY: Final = (
    AuthenticationError, AuthorizationError, BusyLoadingError, ClusterDownError, MasterDownError,
    NoPermissionError, OutOfMemoryError, ReadOnlyError, SlotNotCoveredError, TryAgainError,
    redis.ConnectionError, redis.TimeoutError, OSError,
)  # fmt: skip
"""What the server's state is to blame for; other errors are mistakes of the caller."""

_EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys(("MGET", "HMGET", "KEYS", "LRANGE", "HKEYS", "HVALS", "SORT", "ZRANGE",
                     "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGEBYLEX", "XRANGE",
                     "XREVRANGE", "GEOPOS", "GEODIST", "GEOSEARCH", "ZMSCORE", "SMISMEMBER",
                     "TIME", "COMMAND"), ()),
    **dict.fromkeys(("SMEMBERS", "SINTER", "SUNION", "SDIFF"), frozenset()),
    **{name: {} for name in ("HGETALL", "INFO", "CONFIG GET")},
    **dict.fromkeys(("SCAN", "HSCAN", "SSCAN", "ZSCAN"), (0, ())),
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
"""What each command answers while Redis is away: reads None or empty, writes False or 0."""


WAITING: Final = frozenset({
    "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "XREAD",
    "XREADGROUP", "WAIT",
})  # fmt: skip
"""Commands that may take their time: running out of the budget shows no fault of the server."""


def pretended(command: Any, arguments: int) -> Any:
    """Return the answer of a command while Redis is away.

    Raises:
        UnsupportedWhileAwayError: an answer must not be made up (locks, scripts, transactions).
    """
    name = str(command).upper()
    if name not in _EMPTY:
        refuse(name)
    if name in {"MGET", "HMGET"}:
        return [None] * (arguments if name == "MGET" else arguments - 1)
    empty = _EMPTY[name]
    if isinstance(empty, tuple):
        return (0, []) if empty else []
    return type(empty)() if isinstance(empty, (dict, frozenset)) else empty


def refuse(what: str) -> NoReturn:
    raise UnsupportedWhileAwayError(
        f"Redis is away or caching is disabled, and {what} cannot be answered without it."
    )


def note(node: Node, error: Exception) -> None:
    """Count what shows that the server is away; a refusal of one command is none of that."""
    if not isinstance(error, ResponseError):
        node.failed(error)
