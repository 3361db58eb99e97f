"""Charts as SVG text inside a page: no file, no script, no package; colours follow the page's light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

_MAX_POINTS = 400  # of a line: more than a screen shows would only make the page larger
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 46


@dataclass(frozen=True, slots=True)
class Axis:
    """Axis of a chart: a named range; `logarithmic` ranges are positive, `mirrored` ones show values without sign."""

    low: float
    high: float
    name: str
    logarithmic: bool = False
    mirrored: bool = False

    def share(self, value: float) -> float:
        """Map a value to its place on the axis: 0 at `low`, 1 at `high`."""
        low, high = self.low, self.high
        if self.logarithmic:  # 0 lies at the lower end
            low, high, value = (math.log(max(v, self.low)) for v in (low, high, value))
        return (value - low) / ((high - low) or 1.0)

    def ticks(self) -> list[float]:
        """Choose about five round numbers within the range."""
        if self.logarithmic and self.high / self.low > 10:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            wanted = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        else:
            step = 10 ** math.floor(math.log10((self.high - self.low) / 4 or 1.0))
            step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
            wanted = list(np.arange(math.ceil(self.low / step) * step, self.high + step / 1000, step))
        return [float(f"{value:.6g}") for value in wanted if self.low <= value <= self.high * (1 + 1e-9)]

    def text(self, tick: float) -> str:
        return f"{abs(tick) if self.mirrored else tick:g}"


class Chart:
    """SVG chart; later parts cover earlier ones. `kind` is "good", "bad", "warn" or "soft".

    `caption`: description of the chart for people who do not see it.
    `width`, `height`: in SVG units, which a page scales; letters are 13 units high.
    """

    def __init__(self, x: Axis, y: Axis, caption: str, *, width: int = 480, height: int = 290):
        self.x, self.y, self._caption, self._width, self._height = x, y, caption, width, height
        self._parts: list[str] = [*self._grid()]

    def bars(self, edges: npt.ArrayLike, heights: npt.ArrayLike, kind: str) -> None:
        """Draw a histogram; heights below 0 hang down."""
        edges, heights = np.asarray(edges, float), np.asarray(heights, float)
        for low, high, value in zip(edges[:-1], edges[1:], heights, strict=True):
            if value:
                top, bottom = self._at_y(max(value, 0)), self._at_y(min(value, 0))
                left, right = self._at_x(low), self._at_x(high)
                self._parts.append(
                    f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(1, right - left - 0.6):.1f}" '
                    f'height="{bottom - top:.1f}"><title>{low:.4g} to {high:.4g}: {abs(value):g}</title></rect>'
                )

    def line(self, xs: npt.ArrayLike, ys: npt.ArrayLike, kind: str) -> None:
        """Draw a line through points."""
        points = _thinned(np.column_stack([np.asarray(xs, float), np.asarray(ys, float)]))
        path = " ".join(f"{self._at_x(x):.1f} {self._at_y(y):.1f}" for x, y in points)
        self._parts.append(f'<path class="{kind}" d="M{path}"/>')

    def band(self, xs: npt.ArrayLike, lows: npt.ArrayLike, highs: npt.ArrayLike, kind: str) -> None:
        """Fill the area between two lines."""
        xs = np.asarray(xs, float)
        corners = zip(np.append(xs, xs[::-1]), np.append(highs, np.asarray(lows)[::-1]), strict=True)
        path = " ".join(f"{self._at_x(x):.1f} {self._at_y(y):.1f}" for x, y in corners)
        self._parts.append(f'<path class="{kind} band" d="M{path}Z"/>')

    def dots(self, xs: npt.ArrayLike, ys: npt.ArrayLike, kind: str) -> None:
        """Set a dot at every point."""
        points = zip(np.asarray(xs, float), np.asarray(ys, float), strict=True)
        path = "".join(f"M{self._at_x(x):.1f} {self._at_y(y):.1f}h0" for x, y in points)
        self._parts.append(f'<path class="{kind} dots" d="{path}"/>')

    def point(self, x: float, y: float, kind: str, label: str) -> None:
        right = self._at_x(x) < self._width * 0.6
        place = f'x="{self._at_x(x) + (9 if right else -9):.1f}" text-anchor="{"start" if right else "end"}"'
        below = self._at_y(y) + (18 if self._at_y(y) < self._height / 2 else -8)
        self._parts.append(f'<circle class="{kind}" cx="{self._at_x(x):.1f}" cy="{self._at_y(y):.1f}" r="5"/>')
        self._parts.append(f'<text {place} y="{below:.1f}">{escape(label)}</text>')

    def movable(self, name: str, x: float, y: float) -> None:
        """Draw a ring that a script finds by its id, and moves to coordinates from `place`."""
        at_x, at_y = self.place(x, y)
        self._parts.append(f'<circle class="ring" id="{name}" cx="{at_x}" cy="{at_y}" r="8"/>')

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point's values to coordinates of the drawing."""
        return round(self._at_x(x), 1), round(self._at_y(y), 1)

    def mark(self, x: float, kind: str, label: str, *, row: int = 0) -> None:
        """Draw a labelled vertical line at `x`; labels in different rows do not overlap."""
        at = self._at_x(x)
        right = at < self._width * 0.7
        place = f'x="{at + (5 if right else -5):.1f}" text-anchor="{"start" if right else "end"}"'
        self._parts.append(
            f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self._height - _BOTTOM}"/>'
            f'<text {place} y="{_TOP + 13 + 16 * row}">{escape(label)}</text>'
        )

    def legend(self, entries: Iterable[tuple[str, str]], *, upper: bool = False) -> None:
        """Add a legend in the lower or upper right corner; the upper one leaves room for two rows of marks."""
        lines = list(entries)
        y = _TOP + 13 + 32 if upper else self._height - _BOTTOM - 18 * len(lines) + 6
        for kind, label in lines:
            x = self._width - _RIGHT - 8
            self._parts.append(
                f'<line class="{kind}" x1="{x - 22}" x2="{x}" y1="{y - 4}" y2="{y - 4}"/>'
                f'<text x="{x - 28}" y="{y}" text-anchor="end">{escape(label)}</text>'
            )
            y += 18

    def svg(self) -> Markup:
        frame = f'<path class="frame" fill="none" d="M{_LEFT} {_TOP}V{self._height - _BOTTOM}H{self._width - _RIGHT}"/>'
        return Markup(
            f'<svg class="chart" viewBox="0 0 {self._width} {self._height}" role="img" '
            f'aria-label="{escape(self._caption)}">{"".join(self._parts)}{frame}</svg>'
        )

    def _at_x(self, value: float) -> float:
        return _LEFT + self.x.share(value) * (self._width - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        bottom = self._height - _BOTTOM
        return bottom - self.y.share(value) * (bottom - _TOP)

    def _grid(self) -> Iterable[str]:
        bottom, right = self._height - _BOTTOM, self._width - _RIGHT
        for tick in self.y.ticks():
            y = self._at_y(tick)
            yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{self.y.text(tick)}</text>'
        for tick in self.x.ticks():
            x = self._at_x(tick)
            yield f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{self.x.text(tick)}</text>'
        places = (
            f'x="{(_LEFT + right) / 2}" y="{self._height - 6}"',
            f'transform="translate(14 {bottom / 2}) rotate(-90)"',
        )
        for place, name in zip(places, (self.x.name, self.y.name), strict=True):
            yield f'<text {place} text-anchor="middle">{escape(name)}</text>'


def _thinned(points: np.ndarray) -> np.ndarray:
    if len(points) <= _MAX_POINTS:
        return points
    kept = np.unique(np.linspace(0, len(points) - 1, _MAX_POINTS).round().astype(int))
    return points[kept]
