"""Volumes judged by their slices: one score a volume, and thresholds that keep the rates of whole volumes.

Ours. A volume scores as the highest mean over neighbouring slices, so that one noisy slice counts for a part alone.
Thresholds are conformal over volumes that were left out, one score each, whatever the slices of one have in common.
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
    """The score of a volume, and the number of its worst slice: the highest of those that the score is of."""

    score: float
    worst: int


def volume_score(scores: Sequence[float]) -> VolumeScore:
    """Join the scores of a volume's slices, in their order: the highest mean of `NEIGHBOURS`, or of all of fewer.

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
    """Make thresholds that the next good volume exceeds with these probabilities at most.

    Parameters
    ----------
    scores : sequence of float
        `volume_score` of good volumes, none of which had been learnt where it was scored.
    groups : sequence of int
        Group of each, such as the part that was scanned several times; empty where each is its own.

    Raises
    ------
    CalibrationError
        Too few volumes for the rates.
    """
    grouped = dense(groups) if have_several(groups) else []
    order = np.argsort(scores, kind="stable")
    return VolumeCalibration(
        reject=raised(conformal_threshold(scores, false_reject_rate, grouped)),
        review=raised(conformal_threshold(scores, review_rate, grouped)),
        scores=[float(scores[i]) for i in order],
        groups=[grouped[i] for i in order] if grouped else [],
    )
