"""prometheus-client's multiprocess mode: the metrics of all workers, in files of one folder.

It knows no collectors of one's own. So a thread adds what was counted since the last time to
counters of prometheus-client, once a second, at a scrape, and when the cache is closed.
"""

# pyright: reportUnknownVariableType=false
# prometheus-client leaves part of its own signatures without types.

import atexit
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from prometheus_client import Counter, Gauge
from prometheus_client.multiprocess import mark_process_dead

from maxage.observe.counters import AT_CLOSE, Tally, total
from maxage.observe.figures import FIGURES, Figure, Labels

_PAUSE: Final = 1.0
"""Seconds between two writes: a worker that is killed takes no more with it."""


@final
class SharedFiles:
    """Writes the metrics of this process into its files."""

    def __init__(self) -> None:
        self._counters: Final = [
            (one, Counter(one.name, one.text, one.labels, registry=None))
            for one in FIGURES
            if one.kind == "counter"
        ]
        self._gauges: Final = [(one, _gauge(one)) for one in FIGURES if one.kind == "gauge"]
        self._written: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        atexit.register(self._end)
        AT_CLOSE.append(self._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        self._start()

    def write(self) -> None:
        """Write what has changed since the last time."""
        with self._lock:
            tally = total()
            for figure, counter in self._counters:
                self._add(figure, counter, tally)
            for figure, gauge in self._gauges:
                self._set(figure, gauge, tally)
        _forget_killed()

    def _add(self, figure: Figure, counter: Counter, tally: Tally) -> None:
        for labels, value in figure.read(tally):
            before = self._written.get((figure.name, labels), 0.0)
            # A middleware that ends meanwhile may be missed once.
            if value > before:
                self._written[figure.name, labels] = value
                (counter.labels(*labels) if labels else counter).inc(value - before)

    def _set(self, figure: Figure, gauge: Gauge, tally: Tally) -> None:
        found = dict(figure.read(tally))
        for name, labels in tuple(self._written):
            if name == figure.name:
                # What is there no more, such as a server that left the cluster.
                found.setdefault(labels, 0.0)
        for labels, value in found.items():
            self._written[figure.name, labels] = value
            (gauge.labels(*labels) if labels else gauge).set(value)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="maxage-metrics", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE):
            self.write()

    def _end(self) -> None:
        """Write the rest, and take this process out of the gauges of living ones."""
        if self._ended.is_set():
            return
        self._ended.set()
        self.write()
        mark_process_dead(os.getpid())

    def _after_fork(self) -> None:
        """Begin anew in a forked worker: what its parent counted is in its parent's files."""
        self._lock = threading.Lock()
        tally = total()
        for figure, _ in self._counters:
            for labels, value in figure.read(tally):
                self._written[figure.name, labels] = value
        self._start()


def _gauge(figure: Figure) -> Gauge:
    mode = figure.together
    return Gauge(figure.name, figure.text, figure.labels, registry=None, multiprocess_mode=mode)


def _forget_killed() -> None:
    """Take processes that were killed out of the gauges: no alert for what they said would end."""
    if not Path("/proc", str(os.getpid())).exists():
        return
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            # Another worker may have found it too.
            with suppress(FileNotFoundError):
                file.unlink()
