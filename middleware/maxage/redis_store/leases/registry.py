"""The registry of the leases of a namespace: one hash, hence on one node of a cluster.

It has a field for each worker, and one for the watch. So the watch is lost if the leases are.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py's answers are of any type until they are checked here.

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

from msgspec import Struct
from redis.exceptions import InvalidResponse, ResponseError

from maxage.redis_store.leases.lease import Record
from maxage.redis_store.leases.watch import Watch
from maxage.redis_store.servers.commands import Command

REGISTRY_SECONDS: Final = 400 * 86_400
"""Lifetime in seconds of the registry of an unused namespace.

It is longer than that of any response: if all workers die, the record of each must outlive the
responses that it could not purge.
"""

WATCH_FIELD: Final = b"watch"


class Glance(Struct, frozen=True, kw_only=True):
    """The watch, and the server's clock after it was read."""

    server_now: int
    """The server's clock in milliseconds."""
    watch: Watch | None
    """None: there is none."""


class Reading(Struct, frozen=True, kw_only=True):
    """The server's state, the watch, and all workers' records, read in one round trip."""

    info: object
    """The answer to INFO replication, which may be an error."""
    server_now: int
    """The server's clock in milliseconds."""
    watch: Watch | None
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

    def glance(self) -> Glance:
        """Return the watch as it is now; its size does not depend on the number of workers.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        watch, time = self._send((("HGET", self.key, WATCH_FIELD), ("TIME",)))
        found = Watch.decode(watch) if isinstance(watch, bytes) else None
        return Glance(server_now=_server_time(time), watch=found)

    def knows(self, name: str) -> tuple[object, bool]:
        """Return the answer to INFO replication, and whether there is a record of this name.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        record, info = self._send((("HGET", self.key, name), ("INFO", "replication")))
        return info, isinstance(record, bytes)

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
        watch, found = fields_of(records)
        return Reading(info=info, server_now=_server_time(time), watch=watch, records=found)

    def write(
        self,
        records: Mapping[str, Record],
        removed: Iterable[str] = (),
        *,
        watch: Watch | None = None,
        extends: bool = True,
    ) -> None:
        """Write records and the watch in one step, and remove other records.

        Args:
            records: the record of each worker.
            removed: the workers whose records end.
            watch: the watch; None: it stays.
            extends: whether to extend the registry's lifetime too.

        Raises:
            RedisError, OSError: the server did not answer, or refused.
        """
        fields: list[str | bytes] = []
        for name, record in records.items():
            fields += (name, record.encode())
        if watch is not None:
            fields += (WATCH_FIELD, watch.encode())
        commands: list[Command] = [("HSET", self.key, *fields)] if fields else []
        commands += [("HDEL", self.key, name) for name in removed]
        if fields and extends:
            commands.append(("EXPIRE", self.key, REGISTRY_SECONDS))
        if commands:
            for answer in self._send(commands):
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


def fields_of(answer: object) -> tuple[Watch | None, dict[str, Record]]:
    """Return the watch and the records in an answer to HGETALL.

    Raises:
        RedisError: it is an error, or no such answer.
    """
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, list) or not all(isinstance(part, bytes) for part in answer):
        raise InvalidResponse("the answer is not that to HGETALL")
    fields = dict(zip(answer[::2], answer[1::2], strict=True))
    watch = fields.pop(WATCH_FIELD, None)
    names = (name.decode("utf-8", "replace") for name in fields)
    records = dict(zip(names, map(Record.decode, fields.values()), strict=True))
    return None if watch is None else Watch.decode(watch), records
