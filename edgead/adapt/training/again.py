"""Retraining of a patchcore model on its own images in another precision, as features differ between precisions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgead.adapt.build import write_draft
from edgead.adapt.finalize import CalibrationPlan, complete_artifact
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig
from edgead.adapt.methods.settings import read_settings
from edgead.adapt.training.from_folder import learn_images
from edgead.artifact.folder import Artifact, ArtifactError, new_artifact
from edgead.artifact.manifest import PRECISIONS
from edgead.artifact.preprocess import read_frame
from edgead.artifact.training_hashes import find_learnt, keep_learnt
from edgead.dataset.folders import StageProgress, check_images, find_good_images, no_progress, without_test_part
from edgead.dataset.groups import NONE, group_images
from edgead.errors import SettingsError


def learn_again(
    path: Path,
    precision: str,
    data: Path,
    *,
    normal_dir: str | None = None,
    group: str | None = None,
    progress: StageProgress = no_progress,
) -> Artifact:
    """Retrain the model at `path` on its training images; the previous version is kept.

    `precision`: precision of the graph that it is trained with and then runs.
    `data`: folder of the images.
    `normal_dir`, `group`: by default as in the first training.
    Raises SettingsError: the model was taught after training, has thresholds not made from its images, or was trained
        with `--weights`.
    Raises ArtifactError: the model was trained on other images.
    """
    artifact = Artifact.load(path)
    manifest, training = artifact.manifest, artifact.manifest.training
    if precision not in PRECISIONS:
        raise SettingsError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision not in ("fp32", "fp16") and manifest.preprocessing.keeps_depth:
        colour = manifest.preprocessing.colour
        raise SettingsError(f"{path} reads {colour}, of which {precision} would keep 256 levels: take fp32 or fp16")
    limits = artifact.learnt_graph.calibration
    if limits is None or limits.method not in ("cross_conformal", "split_conformal", "group_conformal"):
        raise SettingsError(
            f"{path} has limits that its images did not make: train it again with --precision {precision}"
        )
    if training.get("taught") or manifest.threshold_changes:
        raise SettingsError(
            f"{path} was taught or calibrated since it was made, which its images do not hold: train it again with "
            f"--precision {precision}, with what it was taught among the good images"
        )
    if "weights_sha256" in training:
        raise SettingsError(
            f"{path} was learnt over weights of its own: train it again with --weights and --precision {precision}"
        )
    spec = manifest.preprocessing
    config = read_settings(PatchCoreConfig, training["settings"], detector=PatchCore.name)
    method = PatchCore(config, channels=spec.channels, precision=precision)
    method.prepared(spec)
    method.read_backbone()  # invalid settings and missing files are reported before images are read
    paths = find_good_images(data, training.get("normal_dir") if normal_dir is None else normal_dir)
    read = partial(read_frame, spec=spec)
    paths, _, _ = check_images(paths, skip_bad=True, read=read, progress=partial(progress, "read images"))
    known = set(find_learnt(artifact, paths))
    if len(known) != training["training_images"]:
        raise ArtifactError(
            f"{data} has {len(known)} of the {training['training_images']} images that {path} was learnt from: name "
            "the folder that it was trained on"
        )
    groups = group_images(paths, training.get("groups", {}).get("rule", NONE) if group is None else group, data)
    paths = without_test_part(paths, groups.of(paths), training.get("hold_out", 0))
    learnt = [one for one in paths if one in known]
    crosses = limits.method == "cross_conformal"
    calibration = learnt if crosses else [one for one in paths if one not in known]
    folds = deal_folds(groups.of(learnt), method.config.seed).tolist() if crosses else []
    trained = learn_images(method, learnt, spec, groups, folds, progress=progress)
    plan = CalibrationPlan(
        calibration, limits.false_reject_rate, limits.review_rate, groups=groups.of(calibration), folds=folds
    )
    with new_artifact(path) as draft:
        made = write_draft(trained, draft, spec, {**training, **trained.notes, "peak_memory_mib": None})
        keep_learnt(draft, learnt, spec, folds)
        complete_artifact(draft, made, plan, progress=partial(progress, "calibrate"))
        artifact.check_unchanged()
    return Artifact.load(path)
