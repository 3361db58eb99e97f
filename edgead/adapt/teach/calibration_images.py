"""The good images that a taught model's thresholds are made from: those that the model keeps, or others."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.adapt.finalize import GoodScores, measure_good
from edgead.adapt.kept_images import FOLDER, as_kept, keep_images, kept_images, measure_kept, scored_again
from edgead.adapt.recalibrate import without_copies
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.manifest import Kept, Preprocessing
from edgead.artifact.training_hashes import refuse_learnt
from edgead.calibration.conformal import check_support
from edgead.calibration.group_conformal import have_several
from edgead.dataset.folders import Progress, check_images
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image

# Scores of one machine on another differ by less; those of other images differ by far more.
SAME_SCORE = 1e-2
PROBES = 5


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Good images, the group of each, and of those that the model has learnt the fold without which they are scored.

    `kept` ones are as `edgead.adapt.kept_images.as_kept` makes them; of others it is empty.
    """

    paths: Sequence[Path]
    source: str
    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    kept: Sequence[Kept] = ()

    def readable(self, artifact: Artifact) -> Artifact:
        """The artifact as it takes these images."""
        if not self.kept or artifact.manifest.preprocessing.tiles is not None:
            return artifact
        return Artifact(artifact.path, artifact.manifest.with_preprocessing(roi=None, ignored=None, alignment=None))

    def measure(self, detector: Detector, progress: Progress | None = None) -> GoodScores:
        """Score them as images that the model has not learnt."""
        return measure_good(detector, self.paths, progress, folds=self.folds)

    def keep_in(self, draft: Artifact, scores: Sequence[float], false_reject_rate: float) -> list[Kept]:
        """Keep these images, which have these fp32 scores now, in the draft of a new version; gives its manifest's."""
        if self.kept:
            return scored_again(self.kept, scores)
        shutil.rmtree(draft.path / FOLDER, ignore_errors=True)
        return keep_images(
            draft.path,
            draft.manifest,
            self.paths,
            scores,
            false_reject_rate=false_reject_rate,
            groups=self.groups,
        )


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
    return CalibrationImages(usable, source, groups)


def _kept(artifact: Artifact, taught: Sequence[Path]) -> CalibrationImages:
    kept = artifact.manifest.kept
    advice = "name good images that it has not learnt from with --calibration"
    if not kept:
        raise ArtifactError(f"{artifact.path} keeps no images to calibrate on: {advice}")
    learnt = any(one.fold is not None for one in kept)
    images = CalibrationImages(
        kept_images(artifact),
        "the good images that it keeps" if learnt else "the images held out when the model was made",
        [one.group for one in kept],
        [one.fold for one in kept if one.fold is not None],
        kept,
    )
    probes = [kept[i] for i in np.unique(np.linspace(0, len(kept) - 1, PROBES).round().astype(int))]
    with Detector(images.readable(artifact), runtime="onnxruntime", precision="fp32") as detector:
        found = np.array([measure_kept(detector, one).image_score for one in probes])
    expected = np.array([one.image_score for one in probes])
    if not (np.abs(found - expected) <= SAME_SCORE * np.abs(expected)).all():
        raise ArtifactError(
            f"{artifact.path} does not score the {len(kept)} images that it keeps as it did before: {advice}"
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
