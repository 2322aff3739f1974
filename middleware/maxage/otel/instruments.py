"""The metrics as OpenTelemetry instruments: the SDK reads them when it exports."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from maxage.observe.counters import total
from maxage.observe.figures import FIGURES, LATENCY, LATENCY_BUCKETS, LATENCY_TEXT, Figure
from maxage.observe.latency import listen

Callback = Callable[[CallbackOptions], Iterable[Observation]]
_UNIT_SUFFIX: Final = "_seconds"


def create_instruments(meter: Meter) -> None:
    """Create an observable instrument for each metric, and a histogram of the latency.

    Without an SDK no callback is ever called. The latency is measured from the first one on.
    """
    begin = _latency(meter)
    for figure in FIGURES:
        create: Any = (
            meter.create_observable_counter
            if figure.kind == "counter"
            else meter.create_observable_gauge
        )
        create(_name(figure.name), callbacks=[_callback(figure, begin)], description=figure.text)


def _name(name: str) -> str:
    """Return the name as OpenTelemetry spells names: `maxage.requests`."""
    return name.replace("_", ".", 1)


def _callback(figure: Figure, begin: Callable[[], None]) -> Callback:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        begin()
        return [
            Observation(value, dict(zip(figure.labels, labels, strict=True)))
            for labels, value in figure.read(total())
        ]

    return observe


def _latency(meter: Meter) -> Callable[[], None]:
    """Return a function whose first call begins to measure the latency."""
    histogram = meter.create_histogram(
        _name(LATENCY.removesuffix(_UNIT_SUFFIX)),
        unit="s",
        description=LATENCY_TEXT,
        explicit_bucket_boundaries_advisory=LATENCY_BUCKETS,
    )
    begun: list[bool] = []

    def begin() -> None:
        if not begun:
            begun.append(True)
            listen(lambda kind, seconds: histogram.record(seconds, {"kind": kind}))

    return begin
