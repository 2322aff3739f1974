"""Overview: the figures of all workers, added up."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from maxage.insight.publisher import insight_key, read_records
from maxage.insight.record import (
    INTERVAL_SECONDS,
    Interval,
    RouteRecord,
    TopUrl,
    WorkerRecord,
)
from maxage.insight.watch import watch_in_process
from maxage.observe.counters import add_sums
from maxage.redis_store.observer import Observer
from maxage.redis_url import server_url
from maxage.settings import CacheSettings

FRESH_SECONDS: Final = 4 * INTERVAL_SECONDS
"""Seconds after which a record is that of a worker which has ended, or cannot reach Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All workers together, since each of them began."""

    workers: tuple[WorkerRecord, ...]
    """The workers that published within the last `FRESH_SECONDS`, the oldest one first."""
    at: float
    """Now, in POSIX seconds of the server's clock."""
    routes: dict[str, RouteRecord]
    """By route template, the route with the most requests first."""
    totals: RouteRecord
    """All routes added up."""
    asked: tuple[TopUrl, ...]
    """The most asked URLs, the most asked one first."""
    costly: tuple[TopUrl, ...]
    """The URLs whose application calls took the most seconds."""
    intervals: tuple[Interval, ...]
    """The sums of the last intervals, the oldest one first; intervals without records are 0."""
    purges: dict[str, int]
    unconfirmed_purges: int
    owed_purges: int
    breakers_open: int
    """Servers that some worker does not ask now, counted by each worker."""
    unreadable: int
    timed: int
    added: float
    """Seconds that the cache added to `timed` requests."""

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON knows."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def read_overview(settings: CacheSettings) -> Overview:
    """Return the figures of all workers of a namespace; of an embedded store, this process's.

    Raises:
        StoreUnavailableError: the server did not answer.
    """
    if server_url(settings.redis_url) is None:
        return overview_of_process(settings)
    now, records = read_records(Observer(settings), insight_key(settings.cache_namespace))
    return overview_of(records, now)


def overview_of_process(settings: CacheSettings) -> Overview:
    """Return the figures of this process alone; no server is asked."""
    watch, now = watch_in_process(settings), time.time()
    return overview_of([] if watch is None else [watch.record(now)], now)


def overview_of(records: Iterable[WorkerRecord], now: float) -> Overview:
    """Return the sum of the records that are recent."""
    fresh = [one for one in records if now - one.at <= FRESH_SECONDS]
    fresh.sort(key=lambda one: (one.started, one.worker))
    routes: dict[str, RouteRecord] = {}
    totals = RouteRecord()
    purges: dict[str, int] = {}
    for worker in fresh:
        for name, counts in worker.routes.items():
            add_sums(routes.setdefault(name, RouteRecord()), counts)
            add_sums(totals, counts)
        for cause, count in worker.purges.items():
            purges[cause] = purges.get(cause, 0) + count
    return Overview(
        workers=tuple(fresh),
        at=now,
        routes=dict(sorted(routes.items(), key=lambda one: -one[1].requests)),
        totals=totals,
        asked=_together(one for worker in fresh for one in worker.asked),
        costly=_together(one for worker in fresh for one in worker.costly),
        intervals=_intervals(fresh),
        purges=purges,
        unconfirmed_purges=sum(one.unconfirmed_purges for one in fresh),
        owed_purges=sum(one.owed_purges for one in fresh),
        breakers_open=sum(one.breakers_open for one in fresh),
        unreadable=sum(one.unreadable for one in fresh),
        timed=sum(one.timed for one in fresh),
        added=sum(one.added for one in fresh),
    )


def _together(tops: Iterable[TopUrl]) -> tuple[TopUrl, ...]:
    added: dict[str, TopUrl] = {}
    for top in tops:
        add_sums(added.setdefault(top.url, TopUrl(url=top.url, weight=0.0)), top, "url")
    return tuple(sorted(added.values(), key=lambda one: -one.weight))


def _intervals(workers: Iterable[WorkerRecord]) -> tuple[Interval, ...]:
    added: dict[int, Interval] = {}
    for interval in (one for worker in workers for one in worker.intervals):
        added.setdefault(interval.begins, Interval(begins=interval.begins)).add(interval)
    if not added:
        return ()
    times = range(min(added), max(added) + 1, INTERVAL_SECONDS)
    return tuple(added.get(begins) or Interval(begins=begins) for begins in times)
