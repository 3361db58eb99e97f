"""Differences of a graph's scores on good images from those of the fp32 graph of the same artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.adapt.finalize import each_measured
from edgead.artifact.folder import Artifact
from edgead.calibration.conformal import score_scale
from edgead.detector import Detector, Measurement


@dataclass(frozen=True, slots=True)
class Differences:
    """All but the correlation of the image scores is relative to fp32, that of scores as `score_scale` shows.

    Mean and largest difference of the image scores, the mean with its sign (which the thresholds make up for), and the
    largest difference of a map's pixel, as a mean over the images.
    """

    images: int
    mean_score_error: float
    score_error: float
    score_shift: float
    map_error: float
    correlation: float


def measure_images(
    artifact: Artifact, precision: str, paths: Sequence[Path], folds: Sequence[int] = ()
) -> list[Measurement]:
    """Score images with the artifact's graph of a precision; with `folds`, each without the fold that it is of."""
    with Detector(artifact, runtime="onnxruntime", precision=precision) as detector:
        return list(each_measured(detector, paths, folds))


def differences(expected: Sequence[Measurement], measured: Sequence[Measurement]) -> Differences:
    """Compare what two graphs say of the same images; `expected` is fp32's."""
    expected_scores = np.array([x.image_score for x in expected])
    scores = np.array([x.image_score for x in measured])
    relative = (scores - expected_scores) / score_scale(expected_scores, expected_scores)
    map_errors = [
        np.abs(y.anomaly_map - x.anomaly_map).max() / max(np.abs(x.anomaly_map).max(), 1e-12)
        for x, y in zip(expected, measured, strict=True)
    ]
    constant = expected_scores.std() == 0 or scores.std() == 0
    return Differences(
        images=len(scores),
        mean_score_error=float(np.abs(relative).mean()),
        score_error=float(np.abs(relative).max()),
        score_shift=float(relative.mean()),
        map_error=float(np.mean(map_errors)),
        correlation=0.0 if constant else float(np.corrcoef(expected_scores, scores)[0, 1]),
    )
