"""Recent requests of all workers, in their order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final

from msgspec.structs import replace

from maxage.insight.overview import FRESH_SECONDS
from maxage.insight.publisher import insight_key, read_records, requests_key
from maxage.insight.requests import Chunk, RecordedRequest, unpack
from maxage.redis_store.observer import Observer
from maxage.settings import CacheSettings

_ALWAYS: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRequests:
    """The last requests of all workers, for as long as none of them is missing."""

    workers: int
    requests: Sequence[RecordedRequest]
    """The oldest first; times are by the server's clock."""

    @property
    def hit_rate(self) -> float:
        """The share of GET and HEAD that the cache answered, from 0 to 1."""
        reads = [one for one in self.requests if one.method in {"GET", "HEAD"}]
        return sum(not one.status for one in reads) / len(reads) if reads else 0.0


def read_requests(settings: CacheSettings) -> RecentRequests:
    """Return the last requests of the workers of a namespace.

    Raises:
        StoreUnavailableError: the server did not answer.
    """
    observer = Observer(settings)
    now, records = read_records(observer, insight_key(settings.cache_namespace))
    keys = [requests_key(settings.cache_namespace, one.worker) for one in records]
    told = observer.run([("HGETALL", one) for one in keys])
    # Those that have ended publish no more.
    until = min((one.at for one in records if now - one.at <= FRESH_SECONDS), default=now)
    return together([_chunks(answer) for answer in told], until)


def together(workers: Iterable[Iterable[Chunk]], until: float) -> RecentRequests:
    """Return the requests of several workers, for as long as those of all of them are known.

    All had published by `until` (POSIX seconds).
    """
    known = [_whole_end(chunks) for chunks in workers]
    since = max((begins for begins, _ in known), default=_ALWAYS)
    ordered = merge(*(requests for _, requests in known), key=lambda one: one.time)
    return RecentRequests(
        workers=len(known), requests=[one for one in ordered if since <= one.time <= until]
    )


def _chunks(answer: Any) -> list[Chunk]:
    """Return the chunks in an answer to HGETALL; those of another version are left out."""
    values: list[bytes] = [] if isinstance(answer, Exception) else answer[1::2]
    return [chunk for value in values if (chunk := unpack(value)) is not None]


def _whole_end(chunks: Iterable[Chunk]) -> tuple[float, list[RecordedRequest]]:
    """Return the requests of a worker behind the last missing one, and since when they are all."""
    found: list[RecordedRequest] = []
    following = 0
    since = _ALWAYS
    for chunk in sorted(chunks, key=lambda one: one.first):
        moved = [replace(one, time=one.time + chunk.ahead) for one in chunk.requests]
        if chunk.first != following:
            found, since = [], moved[0].time
        found += moved
        following = chunk.first + len(moved)
    # A read is noted when its call has returned, under the time when it began.
    return since, sorted(found, key=lambda one: one.time)
