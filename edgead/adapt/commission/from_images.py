"""Calibrated model from images of good parts, on the device, without torch: scale, memory bank, thresholds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgead import kernels
from edgead.adapt.commission.collect import Collected, CommissionError, find_odd
from edgead.adapt.finalize import CalibrationPlan, complete_artifact
from edgead.adapt.frozen_backbone import FrozenBackbone, open_backbone
from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.feature_space import fit_metric, fit_scale
from edgead.adapt.memory_bank.folds import deal_folds, find_stand_ins
from edgead.adapt.patch_features import each_features
from edgead.artifact.folder import Artifact, new_artifact, write_arrays
from edgead.artifact.manifest import Manifest
from edgead.artifact.onnx_file import with_properties
from edgead.artifact.training_hashes import keep_learnt
from edgead.calibration.outliers import stand_apart
from edgead.calibration.plan import choose_rates
from edgead.dataset.folders import Progress, StageProgress, check_images, no_progress
from edgead.dataset.groups import NONE, group_images
from edgead.dataset.images import Images
from edgead.dataset.places import Place, not_found_warnings, with_places
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS, in_metric, without_fold

# 0.2 GiB of features of the packaged backbone; a device has less memory than a workstation.
MAX_PATCHES = 300_000
# The share of an image's patches that are furthest from the others' shows whether the image is an odd one.
FURTHEST = 0.01
_MAX_NAMED = 8

STAGES = ("read images", "extract features", "choose memory bank", "compare parts", "calibrate")
"""Stages that `commission_images` reports, in this order; with "choose again" where parts were unlike all others."""


def learn(
    draft: Path,
    manifest: Manifest,
    backbone: FrozenBackbone,
    images: Sequence[np.ndarray],
    groups: Sequence[int],
    progress: StageProgress,
) -> tuple[Manifest, list[int], list[int]]:
    """Learn from preprocessed images of good parts; writes the graph and the arrays into the draft.

    Parameters
    ----------
    groups : sequence of int
        The group of each image.

    Returns
    -------
    manifest : Manifest
        With the folds of the memory bank.
    odd : list of int
        Images that are far from all others; their patches are not in the bank.
    folds : list of int
        Of each image, odd ones too: that without which it is scored as one that was not learnt.
    """
    rule = _bank_rule(backbone)
    folds = deal_folds(groups, rule.seed)
    head = backbone.head.model_copy(update={"folds": int(folds.max()) + 1, "own_metrics": backbone.whiten})
    arrays = {**manifest.arrays, **{name: f"{name}.npy" for name in head.arrays}}
    manifest = manifest.model_copy(update={"head": head, "arrays": arrays})
    graph = with_properties(backbone.graph, manifest.graph_properties)
    (draft / manifest.graphs["fp32"].file).write_bytes(graph)
    patches = _raw_patches(Artifact(draft, manifest), backbone, images, progress)
    scale = fit_scale(patches, backbone.channels)
    scale.standardise(patches, damp_length=backbone.damp_length)
    of_image = len(patches) // len(images)
    fold_of_patch = np.repeat(folds, of_image)
    metrics: dict[str, np.ndarray] = {}
    if backbone.whiten:
        metric = fit_metric(patches, groups, folds=folds, seed=rule.seed)
        scale = replace(scale, metric=metric.matrix)
        metrics = {FOLD_METRICS: metric.without}
        patches @= metric.matrix
    learnt = metrics | _bank_arrays(patches, fold_of_patch, rule, partial(progress, "choose memory bank"))
    odd = find_odd(_left_out_scores(patches, folds, learnt, partial(progress, "compare parts")))
    if odd:
        progress("choose again", 0, 1)
        # The others stay in their folds, which the metrics are of.
        rows = np.repeat(~np.isin(np.arange(len(images)), odd), of_image)
        learnt = metrics | _bank_arrays(patches[rows], fold_of_patch[rows], rule, partial(progress, "choose again"))
    write_arrays(draft, manifest, {**learnt, **backbone.inputs(scale)})
    return manifest, odd, folds.tolist()


def _bank_arrays(patches: np.ndarray, fold: np.ndarray, rule: BankRule, progress: Progress) -> dict[str, np.ndarray]:
    chosen = choose_memory_bank(patches, rule, progress=progress)
    return {
        BANK: patches[chosen],
        ROW_FOLDS: fold[chosen, None].astype(np.float32),
        STAND_INS: find_stand_ins(patches, fold, chosen),
    }


def _bank_rule(backbone: FrozenBackbone) -> BankRule:
    settings = backbone.settings
    least = backbone.head.num_neighbors
    return BankRule(settings["coreset_sampling_ratio"], settings["memory_bank_size"], least, settings["seed"])


def _raw_patches(
    draft: Artifact, backbone: FrozenBackbone, images: Sequence[np.ndarray], progress: StageProgress
) -> np.ndarray:
    """Raw features, float32 (patches, d), as many of every image."""
    rng = np.random.default_rng(backbone.settings["seed"])
    write_arrays(draft.path, draft.manifest, backbone.inputs(backbone.neutral()))
    rows: list[np.ndarray] = []
    for features in each_features(draft, images, partial(progress, "extract features")):
        keep = min(len(features), max(1, MAX_PATCHES // len(images)))
        picks = slice(None) if keep == len(features) else np.sort(rng.choice(len(features), keep, replace=False))
        rows.append(features[picks] * np.float32(backbone.raw_factor))
    patches = np.concatenate(rows)
    if not np.isfinite(patches).all():
        raise CommissionError("the backbone gave NaN or infinity: it is broken, or its engine is")
    return patches


def _left_out_scores(
    patches: np.ndarray, folds: np.ndarray, arrays: dict[str, np.ndarray], progress: Progress
) -> np.ndarray:
    """How far the furthest patches of each image are from the bank without the image's fold, (images,)."""
    own = patches.reshape(len(folds), -1, patches.shape[1])
    furthest = max(1, round(FURTHEST * own.shape[1]))
    scores = np.zeros(len(folds))
    for fold in np.unique(folds).tolist():
        bank, metric = without_fold(arrays, fold)
        others = kernels.NearestPatches(bank)
        for image in np.flatnonzero(folds == fold):
            distance, _ = others.search(in_metric(own[image], metric))
            scores[image] = np.sort(distance[:, 0])[-furthest:].mean()
        progress(int(np.sum(folds <= fold)), len(folds))
    return scores


@dataclass(frozen=True, slots=True)
class CommissionPlan:
    """What to commission.

    Attributes
    ----------
    images : int
        Different good parts to photograph.
    backbone : str
        A packaged one, or the directory of a patchcore model; see `edgead.adapt.frozen_backbone`.
    roi : (int, int, int, int), optional
        x, y, width and height of the part of the image to look at.
    ignore : sequence of str, Path or ndarray
        Places that never count; see `edgead.dataset.places.read_ignored`. All images are of one size then.
    align : str or Path, optional
        A golden image that parts are laid onto. Likewise.
    false_reject_rate, review_rate : float, optional
        As in `edgead train`.
    keep_images : Path, optional
        Where the images go and stay; by default they are removed.
    patience_s : float
        How long to wait for a part that is not there yet.
    group : str
        Which images belong together, see `edgead.dataset.groups.group_images`. By default none: each image shows
        another part.
    """

    images: int = 100
    backbone: str = "fast"
    roi: tuple[int, ...] | None = None
    false_reject_rate: float | None = None
    review_rate: float | None = None
    keep_images: Path | None = None
    patience_s: float = 60.0
    group: str = NONE
    ignore: Sequence[Place] = ()
    align: str | Path | None = None


@dataclass(frozen=True, slots=True)
class Commissioned:
    """The finished model, and what its images were like.

    Attributes
    ----------
    odd : list of str
        Images that are far from all others; they are not in the memory bank. Thresholds come from them all the same:
        without them they would guarantee too much.
    apart : list of str
        Images that are learnt, and whose scores stand far above those of all others.
    not_found : list of str
        What is wrong with images whose part is not found beside the golden one.
    folds : dict of int
        Of the images that thresholds come from, odd ones too, by name: without which each is scored.
    """

    artifact: Artifact
    collected: Collected
    odd: list[str]
    apart: list[str]
    not_found: list[str]
    folds: dict[str, int]

    @property
    def warnings(self) -> list[str]:
        """What the operator should know, sentence by sentence."""
        found = list(self.not_found)
        if self.collected.duplicates:
            found.append(f"{self.collected.duplicates} images showed a part once more and were left out")
        if self.collected.blurred:
            found.append(f"blurred, left out: {self._called(self.collected.blurred)}")
        if self.odd:
            found.append(f"unlike the other parts, not learnt: {self._called(self.odd)}; are they good?")
        if self.apart:
            found.append(
                f"unlike the other parts, and learnt: {self._called(self.apart)}; leave them out if they are not good"
            )
        return found

    def _called(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return ", ".join(map(self.collected.called, names[:_MAX_NAMED])) + more


def commission_images(
    collected: Collected,
    folder: Path,
    destination: Path,
    plan: CommissionPlan,
    *,
    data: str,
    progress: StageProgress = no_progress,
) -> Commissioned:
    """Make a model from images of good parts.

    Parameters
    ----------
    collected : Collected
        All images are there, in `folder` or below it.
    folder : Path
        What the names of groups start from.
    destination : Path
        Directory of the model.
    plan : CommissionPlan
    data : str
        Where the images come from, for the manifest.
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    SettingsError, CommissionError, DatasetError, CalibrationError, ArtifactError
        Before anything is written at `destination`.
    """
    started = time.perf_counter()
    backbone = open_backbone(plan.backbone)
    sizes: dict[tuple[int, int], Path | str] = {}

    def look(path: Path, image: np.ndarray) -> None:
        sizes.setdefault((image.shape[0], image.shape[1]), path)

    paths, _, digest = check_images(collected.paths, roi=plan.roi, look=look, progress=partial(progress, "read images"))
    groups = group_images(paths, plan.group, folder)
    rate, review_rate = choose_rates(len(paths), plan.false_reject_rate, plan.review_rate, groups=groups.count)
    numbers = groups.of(paths)
    manifest = backbone.manifest(plan.roi)
    spec = with_places(manifest.preprocessing, plan.ignore, plan.align, sizes)
    manifest = manifest.with_preprocessing(ignored=spec.ignored, alignment=spec.alignment)
    not_found = not_found_warnings(paths, spec)
    with new_artifact(destination) as draft:
        manifest, not_learnt, folds = learn(draft, manifest, backbone, Images(paths, spec), numbers, progress)
        learnt = [number for number in range(len(paths)) if number not in not_learnt]
        odd = [paths[number].name for number in not_learnt]
        called = collected.called
        facts = {
            "data": data,
            "data_sha256": digest,
            "training_images": len(learnt),
            "calibration_images": len(paths),
            "groups": groups.facts([paths[number] for number in learnt], paths),
            "commissioned": {
                "duplicates": collected.duplicates,
                "blurred": [called(name) for name in collected.blurred],
                "odd": [called(name) for name in odd],
            },
            "fit_seconds": round(time.perf_counter() - started, 1),
        }
        manifest = manifest.model_copy(update={"training": {**manifest.training, **facts}})
        learnt_folds = [folds[number] for number in learnt]
        keep_learnt(draft, [paths[number] for number in learnt], learnt_folds, pixels_of=spec)
        names = [called(path.name) for path in paths]
        completed = CalibrationPlan(paths, rate, review_rate, groups=numbers, folds=folds, names=names)
        good = complete_artifact(draft, manifest, completed, progress=partial(progress, "calibrate"))
    apart = [paths[number].name for number in stand_apart(good.scores) if number not in not_learnt]
    of_name = {path.name: fold for path, fold in zip(paths, folds, strict=True)}
    return Commissioned(Artifact.load(destination), collected, odd, apart, not_found, of_name)
