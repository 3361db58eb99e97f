"""Training: from a folder of good images to a finished artifact, in one call.

Thresholds from few good images are cross-validated: each is scored by a detector that did not learn from it, as in
cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015), but without the detectors of the folds:
jackknife+ (Barber et al. 2021) would score every part by all of them on the device. What ships has learnt from all
images instead, so that its scores of good parts lie a little below those that the thresholds come from.
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
from edgead.export.build import build_artifact, software_versions, write_draft
from edgead.export.calibration_images import CalibrationImages
from pydantic import ValidationError

from edgead.adapt.finalize import CalibrationPlan, GoodScores, measure_good
from edgead.artifact.files import file_sha256
from edgead.artifact.folder import Artifact, check_destination
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress, StageProgress, check_images, no_progress
from edgead.dataset.groups import FOLDERS
from edgead.dataset.images import Images
from edgead.dataset.places import not_found_warnings
from edgead.dataset.ranges import depth_warnings
from edgead.detector import Detector
from edgead.errors import SettingsError, tell_invalid
from edgead.files.disk import writing
from edgead.heads import find_head
from edgead.images.likeness import Look, look_of, odd_ones
from edgead.workstation.backbones.pretrained import BACKBONES, find_added
from edgead.workstation.methods import METHODS
from edgead.workstation.methods.method import Trained
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead.workstation.trainer.device import choose_device, peak_memory, use_cores
from edgead.workstation.training.good_images import GoodImages, learnt_at_most
from edgead.workstation.training.int8 import FP32, INT8, TRIES_INT8, check_precision, may_gain, ship_int8
from edgead.workstation.training.log import TrainingLog

# Of trainings, where nobody says how many.
FOLDS = 5
# Of every training, and what each method does between the first two.
READ, WRITE, CALIBRATE = "read images", "write the model", "calibrate"
_LEARNS = {"patchcore": ("extract features", "choose memory bank", "compare parts")}
# What the preprocessing has from the images and from who trains, beside the region.
_OF_IMAGES = {"ignored", "alignment", "tiles", "grey16", "relief"}


def planned_stages(detector: str, precision: str) -> list[str]:
    """The stages of a training in their order, as far as they are known before it."""
    of_int8 = TRIES_INT8 if precision == INT8 or (precision != FP32 and may_gain()) else ()
    return [READ, *_LEARNS.get(detector, ()), WRITE, CALIBRATE, *of_int8]


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
    """Score every image by the exported detector that learnt from the images of the other folds.

    Parameters
    ----------
    learn : callable
        Gives a detector that has learnt from some of the images.
    paths : sequence of Path
    folds : int
        At least two; as many as groups leave out one at a time.
    groups : sequence of int, optional
        Group of each image, numbered from 0 on; whole groups are dealt out.
    preprocessing : Preprocessing
        Of the detectors.
    seed : int
        Of the order in which groups are dealt out to the folds.
    progress : callable, optional
        Called with (done, total) folds.

    Returns
    -------
    GoodScores
        In the order of the paths.
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
    """Which file of weights a model came from, and whose terms it is under that has another package's backbone."""
    added = find_added(settings.get("backbone"), BACKBONES)
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

    A detector that is trained by gradient steps keeps a checkpoint beside `destination`, in a folder of its name with
    `.checkpoint` added, until the artifact is complete: the same call after an interruption goes on from there.

    Parameters
    ----------
    good : GoodImages
    destination : Path
        Directory of the artifact.
    settings : dict
        Settings of the detector, see its config class; missing ones keep their defaults.
    detector : str
        A name in `edgead.workstation.methods.METHODS`.
    weights : Path, optional
        Weights of the backbone instead of the packaged ones; of efficient_ad, a teacher.
    device : {"auto", "cpu", "cuda"}
        Where to train.
    precision : {"auto", "fp32", "int8"}
        Of the graph that is opened by default; see `edgead.workstation.training.int8`.
    progress : callable, optional
        Called with (stage, done, total); a `TrainingLog` is given settings, losses and figures too.

    Returns
    -------
    (Artifact, list of str)
        The artifact, and what was wrong with images that were skipped.

    Raises
    ------
    DatasetError, ImageError, CalibrationError, ArtifactError
        Before anything is written at `destination`.
    """
    started = time.perf_counter()
    method = METHODS.find(detector)
    where = choose_device(device)
    check_destination(destination)
    good.check_method(method, settings)
    if good.tiles is not None and method.compares_places:
        raise SettingsError(f"{detector} compares a part place by place, and tiles show any: leave out --tiles")
    paths = good.find()
    # Too few images, and settings that cannot be, are known before the images are read.
    model = good.build(method, settings, weights)
    check_precision(precision, good, len(paths), thresholds=method.calibrated, detector=detector)
    if good.folds and model.leaves_out:
        raise SettingsError(f"{detector} scores each image by what it has learnt from the others: leave out --folds")
    if method.calibrated:
        good.check_count(len(paths), leaves_out=model.leaves_out)
    else:
        good.refuse_rates(detector)
    use_cores()
    try:
        find_head(model.head.kind)  # what is refused would be reported after hours of training otherwise
    except ValidationError as error:
        raise SettingsError(tell_invalid(error.errors())) from None
    looks: dict[str, Look] = {}
    folder = good.data.parent if good.data.is_file() else good.data  # from which images are named
    paths, problems, digest = check_images(
        paths,
        roi=good.roi,
        skip_bad=good.skip_bad,
        read=good.read,
        look=lambda path, image: looks.update({os.path.relpath(path, folder): look_of(image)}),
        progress=partial(progress, READ),
    )
    preprocessing = good.with_places(model.preprocessing, paths, list(looks.values()))
    preprocessing, shrunk = good.with_tiles(preprocessing, [(look.height, look.width) for look in looks.values()])
    preprocessing = model.prepared(good.with_input(preprocessing, paths))
    seed = model.config.seed
    if method.calibrated:
        split = good.split(paths, seed, leaves_out=model.leaves_out)
    else:
        split = good.keep_all(paths, method.learns_from)
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
        "device": where.type,
        "versions": software_versions(),
    }
    if isinstance(progress, TrainingLog):
        progress.write("settings", **depends_on)
    checkpoint = Checkpoint(Path(f"{os.path.abspath(destination)}.checkpoint"), depends_on)
    facts = split.facts()
    stretched = preprocessing.fill == "stretch"
    apart = split.groups.rule == FOLDERS
    odd = odd_ones(looks, apart=apart, in_pixels=good.roi is not None, stretched=stretched)
    odd += not_found_warnings(paths, preprocessing)
    odd += depth_warnings(paths, preprocessing)
    if shrunk:
        facts["shrunk"] = shrunk
    if odd:
        facts["odd_images"] = odd
    images = Images(split.training, preprocessing).some(learnt_at_most(preprocessing, len(split.training)), seed)
    fold_of = split.folds(seed) if model.leaves_out and split.crosses else {}
    learnt_folds = [fold_of[path] for path in split.training if fold_of]
    trained = model.fit(
        images,
        groups=images.spread(split.groups.of(split.training)),
        folds=images.spread(learnt_folds) if learnt_folds else (),
        progress=progress,
        checkpoint=checkpoint,
        device=where,
    )
    provenance = {
        "data": good.data.name,
        **({"normal_dir": good.normal_dir} if good.normal_dir is not None else {}),
        "data_sha256": digest,
        **facts,
        "skipped_images": len(problems),
        "device": where.type,
        "fit_seconds": round(checkpoint.earlier_seconds + time.perf_counter() - started, 1),
        **peak_memory(where),
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
        defects=good.defects,
        costs=good.costs,
        names=[os.path.relpath(path, folder) for path in calibration],
    )
    if split.crosses and not model.leaves_out:
        provenance["folds"] = good.folds or FOLDS

        def learn(paths: Sequence[Path]) -> Trained:
            fold = good.build(method, settings, weights)
            fold.prepared(preprocessing)
            images = Images(paths, preprocessing).some(learnt_at_most(preprocessing, len(paths)), seed)
            return fold.fit(images, groups=images.spread(split.groups.of(paths)), device=where)

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
        folds=learnt_folds,
        progress=partial(progress, CALIBRATE),
    )
    checkpoint.remove()
    if method.calibrated and plan.scores is None:  # else there is no image that what ships has not learnt from
        shown = CalibrationImages(split.training, calibration, "training data", plan.groups, plan.folds)
        artifact = ship_int8(artifact, shown, precision, progress)
    if isinstance(progress, TrainingLog):
        progress.end(artifact)
    return artifact, problems
