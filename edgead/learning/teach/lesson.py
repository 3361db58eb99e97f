"""What a model says before and after it was taught, graph by graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from edgead.detector import Detector
from edgead.images.files import load_image


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of the images are judged reject and review, and the mean of their scores."""

    images: int
    reject: int
    review: int
    mean_score: float | None

    @classmethod
    def of(cls, scores: Sequence[float], *, reject: float, review: float) -> Counts:
        """Judge scores as `edgead.Detector.predict` does."""
        rejects = sum(score > reject for score in scores)
        flagged = sum(score > review for score in scores)
        mean = sum(scores) / len(scores) if scores else None
        return cls(len(scores), rejects, flagged - rejects, mean)

    def text(self) -> str:
        if not self.images:
            return "none"
        review = f", {self.review} to review" if self.review else ""
        return f"{self.reject} of {self.images} rejected{review}; mean score {self.mean_score:.4g}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one graph says: thresholds, taught and held-out images, golden scores."""

    reject_threshold: float
    review_threshold: float
    taught: Counts
    held_out: Counts
    golden_scores: list[float]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learnt; `before` and `after` have a Judgement for every precision.

    Of the bank's `bank_rows` rows, `rows_added` are new; what was given up for them and what was offered is within
    `radius` of a row, where two rows of the old bank are at least `spacing` apart.
    """

    model: str
    earlier_version: str
    calibrated_on: str
    bank_rows: int
    rows_added: int
    spacing: float
    radius: float
    before: dict[str, Judgement]
    after: dict[str, Judgement]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> Table:
        """Lay the report out for a terminal."""
        table = Table(title=self.model, title_justify="left")
        for column in ("", "before", "after"):
            table.add_column(column)
        for name, before in self.before.items():
            after = self.after[name]
            graph = f" ({name})" if len(self.before) > 1 else ""
            rows = {
                "taught parts": (before.taught.text(), after.taught.text()),
                "held-out parts": (before.held_out.text(), after.held_out.text()),
                "golden scores": (_numbers(before.golden_scores), _numbers(after.golden_scores)),
                "threshold": (f"{before.reject_threshold:.4g}", f"{after.reject_threshold:.4g}"),
            }
            for label, (old, new) in rows.items():
                table.add_row(label + graph, old, new)
        table.add_row("memory bank", f"{self.bank_rows} rows", f"{self.rows_added} of them new")
        table.add_row("covers patches within", f"{self.spacing:.3g}", f"{max(self.radius, self.spacing):.3g}")
        return table


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def judge(detector: Detector, taught: Sequence[Path], held_out: Sequence[Path]) -> Judgement:
    """Run a calibrated detector over the images of a lesson."""
    limits = detector.graph.calibration
    assert limits is not None
    golden = [detector.artifact.path / image.image for image in detector.graph.golden]
    scores = [
        [detector.measure(load_image(path)).image_score for path in paths] for paths in (taught, held_out, golden)
    ]
    thresholds = {"reject": limits.reject, "review": limits.review}
    return Judgement(
        limits.reject,
        limits.review,
        Counts.of(scores[0], **thresholds),
        Counts.of(scores[1], **thresholds),
        scores[2],
    )
