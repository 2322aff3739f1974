"""The registry of the leases of a namespace: one hash, hence on one node of a cluster."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py's answers are of any type until they are checked here.

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from redis.exceptions import InvalidResponse, ResponseError

from maxage.redis_store.leases.lease import Record
from maxage.redis_store.servers.commands import Command

REGISTRY_SECONDS: Final = 400 * 86_400
"""Lifetime in seconds of the registry of an unused namespace.

It is longer than that of any response: if all workers die, the record of each must outlive the
responses that it could not purge.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The server's state and all workers' records, read in one round trip."""

    info: object
    """The answer to INFO replication, which may be an error."""
    server_now: int
    """The server's clock in milliseconds."""
    records: Mapping[str, Record]


@final
class Registry:
    """The hash with the records of a namespace's workers.

    Args:
        namespace: the prefix of all keys.
        send: sends commands to the hash's server in one round trip; returns the answers, errors
            included.
    """

    def __init__(self, namespace: str, send: Callable[[Sequence[Command]], Sequence[Any]]) -> None:
        self.key: Final = registry_key(namespace)
        self._send: Final = send

    def read(self) -> Reading:
        """Return the records as they are now.

        Raises:
            RedisError, OSError: the server did not answer, or refused.
        """
        asked = (("INFO", "replication"), ("TIME",), ("HGETALL", self.key))
        info, time, records = self._send(asked)
        if isinstance(records, ResponseError) and str(records).startswith("WRONGTYPE"):
            # Another program's value has our key. The remembered peers still count.
            self._send((("UNLINK", self.key),))
            records = []
        return Reading(info=info, server_now=_server_time(time), records=_records(records))

    def write(self, records: Mapping[str, Record], removed: Iterable[str] = ()) -> None:
        """Write records, remove others, and extend the registry's lifetime.

        Raises:
            RedisError, OSError: the server did not answer, or refused.
        """
        commands: list[Command] = [
            ("HSET", self.key, name, record.encode()) for name, record in records.items()
        ]
        commands += [("HDEL", self.key, name) for name in removed]
        if commands:
            for answer in self._send((*commands, ("EXPIRE", self.key, REGISTRY_SECONDS))):
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
