"""Scale and memory bank of a detector with a frozen backbone, learnt from good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgead import kernels
from edgead.adapt.commission.backbone import FrozenBackbone
from edgead.adapt.commission.checks import find_odd
from edgead.adapt.commission.collect import CommissionError
from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.feature_metric import fit_metric
from edgead.adapt.memory_bank.feature_scale import fit_scale
from edgead.adapt.memory_bank.folds import FOLDS, deal_folds, find_stand_ins
from edgead.adapt.patch_features import each_features
from edgead.artifact.folder import Artifact, write_arrays
from edgead.artifact.manifest import Manifest
from edgead.artifact.onnx_file import with_properties
from edgead.dataset.folders import Progress, StageProgress
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS, in_metric, without_fold

# 0.2 GiB of features of the packaged backbone; a device has less memory than a workstation.
MAX_PATCHES = 300_000
# The share of an image's patches that are furthest from the others' shows whether the image is an odd one.
FURTHEST = 0.01


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
    head = backbone.head.model_copy(update={"folds": FOLDS, "own_metrics": backbone.whiten})
    arrays = {**manifest.arrays, **{name: f"{name}.npy" for name in head.arrays}}
    manifest = manifest.model_copy(update={"head": head, "arrays": arrays})
    graph = with_properties(backbone.graph, manifest.graph_properties)
    (draft / manifest.graphs["fp32"].file).write_bytes(graph)
    patches = _raw_patches(Artifact(draft, manifest), backbone, images, progress)
    scale = fit_scale(patches, backbone.channels)
    scale.standardise(patches, damp_length=backbone.damp_length)
    rule, of_image = _bank_rule(backbone), len(patches) // len(images)
    folds = deal_folds(groups, rule.seed)
    metrics: dict[str, np.ndarray] = {}
    if backbone.whiten:
        metric = fit_metric(patches, groups, folds=folds, seed=rule.seed)
        scale = replace(scale, metric=metric.matrix)
        metrics = {FOLD_METRICS: metric.without}
        patches @= metric.matrix
    learnt = metrics | _bank_arrays(patches, np.repeat(folds, of_image), rule, partial(progress, "choose memory bank"))
    odd = find_odd(_left_out_scores(patches, folds, learnt, partial(progress, "compare parts")))
    if odd:
        fit = ~np.isin(np.arange(len(images)), odd)
        folds = deal_folds(groups, rule.seed, learnt=fit)
        rows = np.repeat(fit, of_image)
        fold_of_patch = np.repeat(folds, of_image)[rows]
        learnt = metrics | _bank_arrays(patches[rows], fold_of_patch, rule, partial(progress, "choose again"))
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
    least = backbone.head.least_rows
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
