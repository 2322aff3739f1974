"""Which registries have the metrics: one's own of a process, or the files of all workers."""

import os
from functools import cache
from typing import Final
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from maxage.metrics.collector import FiguresCollector, latency_histogram
from maxage.metrics.shared_files import SharedFiles

_registered: Final[WeakSet[CollectorRegistry]] = WeakSet()


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Begin to measure, and put the metrics into a registry; a second call does nothing.

    Where `PROMETHEUS_MULTIPROC_DIR` is set, they go into the files of that folder instead, from
    which a `MultiProcessCollector` reads those of all workers.

    Args:
        registry: the one that your own endpoint exports.
    """
    histogram = _histogram()
    if is_multiprocess():
        _files()
    elif registry not in _registered:
        _registered.add(registry)
        registry.register(FiguresCollector())
        registry.register(histogram)


def exported(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to export: that one, or the sum of all workers as of now."""
    if not is_multiprocess():
        return registry
    _files().write()
    together = CollectorRegistry()
    MultiProcessCollector(together)
    return together


def is_multiprocess() -> bool:
    """Return whether prometheus-client is in its multiprocess mode."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))


@cache
def _histogram() -> Histogram:
    return latency_histogram()


@cache
def _files() -> SharedFiles:
    return SharedFiles()
