"""Learning of a memory bank: from raw patch features of good images to scale, metric and bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.feature_space import FeatureScale, equal_loudness, fit_metric, fit_scale
from edgead.adapt.memory_bank.folds import find_stand_ins
from edgead.dataset.folders import StageProgress, no_progress
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS

CHOOSE = "choose memory bank"
"""Name of the stage that `learn_bank` reports."""


@dataclass(frozen=True, slots=True)
class Space:
    """Options of the space in which patches are compared; see `edgead.adapt.memory_bank.feature_space`.

    `channels`: channels of each layer of the features.
    `damps`, `whitens`: whether lengths are damped, and whether a metric is learnt.
    `halves`: whether the two halves of the channels come from different cameras.
    """

    channels: Sequence[int]
    damps: bool = True
    whitens: bool = True
    halves: bool = False


@dataclass(frozen=True, slots=True)
class LearntBank:
    """Scale, metric and memory bank learnt from good images.

    `metric` (ndarray of shape (d, d), float32): the identity if no metric is learnt.
    `arrays`: the memory bank and the arrays for leaving out folds, by the names of `edgead.heads.nearest`.
    `folds`: number of folds; 0 if all images are in one fold.
    """

    scale: FeatureScale
    metric: np.ndarray
    arrays: dict[str, np.ndarray]
    folds: int


def learn_bank(
    patches: np.ndarray,
    groups: Sequence[int],
    folds: Sequence[int] | np.ndarray,
    rule: BankRule,
    space: Space,
    progress: StageProgress = no_progress,
    *,
    scale: FeatureScale | None = None,
) -> LearntBank:
    """Learn scale, metric, memory bank and its folds.

    `patches` (ndarray of shape (n, d), float32): raw features of good images, the same number from every image, image
        by image; changed in place.
    `groups`, `folds`: group and fold of each image; see `edgead.adapt.memory_bank.folds`.
    `scale`: scale of another bank of the same patches that differs only in damping.
    Returns equal on every machine for the same features.
    """
    fold = np.asarray(folds, int)
    several = int(fold.max()) > 0
    scale = replace(scale or fit_scale(patches, space.channels, damps=space.damps), damps=space.damps)
    scale.standardise(patches)
    matrix, learnt = np.eye(patches.shape[1], dtype=np.float32), {}
    if space.whitens:
        left_out = fold if several else ()
        found = fit_metric(patches, groups, folds=left_out, seed=rule.seed, halves=space.halves)
        matrix = found.matrix
        learnt = {FOLD_METRICS: found.without} if several else {}
        patches = _multiplied(patches, matrix)
    if space.halves:
        loudness = np.repeat(equal_loudness(patches, groups, seed=rule.seed), patches.shape[1] // 2).astype(np.float32)
        patches *= loudness
        matrix = matrix * loudness
    of_patch = np.repeat(fold, len(patches) // len(fold))
    chosen = choose_memory_bank(patches, rule, progress=partial(progress, CHOOSE))
    learnt[BANK] = patches[chosen]
    if several:
        learnt[ROW_FOLDS] = of_patch[chosen, None].astype(np.float32)
        learnt[STAND_INS] = find_stand_ins(patches, of_patch, chosen)
    return LearntBank(scale, matrix, learnt, int(fold.max()) + 1 if several else 0)


def _multiplied(patches: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Multiply patches by the metric, in place, block by block, so that the product needs no further memory."""
    for start in range(0, len(patches), 65536):
        block = patches[start : start + 65536]
        block[:] = block @ matrix
    return patches
