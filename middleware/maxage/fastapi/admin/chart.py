"""Charts of the last intervals, as places in an SVG; the templates draw them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from maxage.insight.record import INTERVAL_SECONDS, Interval

WIDTH: Final = 720
LINE_WIDTH: Final = 340
HEIGHT: Final = 160
"""Units of the drawing, without its labels."""
SHOWN: Final = 120
"""Intervals of a chart: ten minutes."""
KINDS: Final = ("hits", "collapsed", "misses", "bypasses", "writes")
"""The kinds of requests, from the bottom of a bar to its top."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of a stacked bar."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart; its texts are for people who do not see it, too."""

    bars: tuple[Bar, ...] = ()
    line: str = ""
    """The points of a polyline."""
    top: float = 0.0
    """The value at the upper edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """The sums of one minute, for the table beside the charts."""

    ago: int
    """Minutes before now."""
    requests: int
    hits: int
    call_seconds: float | None
    """Mean seconds of an application call; None: there was none."""
    added_seconds: float | None
    """Mean seconds that the cache added to a request; None: not measured."""


def requests_chart(intervals: Sequence[Interval]) -> Chart:
    """Return stacked bars of requests a second, one for each interval."""
    shown = intervals[-SHOWN:]
    sums = [sum(getattr(one, kind) for kind in KINDS) for one in shown]
    top = _round_up(max(sums, default=0) / INTERVAL_SECONDS)
    unit, width = HEIGHT / (top * INTERVAL_SECONDS), WIDTH / SHOWN
    bars: list[Bar] = []
    for place, one in enumerate(shown, SHOWN - len(shown)):
        bottom = float(HEIGHT)
        for kind in KINDS:
            height = getattr(one, kind) * unit
            bottom -= height
            if height:
                bars.append(Bar(kind, _short(place * width), _short(bottom), _short(width * 0.8),
                                _short(height)))  # fmt: skip
    return Chart(bars=tuple(bars), top=top)


def call_chart(intervals: Sequence[Interval]) -> Chart:
    """Return the mean milliseconds of an application call, as a line."""
    return _line(intervals, lambda one: one.seconds / one.calls * 1e3 if one.calls else None)


def added_chart(intervals: Sequence[Interval]) -> Chart:
    """Return the mean milliseconds that the cache added to a request, as a line."""
    return _line(intervals, lambda one: one.added / one.timed * 1e3 if one.timed else None)


def minutes(intervals: Sequence[Interval]) -> tuple[Minute, ...]:
    """Return the sums of the last minutes, the newest one first."""
    a_minute = 60 // INTERVAL_SECONDS
    newest_first = list(reversed(intervals[-SHOWN:]))
    told: list[Minute] = []
    for ago, start in enumerate(range(0, len(newest_first), a_minute)):
        total = Interval(begins=0)
        for one in newest_first[start : start + a_minute]:
            total.add(one)
        told.append(
            Minute(
                ago=ago,
                requests=sum(getattr(total, kind) for kind in KINDS),
                hits=total.hits + total.collapsed,
                call_seconds=total.seconds / total.calls if total.calls else None,
                added_seconds=total.added / total.timed if total.timed else None,
            )
        )
    return tuple(told)


def _line(intervals: Sequence[Interval], value: Callable[[Interval], float | None]) -> Chart:
    shown = intervals[-SHOWN:]
    values = [value(one) for one in shown]
    top = _round_up(max((one for one in values if one is not None), default=0.0))
    points = [
        f"{_short(place * LINE_WIDTH / SHOWN)},{_short(HEIGHT - HEIGHT * one / top)}"
        for place, one in enumerate(values, SHOWN - len(shown))
        if one is not None
    ]
    return Chart(line=" ".join(points), top=top)


def _round_up(value: float) -> float:
    """Return the next of 1, 2 and 5, times a power of ten."""
    if value <= 0:
        return 1.0
    unit = 1e-3
    while True:
        for step in (1, 2, 5):
            if unit * step >= value:
                return unit * step
        unit *= 10


def _short(value: float) -> float:
    return round(value, 1)
