"""A plot of hit rates by lifetime, as SVG."""

from collections.abc import Iterator, Sequence
from html import escape
from math import log
from typing import Final

from maxage.insight.units import counted, duration, share
from maxage.simulate.outcome import Outcome, RouteOutcome

_WIDTH: Final = 560
_HEIGHT: Final = 320
_LEFT: Final = 56
_TOP: Final = 56
_LEGEND: Final = 300
"""Units of the drawing, and of its margins."""
_COLOURS: Final = (
    "#2f6fdb", "#c4564a", "#2a9d6f", "#b58900", "#7b5bc9", "#d0679d", "#3a9fb8", "#8a8f98",
)  # fmt: skip
_STYLE: Final = """\
svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#333}
.title{font-size:14px;font-weight:600}
.grid{stroke:#ddd}.line{fill:none;stroke-width:1.5}.all{stroke:#222;stroke-width:3}
@media (prefers-color-scheme: dark){svg{background:#181a1e}text{fill:#ddd}.grid{stroke:#3a3d44}
.all{stroke:#eee}}"""


def plot(outcome: Outcome, most: int = len(_COLOURS)) -> str:
    """Return the plot: one line for all routes, and one for each of the most asked ones."""
    shown = outcome.routes[: min(most, len(_COLOURS))]
    heading = f"Hit rate by lifetime, {counted(outcome.requests, 'request')}"
    width, height = _LEFT + _WIDTH + _LEGEND, _TOP + _HEIGHT + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{heading}</title><desc>{escape(_described(outcome))}</desc>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="24">{heading}</text>',
        *_axes(outcome.lifetimes),
        *(
            _line(one, outcome.lifetimes, f'class="line" stroke="{_COLOURS[number]}"')
            for number, one in enumerate(shown)
        ),
        _line(outcome.total, outcome.lifetimes, 'class="line all"'),
        *_legend(outcome.total, shown),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _described(outcome: Outcome) -> str:
    """Return the line of all routes in words."""
    cells = zip(outcome.lifetimes, outcome.total.lifetimes, strict=True)
    return "All routes: " + ", ".join(
        f"{share(cell.hit_rate, 1)} with {duration(seconds)}" for seconds, cell in cells
    )


def _axes(lifetimes: Sequence[float]) -> Iterator[str]:
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{percent} %</text>'
    for seconds in lifetimes:
        x = _x(seconds, lifetimes)
        label = duration(seconds)
        yield f'<text x="{x}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">{label}</text>'


def _line(one: RouteOutcome, lifetimes: Sequence[float], style: str) -> str:
    points = " ".join(
        f"{_x(seconds, lifetimes)},{_y(cell.hit_rate)}"
        for seconds, cell in zip(lifetimes, one.lifetimes, strict=True)
    )
    return f'<polyline {style} points="{points}"/>'


def _legend(total: RouteOutcome, shown: Sequence[RouteOutcome]) -> Iterator[str]:
    left = _LEFT + _WIDTH + 24
    styles = ['class="line all"', *(f'class="line" stroke="{colour}"' for colour in _COLOURS)]
    for number, (one, style) in enumerate(zip((total, *shown), styles, strict=False)):
        y = _TOP + 8 + 22 * number
        name = escape(one.route if len(one.route) <= 34 else one.route[:33] + "…")
        yield f'<polyline {style} points="{left},{y} {left + 20},{y}"/>'
        yield f'<text x="{left + 28}" y="{y + 4}">{name}</text>'


def _x(seconds: float, lifetimes: Sequence[float]) -> float:
    """Return the place of a lifetime, on a scale of logarithms."""
    first, last = log(lifetimes[0]), log(lifetimes[-1])
    part = (log(seconds) - first) / (last - first) if last > first else 0.5
    return round(_LEFT + 16 + part * (_WIDTH - 32), 1)


def _y(share_of_hits: float) -> float:
    return round(_TOP + _HEIGHT * (1 - share_of_hits), 1)
