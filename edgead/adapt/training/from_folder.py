"""Training: from a folder of good images to a finished artifact, in one call.

Thresholds from few good images are cross-validated: each is scored by a detector that did not learn from it, as in
cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015), but without the detectors of the folds:
jackknife+ (Barber et al. 2021) would score every part by all of them on the device. Instead, the final model has learnt
from all images, so its scores of good parts are a little lower than the scores that the thresholds come from.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgead.adapt.build import build_artifact, write_draft
from edgead.adapt.finalize import CalibrationPlan, GoodScores, measure_good
from edgead.adapt.frozen_backbone import find_added
from edgead.adapt.methods import METHODS
from edgead.adapt.methods.method import AUTO, FP32, GoodPaths, Method, Trained
from edgead.adapt.training.good_images import GoodImages, learnt_at_most
from edgead.adapt.training.log import TrainingLog
from edgead.adapt.two_products import TwoProducts, smaller_heap
from edgead.artifact.files import file_sha256
from edgead.artifact.folder import Artifact, check_destination
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress, StageProgress, check_images, no_progress, without_test_part
from edgead.dataset.groups import FOLDERS, Groups, group_images
from edgead.dataset.images import Images
from edgead.dataset.places import not_found_warnings
from edgead.dataset.ranges import depth_warnings
from edgead.dataset.survey import different_names
from edgead.detector import Detector
from edgead.errors import SettingsError, tell_invalid
from edgead.files.disk import writing
from edgead.heads import find_head
from edgead.images.likeness import Look, look_of, odd_ones

# Number of additional trainings, if the user gives none.
FOLDS = 5
# Stages of every training; the method's own stages come between the first two.
READ, WRITE, CALIBRATE = "read images", "write the model", "calibrate"
# Fields of the preprocessing that come from the images and the user, besides the region.
_OF_IMAGES = {"ignored", "alignment", "tiles", "grey16", "relief"}


def planned_stages(detector: str, precision: str) -> list[str]:
    """Return the stages of a training in order, as far as known beforehand."""
    learns, finishes = METHODS.find(detector).stages(precision)
    return [READ, *learns, WRITE, CALIBRATE, *finishes]


def cross_validate(
    learn: Callable[[Sequence[Path]], Trained],
    paths: Sequence[Path],
    folds: int,
    *,
    groups: Sequence[int],
    preprocessing: Preprocessing,
    seed: int = 0,
    progress: Progress | None = None,
) -> GoodScores:
    """Score every image by a detector that learnt from the images of the other folds, after export.

    `learn`: returns a detector trained on some of the images.
    `folds`: number of folds, at least two; with as many folds as groups, each fold is one group.
    `groups`: group of each image, numbered from 0; whole groups are assigned to folds.
    `preprocessing`: preprocessing of the detectors.
    `seed`: seed of the order in which groups are assigned to folds.
    `progress`: called with (done, total) folds.
    Returns scores in the order of the paths.
    """
    group_of = np.asarray(groups)
    fold_of = (np.random.default_rng(seed).permutation(int(group_of.max()) + 1) % folds)[group_of]
    scored: dict[Path, tuple[float, float, float]] = {}
    for fold in range(folds):
        held_out = [path for path, number in zip(paths, fold_of, strict=True) if number == fold]
        trained = learn([path for path, number in zip(paths, fold_of, strict=True) if number != fold])
        with tempfile.TemporaryDirectory(prefix="edgead-fold-") as folder, writing(Path(folder)):
            manifest = write_draft(trained, Path(folder), preprocessing)
            with Detector(Artifact(Path(folder), manifest), runtime="onnxruntime") as detector:
                good = measure_good(detector, held_out)
        scored.update(zip(held_out, zip(good.scores, good.maxima, good.medians, strict=True), strict=True))
        if progress:
            progress(fold + 1, folds)
    scores, maxima, medians = zip(*(scored[path] for path in paths), strict=True)
    return GoodScores(list(scores), list(maxima), list(medians), "cross_validated")


def train_from_folder(
    good: GoodImages,
    destination: Path,
    settings: dict[str, Any],
    *,
    detector: str = "patchcore",
    weights: Path | None = None,
    device: str = "cpu",
    precision: str = FP32,
    progress: StageProgress = no_progress,
    found_two: Callable[[TwoProducts], None] | None = None,
) -> tuple[Artifact, list[str]]:
    """Train, export and calibrate a detector.

    A detector that is trained by gradient steps keeps a checkpoint in the folder `DESTINATION.checkpoint` until the
    artifact is complete: after an interruption the same call continues from there.

    `destination`: directory of the artifact.
    `settings`: settings of the detector, see its config class; missing ones keep their defaults.
    `detector`: a name in `edgead.adapt.methods.METHODS`.
    `weights`: file of weights for the backbone instead of the package's; for efficient_ad, for the teacher.
    `device` ({"auto", "cpu", "cuda"}): device to train on.
    `precision` ({"auto", "fp32", "int8"}): precision of the graph; see
        `edgead.adapt.methods.method.Method.choose_precision`.
    `progress`: called with (stage, done, total); a `TrainingLog` also receives settings, losses and figures.
    `found_two`: called before anything is learnt if the images look like two products; an exception from it ends the
        training.
    Returns (Artifact, list of str): the artifact, and the errors of images that were skipped.
    Raises DatasetError, ImageError, CalibrationError, ArtifactError: before anything is written at `destination`.
    """
    started = time.perf_counter()
    check_destination(destination)
    training = _Training(good, METHODS.find(detector), settings, weights, device, precision, progress, found_two)
    model, split, image_folds = training.model, training.split, training.folds(training.split.training)
    depends_on = training.depends_on()
    if isinstance(progress, TrainingLog):
        progress.write("settings", **depends_on)
    checkpoint = model.open_checkpoint(Path(f"{os.path.abspath(destination)}.checkpoint"), depends_on)
    course = {"progress": progress, "checkpoint": checkpoint, "seen": training.look}
    trained = training.learn(model, split.training, folds=image_folds, **course)
    earlier_seconds = 0.0 if checkpoint is None else checkpoint.earlier_seconds
    seconds = round(earlier_seconds + time.perf_counter() - started, 1)
    provenance = training.facts(device=depends_on["device"], weights=depends_on["weights"], fit_seconds=seconds)
    plan = training.plan()
    if plan.scores is not None:
        provenance["folds"] = good.folds or FOLDS
    progress(WRITE, 0, 1)
    artifact = build_artifact(
        trained,
        destination,
        plan,
        preprocessing=training.preprocessing,
        provenance=provenance,
        learnt=split.training,
        folds=image_folds,
        progress=partial(progress, CALIBRATE),
    )
    if checkpoint is not None:
        checkpoint.remove()
    if model.calibrated and plan.scores is None:  # otherwise the shipped model has learnt from all images
        artifact = model.finish(artifact, GoodPaths(split.training, plan.images, plan.groups, plan.folds), progress)
    if isinstance(progress, TrainingLog):
        progress.end(artifact)
    return artifact, training.problems


class _Training:
    """A detector before it learns, with the readable images, their preprocessing and their split."""

    def __init__(
        self,
        good: GoodImages,
        method: type[Method[Any]],
        settings: dict[str, Any],
        weights: Path | None,
        device: str,
        precision: str,
        progress: StageProgress,
        found_two: Callable[[TwoProducts], None] | None,
    ):
        good.check_method(method)
        self._good, self._weights, self._progress = good, weights, progress
        self._found_two, self._two = found_two, ""
        self._build = partial(_build, good, method, settings, weights, precision)
        paths = good.find()
        try:  # too few images and invalid settings are reported before the images are read
            self.model = model = self._build(len(paths))
            self._device = model.choose_device(device)
            _check(good, model, paths)
        except ValidationError as error:
            raise SettingsError(tell_invalid(error.errors())) from None
        self._looks: dict[Path, Look] = {}
        paths, self.problems, self._digest = check_images(
            paths,
            roi=good.roi,
            skip_bad=good.skip_bad,
            read=good.read,
            look=lambda path, image: self._looks.update({path: look_of(image)}),
            progress=partial(progress, READ),
        )
        if good.hold_out:
            paths = without_test_part(paths, group_images(paths, good.group, good.data).of(paths), good.hold_out)
        self._paths, seed = paths, model.config.seed
        self.preprocessing, self._shrunk = good.prepare(model, paths, [self._looks[path] for path in paths])
        if model.calibrated:
            self.split = good.split(paths, seed, leaves_out=model.leaves_out)
        else:
            self.split = good.keep_all(paths, method)
        self._fold_of = self.split.folds(seed) if model.leaves_out and self.split.crosses else {}

    def folds(self, paths: Sequence[Path]) -> list[int]:
        """Return the fold of each image; none unless the method leaves images out by folds."""
        return [self._fold_of[path] for path in paths if self._fold_of]

    def look(self, features: np.ndarray) -> None:
        """Warn once if the images to learn look like two products by their mean features."""
        if self._two or self.split.groups.rule == FOLDERS or self.preprocessing.tiles is not None:
            return
        if heap := smaller_heap(features):
            paths = self.split.training
            two = TwoProducts(paths, self._names(paths), [self._looks[path].size for path in paths], heap)
            self._two = two.warning
            if self._found_two is not None:
                self._found_two(two)

    def learn(self, model: Method[Any], paths: Sequence[Path], **course: Any) -> Trained:
        return learn_images(model, paths, self.preprocessing, self.split.groups, device=self._device, **course)

    def depends_on(self) -> dict[str, Any]:
        """Return all that the trained detector depends on: a checkpoint with other values is not continued."""
        names = os.fsencode("".join(path.name for path in self.split.training))
        return {
            "detector": self.model.name,
            "settings": self.model.settings(),
            "roi": self._good.roi,
            **self.preprocessing.model_dump(include=_OF_IMAGES, exclude_none=True),
            "weights": None if self._weights is None else file_sha256(self._weights),
            "data": self._digest,
            "number of training images": len(self.split.training),
            "names of training images": hashlib.sha256(names).hexdigest(),
            "device": "cpu" if self._device is None else self._device.type,
            "versions": self.model.versions,
        }

    def facts(self, *, device: str, weights: str | None, fit_seconds: float) -> dict[str, Any]:
        """Return what the manifest records about the training; `weights` is the hash of their file."""
        good, rate, odd = self._good, self.split.rate, self._odd_images()
        added = find_added(self.model.settings().get("backbone"))
        return {
            "data": good.data.name,
            **({"normal_dir": good.normal_dir} if good.normal_dir is not None else {}),
            "data_sha256": self._digest,
            **({"hold_out": good.hold_out} if good.hold_out else {}),
            **self.split.facts(),
            **({"shrunk": self._shrunk} if self._shrunk else {}),
            **({"two_products": self._two} if self._two else {}),
            **({"odd_images": odd} if odd else {}),
            **good.facts,
            "skipped_images": len(self.problems),
            "device": device,
            "fit_seconds": fit_seconds,
            **self.model.peak_memory(self._device),
            **({} if rate is None else self.model.facts(rate)),
            **({"weights_licence": added.licence} if added else {}),
            **({"weights_sha256": weights} if weights else {}),
        }

    def plan(self) -> CalibrationPlan:
        """Name the images of the thresholds; if the final detector has learnt them, score them by further trainings."""
        split, spec, seed = self.split, self.preprocessing, self.model.config.seed
        paths = split.calibration if self.model.calibrated else self._paths
        groups, scores = split.groups.of(paths), None
        if split.crosses and not self.model.leaves_out:
            folds, report = self._good.folds or FOLDS, partial(self._progress, "cross-validate")
            scores = cross_validate(
                self._learn_others, paths, folds, groups=groups, preprocessing=spec, seed=seed, progress=report
            )
        rates = split.rate, split.review_rate
        return CalibrationPlan(paths, *rates, scores, groups, self.folds(paths), self._names(paths))

    def _learn_others(self, paths: Sequence[Path]) -> Trained:
        fold = self._build(len(paths))
        fold.prepared(self.preprocessing)
        return self.learn(fold, paths)

    def _odd_images(self) -> list[str]:
        """Warn of images that differ from the others."""
        good, spec, names = self._good, self.preprocessing, self._names(self._paths)
        looks = {name: self._looks[path] for name, path in zip(names, self._paths, strict=True)}
        apart = self.split.groups.rule == FOLDERS
        odd = different_names(self._paths)
        odd += odd_ones(looks, apart=apart, in_pixels=good.roi is not None, stretched=spec.fill == "stretch")
        return odd + not_found_warnings(self._paths, spec) + depth_warnings(self._paths, spec)

    def _names(self, paths: Sequence[Path]) -> list[str]:
        """Name images relative to the folder of the data."""
        folder = self._good.data.parent if self._good.data.is_file() else self._good.data
        return [os.path.relpath(path, folder) for path in paths]


def _build(
    good: GoodImages,
    method: type[Method[Any]],
    settings: dict[str, Any],
    weights: Path | None,
    precision: str,
    images: int,
) -> Method[Any]:
    """Build an untrained detector for this number of images and this precision."""
    model = good.build(method, settings, weights)
    if precision != FP32 and good.input != "rgb":
        if precision != AUTO:
            raise SettingsError(f"{precision} would keep 256 levels of {good.input}: leave out --precision {precision}")
        precision = FP32
    model.choose_precision(precision, images, cross_validates=good.folds > 0)
    return model


def learn_images(
    model: Method[Any],
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    groups: Groups,
    folds: Sequence[int] = (),
    **course: Any,
) -> Trained:
    """Train on images, or on at most `learnt_at_most` tiles of them; a tile has the group and fold of its image."""
    images = Images(paths, preprocessing).some(learnt_at_most(preprocessing, len(paths)), model.config.seed)
    spread = images.spread(folds) if folds else ()
    return model.fit(images, groups=images.spread(groups.of(paths)), folds=spread, **course)


def _check(good: GoodImages, model: Method[Any], paths: Sequence[Path]) -> None:
    """Refuse settings with which the training would fail at its end, before images are read."""
    if good.folds and model.leaves_out:
        raise SettingsError(f"{model.name} scores each image by what it has learnt from the others: leave out --folds")
    if model.calibrated:
        good.check_count(paths, leaves_out=model.leaves_out)
    else:
        good.refuse_rates(model.name)
    find_head(model.head.kind)  # otherwise a refusal would come only after hours of training
