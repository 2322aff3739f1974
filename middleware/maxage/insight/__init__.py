"""Insight: the figures of all workers together, and their most asked URLs (`CACHE_INSIGHT`)."""

from maxage.insight.overview import Overview, read_overview
from maxage.insight.recent import RecentRequests, read_requests
from maxage.insight.record import Interval, RouteRecord, TopUrl, WorkerRecord

__all__ = [
    "Interval",
    "Overview",
    "RecentRequests",
    "RouteRecord",
    "TopUrl",
    "WorkerRecord",
    "read_overview",
    "read_requests",
]
