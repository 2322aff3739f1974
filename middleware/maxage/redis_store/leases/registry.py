"""Where the workers of a namespace keep their leases: one hash, hence one node of a Cluster."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# What redis-py reads is of any type until it is checked here.

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from redis.exceptions import InvalidResponse, ResponseError

from maxage.redis_store.leases.lease import Record
from maxage.redis_store.servers.commands import Command

REGISTRY_SECONDS: Final = 400 * 86_400
"""Seconds for which the server keeps the registry of a namespace that nobody uses any more.

Longer than any response: the record of a worker that died with the last of its peers must outlive
what that worker could not purge.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What one round trip told of the server and of all workers."""

    info: object
    """The answer to INFO replication, or the error in its place."""
    server_now: int
    """The server's clock in milliseconds."""
    records: Mapping[str, Record]


@final
class Registry:
    """The hash in which the workers of a namespace keep their records.

    Args:
        namespace: the prefix of all keys.
        ask: sends commands to the server in one round trip; errors stand among the answers.
    """

    def __init__(self, namespace: str, ask: Callable[[Sequence[Command]], Sequence[Any]]) -> None:
        self.key: Final = registry_key(namespace)
        self._ask: Final = ask

    def read(self) -> Registered:
        """Return what lies there now.

        Raises:
            RedisError, OSError: the server did not answer, or would not.
        """
        asked = (("INFO", "replication"), ("TIME",), ("HGETALL", self.key))
        info, time, records = self._ask(asked)
        if isinstance(records, ResponseError) and str(records).startswith("WRONGTYPE"):
            # Somebody else's value under our key; what was remembered of the peers still counts.
            self._ask((("UNLINK", self.key),))
            records = []
        return Registered(info=info, server_now=_server_time(time), records=_records(records))

    def write(self, records: Mapping[str, Record], removed: Iterable[str] = ()) -> None:
        """Write records, remove others, and keep the registry for as long as it may be needed.

        Raises:
            RedisError, OSError: the server did not answer, or would not.
        """
        commands: list[Command] = [
            ("HSET", self.key, name, record.encode()) for name, record in records.items()
        ]
        commands += [("HDEL", self.key, name) for name in removed]
        if commands:
            for answer in self._ask((*commands, ("EXPIRE", self.key, REGISTRY_SECONDS))):
                if isinstance(answer, Exception):
                    raise answer


def registry_key(namespace: str) -> bytes:
    """Return the key of the registry."""
    return namespace.encode() + b":leases"


def _server_time(answer: object) -> int:
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, list) and len(answer) == 2:
        seconds, microseconds = answer
        return int(seconds) * 1000 + int(microseconds) // 1000
    raise InvalidResponse("the answer is not that to TIME")


def _records(answer: object) -> dict[str, Record]:
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, list) or not all(isinstance(part, bytes) for part in answer):
        raise InvalidResponse("the answer is not that to HGETALL")
    names = (name.decode("utf-8", "replace") for name in answer[::2])
    return dict(zip(names, map(Record.decode, answer[1::2]), strict=True))
