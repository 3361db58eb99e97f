"""Training: from a folder of good images to a finished artifact, in one call.

Thresholds from few good images are cross-validated: each is scored by a detector that did not learn from it, as in
cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015), but without the detectors of the folds:
jackknife+ (Barber et al. 2021) would score every part by all of them on the device. Instead, the final model has learnt
from all images, so its scores of good parts are a little lower than those that the thresholds come from.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from edgead.adapt.two_products import smaller_heap, warning_of
from edgead.artifact.files import file_sha256
from edgead.artifact.folder import Artifact, check_destination
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress, StageProgress, check_images, no_progress, without_test_part
from edgead.dataset.groups import FOLDERS, group_images
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
    groups: Sequence[int] | None = None,
    preprocessing: Preprocessing,
    seed: int = 0,
    progress: Progress | None = None,
) -> GoodScores:
    """Score every image by a detector that learnt from the images of the other folds, after export.

    Parameters
    ----------
    learn : callable
        Returns a detector trained on some of the images.
    paths : sequence of Path
    folds : int
        Number of folds, at least two; with as many folds as groups, each fold is one group.
    groups : sequence of int, optional
        Group of each image, numbered from 0; whole groups are assigned to folds.
    preprocessing : Preprocessing
        Preprocessing of the detectors.
    seed : int
        Seed of the order in which groups are assigned to folds.
    progress : callable, optional
        Called with (done, total) folds.

    Returns
    -------
    GoodScores
        Scores in the order of the paths.
    """
    group_of = np.arange(len(paths)) if groups is None else np.asarray(groups)
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


def _weights_facts(settings: dict[str, Any], sha256: str | None) -> dict[str, Any]:
    """Facts for the manifest about the file of weights and, for a backbone of another package, its licence."""
    added = find_added(settings.get("backbone"))
    licence = {"weights_licence": added.licence} if added else {}
    return {**licence, **({"weights_sha256": sha256} if sha256 else {})}


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
) -> tuple[Artifact, list[str]]:
    """Train, export and calibrate a detector.

    A detector that is trained by gradient steps keeps a checkpoint in the folder `DESTINATION.checkpoint` until the
    artifact is complete: after an interruption the same call continues from there.

    Parameters
    ----------
    good : GoodImages
    destination : Path
        Directory of the artifact.
    settings : dict
        Settings of the detector, see its config class; missing ones keep their defaults.
    detector : str
        A name in `edgead.adapt.methods.METHODS`.
    weights : Path, optional
        Weights of the backbone instead of the packaged ones; for efficient_ad, of the teacher.
    device : {"auto", "cpu", "cuda"}
        Device to train on.
    precision : {"auto", "fp32", "int8"}
        Precision of the graph; see `edgead.adapt.methods.method.Method.choose_precision`.
    progress : callable, optional
        Called with (stage, done, total); a `TrainingLog` also receives settings, losses and figures.

    Returns
    -------
    (Artifact, list of str)
        The artifact, and the errors of images that were skipped.

    Raises
    ------
    DatasetError, ImageError, CalibrationError, ArtifactError
        Before anything is written at `destination`.
    """
    started = time.perf_counter()
    method = METHODS.find(detector)
    check_destination(destination)
    good.check_method(method, settings)
    if good.tiles is not None and method.compares_places:
        raise SettingsError(f"{detector} compares a part place by place, and tiles show any: leave out --tiles")
    paths = good.find()
    # Too few images and invalid settings are reported before the images are read.
    model = _build(good, method, settings, weights, precision, len(paths))
    where = model.choose_device(device)
    _check(good, model, len(paths))
    folder = good.data.parent if good.data.is_file() else good.data  # names of images are relative to it
    looks: dict[str, Look] = {}
    paths, problems, digest = check_images(
        paths,
        roi=good.roi,
        skip_bad=good.skip_bad,
        read=good.read,
        look=lambda path, image: looks.update({os.path.relpath(path, folder): look_of(image)}),
        progress=partial(progress, READ),
    )
    if good.hold_out:
        paths = without_test_part(paths, group_images(paths, good.group, good.data).of(paths), good.hold_out)
        looks = {name: looks[name] for name in (os.path.relpath(path, folder) for path in paths)}
    preprocessing, shrunk = good.prepare(model, paths, list(looks.values()))
    seed = model.config.seed
    split = good.split(paths, seed, leaves_out=model.leaves_out) if method.calibrated else good.keep_all(paths, method)
    weights_sha256 = None if weights is None else file_sha256(weights)
    depends_on = {
        "detector": detector,
        "settings": model.settings(),
        "roi": good.roi,
        **preprocessing.model_dump(include=_OF_IMAGES, exclude_none=True),
        "weights": weights_sha256,
        "data": digest,
        "number of training images": len(split.training),
        "names of training images": hashlib.sha256(
            os.fsencode("".join(path.name for path in split.training))
        ).hexdigest(),
        "device": "cpu" if where is None else where.type,
        "versions": model.versions,
    }
    if isinstance(progress, TrainingLog):
        progress.write("settings", **depends_on)
    checkpoint = model.open_checkpoint(Path(f"{os.path.abspath(destination)}.checkpoint"), depends_on)
    fold_of = split.folds(seed) if model.leaves_out and split.crosses else {}
    image_folds = [fold_of[path] for path in split.training if fold_of]
    trained = learn_images(
        model,
        split.training,
        preprocessing,
        split.groups.of(split.training),
        image_folds,
        progress=progress,
        checkpoint=checkpoint,
        device=where,
    )
    facts = split.facts()
    if shrunk:
        facts["shrunk"] = shrunk
    apart = split.groups.rule == FOLDERS
    odd = different_names(paths)
    odd += odd_ones(looks, apart=apart, in_pixels=good.roi is not None, stretched=preprocessing.fill == "stretch")
    if not apart and preprocessing.tiles is None and (heap := smaller_heap(model.image_features)):
        named = [os.path.relpath(path, folder) for path in split.training]
        odd = [warning_of(named, heap, [looks[name].size for name in named]), *odd]
    if odd := odd + not_found_warnings(paths, preprocessing) + depth_warnings(paths, preprocessing):
        facts["odd_images"] = odd
    earlier_seconds = 0.0 if checkpoint is None else checkpoint.earlier_seconds
    provenance = {
        "data": good.data.name,
        **({"normal_dir": good.normal_dir} if good.normal_dir is not None else {}),
        "data_sha256": digest,
        **({"hold_out": good.hold_out} if good.hold_out else {}),
        **facts,
        **good.facts,
        "skipped_images": len(problems),
        "device": depends_on["device"],
        "fit_seconds": round(earlier_seconds + time.perf_counter() - started, 1),
        **model.peak_memory(where),
        **({} if split.rate is None else model.facts(split.rate)),
        **_weights_facts(model.settings(), weights_sha256),
    }
    calibration = split.calibration if method.calibrated else paths
    plan = CalibrationPlan(
        calibration,
        split.rate,
        split.review_rate,
        groups=split.groups.of(calibration),
        folds=[fold_of[path] for path in calibration if fold_of],
        names=[os.path.relpath(path, folder) for path in calibration],
    )
    if split.crosses and not model.leaves_out:
        provenance["folds"] = good.folds or FOLDS

        def learn(paths: Sequence[Path]) -> Trained:
            fold = _build(good, method, settings, weights, precision, len(paths))
            fold.prepared(preprocessing)
            return learn_images(fold, paths, preprocessing, split.groups.of(paths), device=where)

        scores = cross_validate(
            learn,
            paths,
            good.folds or FOLDS,
            groups=plan.groups,
            preprocessing=preprocessing,
            seed=seed,
            progress=partial(progress, "cross-validate"),
        )
        plan = replace(plan, scores=scores)
    progress(WRITE, 0, 1)
    artifact = build_artifact(
        trained,
        destination,
        plan,
        preprocessing=preprocessing,
        provenance=provenance,
        learnt=split.training,
        folds=image_folds,
        progress=partial(progress, CALIBRATE),
    )
    if checkpoint is not None:
        checkpoint.remove()
    if method.calibrated and plan.scores is None:  # otherwise the shipped model has learnt from all images
        artifact = model.finish(artifact, GoodPaths(split.training, calibration, plan.groups, plan.folds), progress)
    if isinstance(progress, TrainingLog):
        progress.end(artifact)
    return artifact, problems


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
    groups: Sequence[int],
    folds: Sequence[int] = (),
    **course: Any,
) -> Trained:
    """Train on images, or on as many of their tiles as a training takes, with the group and fold of each path."""
    images = Images(paths, preprocessing).some(learnt_at_most(preprocessing, len(paths)), model.config.seed)
    spread = images.spread(folds) if folds else ()
    return model.fit(images, groups=images.spread(groups), folds=spread, **course)


def _check(good: GoodImages, model: Method[Any], images: int) -> None:
    """Refuse settings with which the training would fail at its end, before images are read."""
    if good.folds and model.leaves_out:
        raise SettingsError(f"{model.name} scores each image by what it has learnt from the others: leave out --folds")
    if model.calibrated:
        good.check_count(images, leaves_out=model.leaves_out)
    else:
        good.refuse_rates(model.name)
    try:
        find_head(model.head.kind)  # otherwise a refusal would come only after hours of training
    except ValidationError as error:
        raise SettingsError(tell_invalid(error.errors())) from None
