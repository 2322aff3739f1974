"""Boxes, arrows and lines of text as SVG, on a card that can be read on light and dark pages."""

from collections.abc import Sequence
from html import escape

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, PALE, BLUE, GREEN, RED, GREY = "#1f2933", "#fbfcfe", "#dbe7ff", "#d8f3e0", "#fde0dd", "#e9edf2"
SIZE = 13
LINE = 18


class Picture:
    """A picture that grows by what is put into it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts: list[str] = []
        self._size = width, height
        self._title = title

    def box(
        self, x: int, y: int, width: int, height: int, lines: Sequence[str], fill: str = GREY
    ) -> None:
        """Put lines of text into a box; the first one is bold if there are several."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" '
            f'stroke="{INK}" stroke-opacity="0.35"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * LINE / 2 + SIZE / 3
        for number, line in enumerate(lines):
            bold = len(lines) > 1 and number == 0
            self.text(x + width / 2, top + number * LINE, line, bold=bold, anchor="middle")

    def text(
        self, x: float, y: float, line: str, *, bold: bool = False, anchor: str = "start"
    ) -> None:
        """Write one line."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(line)}</text>'
        )

    def arrow(self, *points: tuple[int, int], label: str = "", dashed: bool = False) -> None:
        """Draw an arrow along the points, with a label above the middle of its first part."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{dash} '
            'marker-end="url(#tip)"/>'
        )
        if label:
            (x1, y1), (x2, y2) = points[0], points[1]
            if y1 == y2:
                self.text((x1 + x2) / 2, y1 - 7, label, anchor="middle")
            else:
                self.text(x1 + 7, (y1 + y2) / 2 + 4, label)

    def line(self, x: int, top: int, bottom: int) -> None:
        """Draw a line of life, downwards."""
        self._parts.append(
            f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="{INK}" '
            'stroke-opacity="0.35"/>'
        )

    def svg(self) -> str:
        """The whole file."""
        width, height = self._size
        parts = "\n".join(self._parts)
        return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" role="img" font-family="{FONT}" font-size="{SIZE}" fill="{INK}">
<title>{escape(self._title)}</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>
<rect width="{width}" height="{height}" rx="12" fill="{PALE}"/>
{parts}
</svg>
"""
