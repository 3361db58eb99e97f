"""What was measured and what was wanted: rows, targets, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.interleave import Timing

OURS = "edgead"
FP32 = "edgead fp32"  # our own fallback: no opponent


@dataclass(frozen=True, slots=True)
class Target:
    """How many times faster than a contender, or with `against` None within how many seconds."""

    against: str | None
    least: float
    aim: float | None = None

    def text(self) -> str:
        wanted = f"{self.least:g}" if self.aim is None else f"{self.least:g}, aim {self.aim:g}"
        return f"{wanted} s" if self.against is None else f"{wanted} x {self.against}"


@dataclass(frozen=True)
class Row:
    """One piece of work, the contenders' times and the targets; `notes` must fit into JSON."""

    group: str
    work: str
    timings: dict[str, Timing]
    targets: tuple[Target, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """How many times longer than edgead each other contender takes."""
        ours = self.timings[OURS].median_ms
        return {name: timing.median_ms / ours for name, timing in self.timings.items() if name != OURS}

    def reached(self, target: Target) -> float | None:
        """The ratio or the seconds that `target` is about; None if its contender was not measured."""
        if target.against is None:
            return self.timings[OURS].median_ms / 1e3
        return self.ratios().get(target.against)

    def verdict(self, target: Target) -> str:
        """Say "aim met", "met", "not met" or "not measured"."""
        value = self.reached(target)
        if value is None:
            return "not measured"
        # Seconds are better when they are fewer.
        sign = -1 if target.against is None else 1
        if target.aim is not None and sign * value >= sign * target.aim:
            return "aim met"
        return "met" if sign * value >= sign * target.least else "not met"

    def best_opponent(self) -> tuple[str, Timing] | None:
        """The fastest contender that is not ours."""
        others = {name: timing for name, timing in self.timings.items() if name not in (OURS, FP32)}
        return min(others.items(), key=lambda item: item[1].median_ms, default=None)

    def to_json(self) -> dict[str, Any]:
        """Everything about this row in plain JSON types."""
        return {
            "group": self.group,
            "work": self.work,
            "timings": {name: asdict(timing) for name, timing in self.timings.items()},
            "ratios": self.ratios(),
            "targets": [
                {**asdict(target), "reached": self.reached(target), "verdict": self.verdict(target)}
                for target in self.targets
            ],
            "notes": self.notes,
        }


def markdown_table(rows: Sequence[Row]) -> str:
    """Lay out all rows as a Markdown table."""
    lines = [
        "| work | edgead ms | best other ms | ratios | target | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = row.best_opponent()
        cells = [
            row.work,
            _ms(row.timings[OURS].median_ms),
            f"{_ms(best[1].median_ms)} ({best[0]})" if best else "",
            ", ".join(f"{name} {ratio:.3g}" for name, ratio in row.ratios().items()),
            "; ".join(target.text() for target in row.targets),
            "; ".join(_reached(row, target) for target in row.targets),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _reached(row: Row, target: Target) -> str:
    value = row.reached(target)
    return row.verdict(target) if value is None else f"{row.verdict(target)} ({value:.3g})"


def _ms(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
