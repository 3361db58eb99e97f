"""The good images that a taught model's thresholds are made from: those that the model keeps, or others."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.training_hashes import refuse_learnt
from edgead.calibration.conformal import check_support
from edgead.calibration.group_conformal import have_several
from edgead.dataset.folders import check_images
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.learning.finalize import KEPT, as_kept, keep_images, kept_images, rank_kept
from edgead.learning.recalibrate import without_copies

# Scores of one machine on another differ by less; those of other images differ by far more.
SAME_SCORE = 1e-2
PROBES = 5


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Good images in no memory bank, and the group of each; `kept` ones are as `as_kept` makes them."""

    paths: Sequence[Path]
    kept: bool
    source: str
    groups: Sequence[int] = ()

    def readable(self, artifact: Artifact) -> Artifact:
        """The artifact as it takes these images."""
        if not self.kept or artifact.manifest.preprocessing.tiles is not None:
            return artifact
        return Artifact(artifact.path, artifact.manifest.with_preprocessing(roi=None, ignored=None, alignment=None))

    def keep_in(self, draft: Artifact, scores: Sequence[float]) -> None:
        """Keep these images, which have these fp32 scores now, in the draft of a new version."""
        if self.kept:
            rank_kept(draft.path, self.paths, scores)
        else:
            shutil.rmtree(draft.path / KEPT, ignore_errors=True)
            keep_images(draft.path, draft.manifest, self.paths, scores)


def find_calibration_images(
    artifact: Artifact, paths: Sequence[Path], *, taught: Sequence[Path], group: str
) -> CalibrationImages:
    """Take the images that are named, or those that the model keeps.

    Of the named ones, `group` says which belong together, with each other or with taught ones; see
    `edgead.dataset.groups.group_images`.

    Raises
    ------
    ArtifactError
        The model keeps none, or other ones than its thresholds were made from: says what to do.
    CalibrationError
        Too few images are named for the rates that the model guarantees.
    SettingsError
        An image or a group is for both, or the model has learnt from an image before.
    """
    calibration = artifact.manifest.graphs["fp32"].calibration
    assert calibration is not None
    if not paths:
        return _kept(artifact, taught)
    both = {path.resolve() for path in paths} & {path.resolve() for path in taught}
    if both:
        raise SettingsError(
            f"{len(both)} images are to be learnt and to calibrate on, {min(both)} first: a score of an image that is "
            "in the memory bank guarantees nothing"
        )
    refuse_learnt(artifact, paths)
    usable, _ = without_copies(check_images(paths)[0])
    found = group_images([*usable, *taught], group)
    learnt = set(found.of(taught))
    shared = [path for path in usable if found.numbers[path] in learnt]
    if shared:
        raise SettingsError(
            f"{len(shared)} images to calibrate on are in groups of images to learn, {shared[0].name} first: "
            "thresholds from them would guarantee nothing; give images of other parts, or say so with --group"
        )
    groups = found.of(usable)
    check_support(len(usable), calibration.false_reject_rate, groups)
    source = f"{len(usable)} images given" + f" in {len(set(groups))} groups" * have_several(groups)
    return CalibrationImages(usable, False, source, groups)


def _kept(artifact: Artifact, taught: Sequence[Path]) -> CalibrationImages:
    calibration = artifact.manifest.graphs["fp32"].calibration
    assert calibration is not None
    # Kept in the order of their scores, as the manifest has their groups.
    images = CalibrationImages(
        kept_images(artifact), True, "the images held out when the model was made", calibration.groups
    )
    advice = "name good images that it has not learnt from with --calibration"
    if not images.paths:
        raise ArtifactError(f"{artifact.path} keeps no images to calibrate on: {advice}")
    expected = np.array(calibration.scores)
    same = len(expected) == len(images.paths)
    if same:
        picks = np.unique(np.linspace(0, len(expected) - 1, PROBES).round().astype(int))
        with Detector(images.readable(artifact), runtime="onnxruntime", precision="fp32") as detector:
            found = np.array([detector.measure(load_image(images.paths[i])).image_score for i in picks])
        same = bool((np.abs(found - expected[picks]) <= SAME_SCORE * np.abs(expected[picks])).all())
    if not same:
        raise ArtifactError(
            f"{artifact.path} was calibrated on other images than the {len(images.paths)} that it keeps: {advice}"
        )
    _refuse_kept(images, taught, artifact.manifest.preprocessing)
    return images


def _refuse_kept(images: CalibrationImages, taught: Sequence[Path], spec: Preprocessing) -> None:
    """Refuse to learn images that are kept: those are lossless, so the same image has the same pixels."""
    kept = {_sha256(load_image(path)) for path in images.paths}
    both = [path for path in taught if _sha256(as_kept(load_image(path), spec)) in kept]
    if both:
        raise SettingsError(
            f"thresholds are made from {len(both)} of the {len(taught)} images to learn, {both[0].name} first: a score "
            "of an image that is in the memory bank guarantees nothing. Leave them out, or name other good images with "
            "--calibration"
        )


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()
