"""Table of limits after a training: what each would reject of the good images and find of known defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import PROVEN, Calibration
from edgead.calibration.operating_point import SHOWN_RATES, operating_points
from edgead.cli.console import stdout
from edgead.detector import Detector
from edgead.images.files import load_image


def print_points(artifact: Artifact, defects: Sequence[Path]) -> None:
    """Print the table of a model that was just trained; nothing where it has no thresholds."""
    calibration = artifact.graph("fp32").calibration
    if calibration is None or not calibration.scores:
        return
    with Detector(artifact, runtime="onnxruntime") as detector:
        found = [detector.measure(load_image(path)).image_score for path in defects]
    stdout.print(points_table(calibration, found))
    if costs := artifact.manifest.training.get("costs"):
        stdout.print(
            f"Cheapest: reject {100 * costs['rate']:.3g} %, which costs {costs['cost']:.3g} a part. With other images "
            f"like these it would have been {100 * costs['low']:.3g} to {100 * costs['high']:.3g} % (90 %): "
            f"{costs['defects']} defects and {len(calibration.scores)} good images are what it rests on.",
            soft_wrap=True,
        )


def points_table(calibration: Calibration, defects: Sequence[float] = ()) -> Table:
    """Lay out what the limits for some rates do, the chosen one among them.

    Parameters
    ----------
    calibration : Calibration
        With scores.
    defects : sequence of float
        Scores of known defects.
    """
    rates = sorted({*SHOWN_RATES, calibration.false_reject_rate, calibration.review_rate})
    table = Table(title="what other limits would do", title_justify="left")
    for column in ("reject", "expected", "limit", "good images above it", *(["defects found"] if len(defects) else [])):
        table.add_column(column)
    proven = calibration.method in PROVEN
    for point in operating_points(calibration.scores, calibration.groups, defects, rates):
        chosen = point.rate == calibration.false_reject_rate
        cells = [
            f"{100 * point.rate:.3g} %{' (chosen)' if chosen else ''}",
            f"{'at most' if proven else 'about'} {100 * point.rate:.3g} %",
            f"{point.limit:.4g}",
            f"{point.above} of {len(calibration.scores)}",
            *([f"{point.found} of {len(defects)}"] if len(defects) else []),
        ]
        table.add_row(*cells, style="bold" if chosen else None)
    return table
