"""Verdicts of volumes, from the scores of their slices and thresholds for volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.artifact.manifest import VolumeCalibration
from edgead.calibration.group_conformal import Ranking
from edgead.calibration.volumes import VolumeScore, volume_score
from edgead.images.volumes import by_volume, slice_number, slice_path, volume_of
from edgead.types import Decision


def volume_scores(paths: Sequence[Path], scores: Sequence[float]) -> dict[Path, VolumeScore]:
    """Score each volume from its slices' scores; volumes with missing slices are left out.

    `paths`: slices in any order; other images are ignored.
    """
    by_path = dict(zip(paths, scores, strict=True))
    found = {}
    for volume, slices in by_volume(by_path).items():
        if volume_of(slices[0]) is None:
            continue
        ordered = sorted(slices, key=slice_number)
        if [slice_number(one) for one in ordered] == list(range(len(ordered))):
            found[volume] = volume_score([by_path[one] for one in ordered])
    return found


@dataclass(frozen=True, slots=True)
class VolumeVerdict:
    """Verdict of a volume; it has no decision if the model has no limits for volumes.

    `worst` is the slice with the highest score among the slices averaged in the volume's score.
    """

    volume: Path
    slices: int
    score: float
    worst: Path
    decision: Decision | None
    threshold: float | None
    review_threshold: float | None
    p_value: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "volume": str(self.volume), "worst": self.worst.name}


def judge_volumes(
    paths: Sequence[Path], scores: Sequence[float], limits: VolumeCalibration | None
) -> list[VolumeVerdict]:
    """Judge volumes by the scores of their slices, as `volume_scores` does."""
    count = {volume: len(slices) for volume, slices in by_volume(paths).items()}
    ranking = None if limits is None else Ranking(limits.scores, limits.groups)
    return [
        VolumeVerdict(
            volume,
            count[volume],
            one.score,
            slice_path(volume, one.worst),
            None if limits is None else limits.decide(one.score),
            None if limits is None else limits.reject,
            None if limits is None else limits.review,
            None if ranking is None else ranking.p_value(one.score),
        )
        for volume, one in volume_scores(paths, scores).items()
    ]
