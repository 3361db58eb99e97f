"""The images that a precision is calibrated with: those that training held out, where they can be found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.artifact import Artifact, ArtifactError
from edgead.calibration import plan_calibration
from edgead.dataset import StageProgress, check_images, find_good_images, no_progress, split_good


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Good images in two parts.

    Attributes
    ----------
    ranges : sequence of Path
        Images that the ranges of the tensors are taken from.
    held_out : sequence of Path
        Images that errors and thresholds are measured on.
    source : str
        "training data" when these are the parts that the model was trained and calibrated with, else "other images".
    """

    ranges: Sequence[Path]
    held_out: Sequence[Path]
    source: str


def find_calibration_images(
    artifact: Artifact, data: Path, normal_dir: str | None = None, *, progress: StageProgress = no_progress
) -> CalibrationImages:
    """Find the good images in `data` and split them as training did.

    Images other than those of the training (their hash is in the manifest) are split anew, for the rates that the model
    promises.

    Raises
    ------
    DatasetError, CalibrationError, ArtifactError
        No or too few images, or a model without thresholds.
    """
    manifest = artifact.manifest
    if manifest.calibration is None:
        raise ArtifactError(f"{artifact.path} has no thresholds: train it anew with `edgead train`")
    paths = find_good_images(data, normal_dir)
    paths, _, digest = check_images(paths, skip_bad=True, progress=partial(progress, "read images"))
    same = digest == manifest.training.get("data_sha256")
    if same:
        held_out = int(manifest.training["calibration_images"])
    else:
        held_out, _ = plan_calibration(len(paths), manifest.calibration.false_reject_rate)
    seed = int(manifest.training.get("settings", {}).get("seed", 0))
    ranges, rest = split_good(paths, held_out, seed)
    return CalibrationImages(ranges, rest, "training data" if same else "other images")
