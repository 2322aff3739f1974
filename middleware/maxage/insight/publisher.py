"""Publisher: a thread that writes the record of its worker into Redis every few seconds."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec

from maxage.errors import StoreUnavailableError
from maxage.insight.record import INTERVAL_SECONDS, WorkerRecord
from maxage.insight.requests import PendingRequests, pack
from maxage.redis_store.leases.process_identity import process_name
from maxage.redis_store.observer import Observer
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import Node, describe
from maxage.redis_url import server_url
from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

HASH_SECONDS: Final = 60
"""Lifetime of the hash with all records in seconds, from the last record on."""
REQUESTS_BYTES: Final = 1_000_000
"""Bytes that the published requests of a worker take at most."""
FORGOTTEN_SECONDS: Final = 60.0
"""Seconds after which the record of a worker that publishes no more is removed."""
_TIMEOUT: Final = 1.0
"""Seconds that the server may take."""


def insight_key(namespace: str) -> bytes:
    """Return the key of the hash with the records of all workers."""
    return namespace.encode() + b":insight"


def requests_key(namespace: str, worker: str) -> bytes:
    """Return the key of the hash with the last requests of a worker, in chunks."""
    return insight_key(namespace) + b":" + worker.encode()


@final
class Publisher:
    """Publishes one worker; no request waits for it, and no failure of it counts.

    Args:
        settings: of its middleware.
        requests: its requests that are not published yet.
        record: returns its state at a time of the server.
    """

    def __init__(
        self,
        settings: CacheSettings,
        requests: PendingRequests,
        record: Callable[[float], WorkerRecord],
    ) -> None:
        self._settings: Final = settings
        self._requests: Final = requests
        self._record: Final = record
        self._has_server: Final = server_url(settings.redis_url) is not None
        self._key: Final = insight_key(settings.cache_namespace)
        self.pid = 0
        """The process whose thread runs."""
        self._chunks: Final[dict[int, int]] = {}
        """Bytes of the published chunks, by the number of their first request."""
        self._failed = False

    def start(self) -> None:
        """Start the thread, also anew in a forked process; nothing is done where it runs."""
        if self.pid == os.getpid():
            return
        self.pid = os.getpid()
        if self._has_server:
            threading.Thread(target=self._run, name="maxage-insight", daemon=True).start()

    def _run(self) -> None:
        observer = Observer(self._settings, _TIMEOUT)
        while True:
            began = time.monotonic()
            try:
                self.publish(observer)
                self._failed = False
            except Exception as error:  # noqa: BLE001 - the next attempt comes anyway
                if not self._failed:
                    self._failed = True
                    logger.info("The figures of this worker are not published: %s", error)
            time.sleep(max(0.1, INTERVAL_SECONDS - (time.monotonic() - began)))

    def publish(self, observer: Observer) -> None:
        """Write the record of this worker, and remove those of workers that have ended.

        Raises:
            StoreUnavailableError: the server did not answer.
        """
        now, present = read_records(observer, self._key)
        record = self._record(now)
        commands: list[Command] = [
            ("HSET", self._key, record.worker, msgspec.json.encode(record)),
            ("EXPIRE", self._key, HASH_SECONDS),
        ]
        ended = [one.worker for one in present if now - one.at > FORGOTTEN_SECONDS]
        if ended:
            commands.append(("HDEL", self._key, *ended))
        _ask(observer, observer.node_for(self._key), commands)
        self._publish_requests(observer, now - time.time())

    def _publish_requests(self, observer: Observer, ahead: float) -> None:
        """Write the requests since the last time, and remove the oldest ones beyond the bound."""
        key = requests_key(self._settings.cache_namespace, process_name())
        commands: list[Command] = [("EXPIRE", key, HASH_SECONDS)]
        chunk = self._requests.chunk(ahead)
        if chunk.requests:
            packed = pack(chunk)
            self._chunks[chunk.first] = len(packed)
            commands.insert(0, ("HSET", key, chunk.first, packed))
        oldest = self._oldest_chunks()
        if oldest:
            commands.append(("HDEL", key, *oldest))
        _ask(observer, observer.node_for(key), commands)
        self._requests.published(chunk)
        for first in oldest:
            del self._chunks[first]

    def _oldest_chunks(self) -> list[int]:
        """Return the chunks that are beyond the bound."""
        left = sum(self._chunks.values())
        oldest: list[int] = []
        for first, taken in self._chunks.items():
            if left <= REQUESTS_BYTES:
                break
            left -= taken
            oldest.append(first)
        return oldest


def _ask(observer: Observer, node: Node, commands: Sequence[Command]) -> None:
    """Ask a server; an answer that is an error is raised."""
    for answer in observer.ask(node, commands):
        if isinstance(answer, Exception):
            raise answer


def server_seconds(answer: Any) -> float:
    """Return POSIX seconds in an answer to TIME; those of this machine where it is an error."""
    if isinstance(answer, Exception):
        return time.time()
    seconds, microseconds = answer
    return int(seconds) + int(microseconds) / 1_000_000


def read_records(observer: Observer, key: bytes) -> tuple[float, list[WorkerRecord]]:
    """Return the server's time, and the records of all workers; those of another version are not.

    Raises:
        StoreUnavailableError: the server did not answer, or refused.
    """
    clock, answer = observer.ask(observer.node_for(key), [("TIME",), ("HGETALL", key)])
    if isinstance(answer, Exception):
        raise StoreUnavailableError(describe(answer)) from answer
    records: list[WorkerRecord] = []
    for value in answer[1::2]:
        try:
            records.append(msgspec.json.decode(value, type=WorkerRecord))
        except msgspec.MsgspecError:
            continue
    return server_seconds(clock), records
