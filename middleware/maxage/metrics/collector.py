"""The metrics of one process: read when they are asked for, so that counting costs nothing more."""

from collections.abc import Iterator
from functools import cache
from typing import Final, final

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from maxage.observe.counters import total
from maxage.observe.figures import FIGURES, LATENCY, LATENCY_BUCKETS, LATENCY_TEXT, Figure
from maxage.observe.latency import listen


@final
class FiguresCollector(Collector):
    """Collects all metrics but the latency, which is a histogram of its own."""

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples of now."""
        tally = total()
        for figure in FIGURES:
            family = _family(figure)
            for labels, value in figure.read(tally):
                family.add_metric(labels, value)
            yield family


def _family(figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return kind(figure.name, figure.text, labels=figure.labels)


def latency_histogram() -> Histogram:
    """Return a histogram, in no registry, of the latency that is measured from now on."""
    made: Final = Histogram(LATENCY, LATENCY_TEXT, ["kind"], registry=None, buckets=LATENCY_BUCKETS)
    of_kind = cache(made.labels)
    listen(lambda kind, seconds: of_kind(kind).observe(seconds))
    return made
