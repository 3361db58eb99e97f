"""Request and result of a calibration on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgead.artifact.manifest import Calibration, CameraView, ThresholdChange
from edgead.dataset.groups import AUTO
from edgead.metrics import Rate

# Below this the scores are said to differ from those of the calibration before.
DIFFERENT_BELOW = 0.01


@dataclass(frozen=True, slots=True)
class AskedRates:
    """What the thresholds are to guarantee; a rate that is None stays as the model has it.

    `group` says which images belong together; see `edgead.dataset.groups.group_images`. With `accept_outliers` images
    whose scores stand apart are taken as good.
    """

    false_reject_rate: float | None = None
    review_rate: float | None = None
    group: str = AUTO
    accept_outliers: bool = False


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
    outliers : str
        Images whose scores stand apart, with these; empty for none.
    views : list of CameraView
        Of the images, for the drift watch.

    The `doubts` of the change say why the thresholds may be blind; they are not written without a reason.
    """

    change: ThresholdChange
    calibration: Calibration
    rejected_before: Rate
    median_before: float
    median_after: float
    copies: int
    groups: int
    account: str
    outliers: str
    views: list[CameraView]

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
        found += [f"the new limit may be blind: {doubt}" for doubt in self.change.doubts]
        if self.outliers:
            found.append(f"{self.outliers}: the thresholds let them pass. Look whether they are good")
        if self.copies:
            found.append(f"{self.copies} images are copies of others and count once")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return {
            **self.change.model_dump(mode="json"),
            "old_threshold_rejects": {"count": self.rejected_before.count, "total": self.rejected_before.total},
            "groups": self.groups,
            "groups_account": self.account,
            "outliers": self.outliers,
            "warnings": self.warnings(),
        }
