"""Insight: the figures of all workers together, and their most asked URLs (`CACHE_INSIGHT`)."""

from maxage.insight.overview import Overview, read_overview
from maxage.insight.record import Interval, RouteRecord, TopUrl, WorkerRecord

__all__ = ["Interval", "Overview", "RouteRecord", "TopUrl", "WorkerRecord", "read_overview"]
