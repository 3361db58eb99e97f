"""Scores of whole volumes from the scores of their slices, and thresholds that keep false-reject rates of volumes.

A volume's score (edgead's own) is the highest mean over neighbouring slices: one noisy slice counts little. Thresholds
are conformal over volumes not learnt, one score each, so that dependence between slices does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.artifact.manifest import VolumeCalibration
from edgead.calibration.conformal import conformal_threshold, raised
from edgead.calibration.group_conformal import dense, have_several

NEIGHBOURS = 3


@dataclass(frozen=True, slots=True)
class VolumeScore:
    """Score of a volume, and the index of its worst slice: the highest of the slices averaged in the score."""

    score: float
    worst: int


def volume_score(scores: Sequence[float]) -> VolumeScore:
    """Compute a volume's score from its slices' scores in order: highest mean of `NEIGHBOURS` scores, or of all if few.

    >>> volume_score([1, 1, 4, 1, 3, 3, 3, 1])
    VolumeScore(score=3.0, worst=4)
    """
    values = np.asarray(scores, np.float64)
    width = min(NEIGHBOURS, len(values))
    means = np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=1)
    first = int(np.argmax(means))
    return VolumeScore(float(means[first]), first + int(np.argmax(values[first : first + width])))


def calibrate_volumes(
    scores: Sequence[float], false_reject_rate: float, review_rate: float, groups: Sequence[int] = ()
) -> VolumeCalibration:
    """Compute thresholds that the next good volume exceeds with at most these probabilities.

    `scores`: `volume_score` of good volumes, each scored by a detector that had not learnt it.
    `groups`: group of each volume, such as a part scanned several times; empty if every volume is a group of its own.
    Raises CalibrationError: too few volumes for the rates.
    """
    grouped = dense(groups) if have_several(groups) else []
    order = np.argsort(scores, kind="stable")
    return VolumeCalibration(
        reject=raised(conformal_threshold(scores, false_reject_rate, grouped)),
        review=raised(conformal_threshold(scores, review_rate, grouped)),
        scores=[float(scores[i]) for i in order],
        groups=[grouped[i] for i in order] if grouped else [],
    )
