"""The Pareto front of a search: what nothing else beats in both time and quality, as a list and as an image."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol, TypeVar

WIDTH, HEIGHT, MARGIN = 760, 440, 60


class Point(Protocol):
    @property
    def latency_ms(self) -> float: ...
    @property
    def auroc(self) -> float: ...


P = TypeVar("P", bound=Point)


def pareto_front(points: Sequence[P]) -> list[P]:
    """Points that no other one beats or equals in both, fastest first."""
    front: list[P] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.auroc)):
        if not front or point.auroc > front[-1].auroc:
            front.append(point)
    return front


def draw_front(points: Sequence[P], budget_ms: float, winner: P | None) -> str:
    """Draw all points, the front as a line and the budget as a SVG image."""
    right = 1.1 * max([budget_ms, *(point.latency_ms for point in points)])
    low = min((point.auroc for point in points), default=0.5)
    bottom = max(0.0, low - 0.1 * (1 - low) - 1e-3)

    def place(latency_ms: float, auroc: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * latency_ms / right
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (auroc - bottom) / (1 - bottom)
        return round(x, 1), round(y, 1)

    budget = place(budget_ms, bottom)[0]
    line = " ".join("{},{}".format(*place(point.latency_ms, point.auroc)) for point in pareto_front(points))
    dots = []
    for point in points:
        x, y = place(point.latency_ms, point.auroc)
        colour = "#c0392b" if point is winner else "#2c5f8a"
        dots.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}"><title>{escape(str(point))}</title></circle>')
    base, top = HEIGHT - MARGIN, MARGIN
    texts = [
        (WIDTH / 2, HEIGHT - 18, "middle", "latency of a frame, 95th percentile (ms)"),
        (MARGIN, top - 14, "start", "image AUROC against drawn defects"),
        (budget + 6, top + 12, "start", f"budget {budget_ms:g} ms"),
        *((place(right * i / 5, bottom)[0], base + 18, "middle", f"{right * i / 5:.3g}") for i in range(6)),
        *(
            (MARGIN - 8, place(0, bottom + (1 - bottom) * i / 4)[1] + 4, "end", f"{bottom + (1 - bottom) * i / 4:.3f}")
            for i in range(5)
        ),
    ]
    written = [
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>' for x, y, anchor, text in texts
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<path d="M{MARGIN} {top}V{base}H{WIDTH - MARGIN}" fill="none" stroke="#444"/>',
            f'<path d="M{budget} {top}V{base}" stroke="#888" stroke-dasharray="5 4"/>',
            f'<polyline points="{line}" fill="none" stroke="#2c5f8a"/>',
            *dots,
            *written,
            "</svg>",
            "",
        ]
    )
