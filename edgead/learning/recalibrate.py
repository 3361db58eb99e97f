"""Thresholds are changed on the device: from good images or by hand, and every change is kept in the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError, write_manifest
from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Calibration, Manifest, ThresholdChange, Thresholds
from edgead.artifact.training_hashes import content_sha256, refuse_learnt
from edgead.calibration.conformal import calibrate, share_above
from edgead.calibration.group_conformal import one_of_each
from edgead.calibration.plan import check_recalibration
from edgead.calibration.two_sample import same_distribution_p_value
from edgead.dataset.folders import Progress
from edgead.dataset.groups import AUTO, group_images
from edgead.detector import Detector, Measurement
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.metrics import Rate

# Below this the scores are said to differ from those of the calibration before.
DIFFERENT_BELOW = 0.01


@dataclass(frozen=True, slots=True)
class AskedRates:
    """What the thresholds are to guarantee; a rate that is None stays as the model has it.

    `group` says which images belong together; see `edgead.dataset.groups.group_images`.
    """

    false_reject_rate: float | None = None
    review_rate: float | None = None
    extrapolate: bool = False
    group: str = AUTO


@dataclass(frozen=True, slots=True)
class Recalibration:
    """New thresholds that are not written yet, and what led to them.

    Attributes
    ----------
    rejected_before : Rate
        How many of the images the old threshold rejects.
    median_before, median_after : float
        Of the scores behind the old thresholds and of those of the images.
    copies : int
        Images that are byte for byte another one; they count once.
    groups : int
        That the images are in.
    account : str
        How the groups were found.
    """

    change: ThresholdChange
    calibration: Calibration
    rejected_before: Rate
    median_before: float
    median_after: float
    copies: int
    groups: int
    account: str

    def warnings(self) -> list[str]:
        """What whoever calibrates should know, in words."""
        found = []
        p_value = self.change.same_scores_p_value
        if p_value is not None and p_value < DIFFERENT_BELOW:
            found.append(
                "these images do not score as those that the old thresholds came from (median "
                f"{self.median_after:.4g}, was {self.median_before:.4g}; p = {p_value:.2g}): other light, another "
                "camera setting, another batch, or images that the model was trained on. The new thresholds hold for "
                "parts like these images"
            )
        if self.calibration.tail is not None:
            tail = self.calibration.tail
            found.append(
                f"the threshold is an extrapolation and no guarantee: the true rate is expected from "
                f"{100 * max(0.0, tail.rate_low):.2g} to {100 * tail.rate_high:.2g} % (90 %), if the tail is what it "
                f"seems (fit to {tail.excesses} scores, Anderson-Darling {tail.anderson_darling:.2f}, "
                f"p = {tail.fit_p_value:.2g})"
            )
        if self.copies:
            found.append(f"{self.copies} images are copies of others and count once")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        tail = self.calibration.tail
        return {
            **self.change.model_dump(mode="json"),
            "old_threshold_rejects": {"count": self.rejected_before.count, "total": self.rejected_before.total},
            "tail": None if tail is None else tail.model_dump(),
            "groups": self.groups,
            "groups_account": self.account,
            "warnings": self.warnings(),
        }


def recalibrate(
    detector: Detector, paths: Sequence[Path], asked: AskedRates, *, progress: Progress | None = None
) -> Recalibration:
    """Make new thresholds for the detector's graph from good images; nothing is written.

    Parameters
    ----------
    detector : Detector
        Calibrated; it is run over the images as it ships.
    paths : sequence of Path
        Good images that the model was not trained on, taken as the line takes them.
    asked : AskedRates

    Raises
    ------
    CalibrationError
        The images cannot support the rate; says how many are needed.
    TailError
        They cannot support the extrapolation either.
    SettingsError
        The model has learnt from some of them.
    """
    before = detector.graph.calibration
    if before is None:
        raise ArtifactError(f"{detector.artifact.path} has no thresholds: retrain it with `edgead train`")
    rate = before.false_reject_rate if asked.false_reject_rate is None else asked.false_reject_rate
    refuse_learnt(detector.artifact, paths)
    unique, digest = without_copies(paths)
    found = group_images(unique, asked.group, Path(os.path.commonpath([path.parent for path in unique])))
    groups = [] if found.are_single else found.of(unique)
    check_recalibration(len(unique), rate, asked.extrapolate, groups)
    good: list[tuple[float, float, float]] = []
    for done, path in enumerate(unique, 1):
        good.append(_numbers(detector.measure(load_image(path))))
        if progress:
            progress(done, len(unique))
    scores, maxima, medians = zip(*good, strict=True)
    review = _review_rate(before, rate) if asked.review_rate is None else asked.review_rate
    after = calibrate(
        scores,
        maxima,
        medians,
        false_reject_rate=rate,
        review_rate=review,
        groups=groups,
        extrapolate=asked.extrapolate,
    )
    change = threshold_change(
        detector.graph.precision,
        before,
        after,
        images=len(unique),
        images_sha256=digest,
        same_scores_p_value=same_distribution_p_value(
            one_of_each(before.scores, before.groups), one_of_each(scores, groups)
        ),
    )
    rejected = Rate.of_groups([score > before.reject for score in scores], groups)
    medians_of_scores = float(np.median(before.scores)), float(np.median(scores))
    return Recalibration(
        change,
        after,
        rejected,
        *medians_of_scores,
        copies=len(paths) - len(unique),
        groups=found.count,
        account=found.account,
    )


def thresholds_by_hand(
    artifact: Artifact, precision: str | None, *, reject: float | None = None, review: float | None = None
) -> tuple[ThresholdChange, Calibration]:
    """Set thresholds by hand; nothing is written. One that is None stays, but review never lies above reject.

    Raises
    ------
    SettingsError
        Thresholds that are not finite, or a review threshold above the one that rejects.
    """
    graph = artifact.graph(precision)
    before = graph.calibration
    if before is None:
        raise ArtifactError(f"{artifact.path} has no thresholds: retrain it with `edgead train`")
    new_reject = before.reject if reject is None else reject
    new_review = min(before.review, new_reject) if review is None else review
    limits = Limits.checked(review=new_review, reject=new_reject)
    after = before.model_copy(
        update={
            **limits.values(),
            "method": "by_hand",
            "false_reject_rate": share_above(before.scores, limits.reject, before.groups),
            "review_rate": share_above(before.scores, limits.review, before.groups),
            "tail": None,
        }
    )
    return threshold_change(graph.precision, before, after), after


def threshold_change(
    precision: str,
    before: Calibration,
    after: Calibration,
    *,
    images: int = 0,
    images_sha256: str = "",
    same_scores_p_value: float | None = None,
) -> ThresholdChange:
    """Report what a change of a graph's thresholds, made now, has changed; see `ThresholdChange`."""
    return ThresholdChange(
        changed_at=datetime.now(timezone.utc),
        precision=precision,
        images=images,
        images_sha256=images_sha256,
        same_scores_p_value=same_scores_p_value,
        before=_thresholds(before),
        after=_thresholds(after),
    )


def write_thresholds(artifact: Artifact, change: ThresholdChange, calibration: Calibration) -> Manifest:
    """Write new thresholds of one graph and the change into the artifact's manifest, in one step."""
    manifest = artifact.manifest
    changed = manifest.model_copy(update={"threshold_changes": [*manifest.threshold_changes, change]})
    return write_manifest(artifact.path, changed.with_graph(change.precision, calibration=calibration))


def _review_rate(before: Calibration, rate: float) -> float:
    """The model's own review rate, unless the new false-reject rate is above it or nothing was sent to review."""
    return rate if before.review_rate == before.false_reject_rate else max(rate, before.review_rate)


def _numbers(measured: Measurement) -> tuple[float, float, float]:
    return measured.image_score, measured.map_maximum, float(np.median(measured.anomaly_map))


def _thresholds(calibration: Calibration) -> Thresholds:
    return Thresholds(**{name: getattr(calibration, name) for name in Thresholds.model_fields})


def without_copies(paths: Sequence[Path]) -> tuple[list[Path], str]:
    """The images without copies, which are not exchangeable with new parts, and a hash of their contents."""
    if not paths:
        raise SettingsError("no good images to calibrate with")
    found = {content_sha256(path): path for path in reversed(paths)}
    unique = dict(reversed(found.items()))
    return list(unique.values()), hashlib.sha256("".join(sorted(unique)).encode()).hexdigest()
