"""Calibration images of a precision: the images that gave the thresholds in training, if they can be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.preprocess import read_frame
from edgead.artifact.training_hashes import FILE, find_folds, find_learnt
from edgead.calibration.conformal import check_support
from edgead.calibration.group_conformal import dense
from edgead.calibration.plan import plan_calibration
from edgead.dataset.folders import (
    StageProgress,
    check_images,
    find_good_images,
    no_progress,
    split_good,
    without_test_part,
)
from edgead.dataset.groups import NONE, group_images
from edgead.workstation.methods.draem.anomalies import Simulator
from edgead.workstation.methods.draem.anomaly_textures import built_in_textures


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Good images for two uses, in two lists; both lists are equal for a model that learnt in folds.

    `ranges`: images for the ranges of tensors.
    `held_out`: images for errors and thresholds.
    `source`: "training data" if the model was trained and calibrated with these images, else "other images".
    `groups`: group of each held-out image; empty if every image is a group of its own.
    `folds`: fold to leave out when each held-out image is scored, if the images were learnt.
    """

    ranges: Sequence[Path]
    held_out: Sequence[Path]
    source: str
    groups: Sequence[int] = ()
    folds: Sequence[int] = ()

    def some(self, most: int) -> CalibrationImages:
        """Return a copy with at most `most` held-out images, evenly spaced."""
        picks = np.linspace(0, len(self.held_out) - 1, min(most, len(self.held_out))).round().astype(int).tolist()
        held_out, groups, folds = (
            [values[i] for i in picks] if len(values) else [] for values in (self.held_out, self.groups, self.folds)
        )
        return replace(self, held_out=held_out, groups=groups, folds=folds)


def find_calibration_images(
    artifact: Artifact,
    data: Path,
    normal_dir: str | None = None,
    *,
    group: str | None = None,
    progress: StageProgress = no_progress,
) -> CalibrationImages:
    """Find the good images in `data`, and hold out images that the model has not learnt.

    If `data` has the training's images, these are the images that training held out, or all if they were learnt in
    folds: then each is scored without its own fold, as in the training. The same holds for all files of a model made on
    the page. Enough images are held out for the model's guaranteed rate, by whole groups: an image is not held out if
    the model has learnt from its group.

    `normal_dir`: folder of good images; by default as in the training.
    `group`: rule by which images belong together, see `edgead.dataset.groups.group_images`; by default as in the
        training.
    Raises DatasetError, CalibrationError, ArtifactError: there are no or too few images, or the model has no
        thresholds.
    """
    limits = artifact.learnt_graph.calibration
    if limits is None or FILE not in artifact.manifest.files:
        lacks = "has no thresholds" if limits is None else "does not say what it has learnt from"
        raise ArtifactError(f"{artifact.path} {lacks}: retrain it with `edgead train`")
    if not limits.scores:
        raise ArtifactError(
            f"{artifact.path} has no scores of good parts yet: run `edgead calibrate` with good images first"
        )
    rate = limits.false_reject_rate
    of_training = artifact.manifest.training.get("normal_dir")
    paths = find_good_images(data, of_training if normal_dir is None else normal_dir)
    read = partial(read_frame, spec=artifact.manifest.preprocessing)
    paths, _, digest = check_images(paths, skip_bad=True, read=read, progress=partial(progress, "read images"))
    learnt = set(find_learnt(artifact, paths))
    rule = artifact.manifest.training.get("groups", {}).get("rule", NONE) if group is None else group
    groups = group_images(paths, rule, data)
    source = "training data" if digest == artifact.manifest.training.get("data_sha256") else "other images"
    if source == "training data":
        paths = without_test_part(paths, groups.of(paths), artifact.manifest.training.get("hold_out", 0))
    folds = find_folds(artifact, paths)
    # All images behind the thresholds, by content, as the page and a camera store them as other files.
    if len(folds) == len(paths) == artifact.manifest.training.get("calibration_images"):
        source = "training data"
    if folds and source == "training data":
        return CalibrationImages(paths, list(folds), source, groups.of(folds), list(folds.values()))
    learnt_groups = set(groups.of(learnt))
    others = [path for path in paths if groups.numbers[path] not in learnt_groups]
    if not others:
        raise ArtifactError(
            f"{artifact.path} has learnt from all of these images or their groups: give good images that it has "
            "not seen, or all those that it was made from"
        )
    wanted, _ = plan_calibration(groups.count, rate, what=groups.unit)
    others_groups = dense(groups.of(others))
    more, held_out = split_good(others, min(wanted, len(set(others_groups))), seed=0, groups=others_groups)
    check_support(len(held_out), rate, groups.of(held_out))
    learnt |= set(more)
    ranges = [path for path in paths if path in learnt]
    return CalibrationImages(ranges, held_out, source, groups.of(held_out))


class RangeImages(Sequence[np.ndarray]):
    """Images that give an int8 graph's ranges of values: good images, every second with drawn anomalies.

    Ranges of good images alone would clip values that only defects cause. The anomalies are drawn as in DRAEM's
    training, on images of the same good parts; no image of a defect is needed or used.

    `good` (sequence of ndarray of shape (h, w, 3), uint8, RGB): preprocessed images.
    """

    def __init__(self, good: Sequence[np.ndarray], seed: int = 0):
        self._good = good
        self._seed = seed
        self._simulator = Simulator(good, built_in_textures(good), match_grey=True)

    def __len__(self) -> int:
        return len(self._good)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        image = self._good[index]
        if index % 2 == 0:
            return image
        rng = np.random.default_rng([self._seed, index])
        while True:  # some of the simulator's samples have no anomaly
            _, corrupted, mask = self._simulator.sample(rng)
            if mask.any():
                return np.round(255 * corrupted).astype(np.uint8)
