"""Calibration images of a precision: those that thresholds came from in training, where they can be found again."""

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
from edgead.dataset.folders import StageProgress, check_images, find_good_images, no_progress, split_good
from edgead.dataset.groups import NONE, group_images
from edgead.workstation.methods.draem.anomalies import Simulator
from edgead.workstation.methods.draem.anomaly_textures import built_in_textures


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Good images in two parts, which are the same for a model whose images were learnt in folds.

    Attributes
    ----------
    ranges : sequence of Path
        Images that the ranges of the tensors are taken from.
    held_out : sequence of Path
        Images that errors and thresholds are measured on.
    source : str
        "training data" when these are the images that the model was trained and calibrated with, else "other images".
    groups : sequence of int
        Group of each held-out image; empty where each is its own.
    folds : sequence of int
        Where they were learnt, the fold without which each is scored.
    """

    ranges: Sequence[Path]
    held_out: Sequence[Path]
    source: str
    groups: Sequence[int] = ()
    folds: Sequence[int] = ()

    def some(self, most: int) -> CalibrationImages:
        """The same with at most so many held-out images, evenly over all."""
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
    """Find the good images in `data`, and hold out such as the model has not learnt from.

    Of images that training saw, these are those that it held out, or all, where it learnt them in folds: each is scored
    without its own then, as in the training. So it is with all files that a model of the page was made from. Enough are
    held out for the rate that the model guarantees, group by group: an image whose group the model has learnt from is
    not held out.

    Parameters
    ----------
    artifact : Artifact
    data : Path
    normal_dir : str, optional
        By default as in the training.
    group : str, optional
        Which images belong together, see `edgead.dataset.groups.group_images`; by default as in the training.
    progress : callable, optional

    Raises
    ------
    DatasetError, CalibrationError, ArtifactError
        No or too few images, or a model without thresholds.
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
    folds = find_folds(artifact, paths)
    # All whose scores made the thresholds, by their contents: the page and a camera keep them as other files.
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
    """Images whose tensors an int8 graph must hold: good ones, every second one with anomalies drawn on it.

    Ranges of good images alone would clip what only a defect brings about. The anomalies are those that DRAEM learns
    from, on images of the same good parts; no image of a defect is needed, and none is used.

    Parameters
    ----------
    good : sequence of ndarray of shape (h, w, 3), uint8, RGB
        Preprocessed.
    seed : int
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
        while True:  # some of the simulator's samples are left as they are
            _, corrupted, mask = self._simulator.sample(rng)
            if mask.any():
                return np.round(255 * corrupted).astype(np.uint8)
