"""Folds (sets) of good images: an image is scored by the memory bank without the rows of its fold, as if not learnt.

So all good images can calibrate a model that has learnt from all of them: cross-conformal prediction (Vovk,
"Cross-conformal predictors", 2015) without further trainings. Leaving out the rows of a fold is not enough: where
greedy k-centre chose a patch of one image, it stored no patch close to it, and similar patches of other images would
seem far from everything. So for each fold, greedy k-centre continues without the fold's rows, among the patches of the
other folds, and chooses as many new rows: the stand-ins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.kernels import NearestPatches, extend_coreset

FOLDS = 10
# Number of nearest rows stored for each patch, in case the nearest ones are left out.
_NEIGHBORS = 4
_BLOCK = 65536


def deal_folds(
    groups: Sequence[int] | np.ndarray, seed: int, *, learnt: Sequence[bool] | np.ndarray | None = None
) -> np.ndarray:
    """Assign images to folds, whole groups at a time; if there are few groups, each group is a fold.

    `learnt`: whether each image is learnt; groups with learnt images are spread evenly over the folds.
    Returns ndarray of shape (n,), int: fold of each image, from 0 on.
    """
    group_of = np.asarray(groups)
    distinct = np.unique(group_of if learnt is None else group_of[np.asarray(learnt, bool)])
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % FOLDS
    fold_of = dict(zip(distinct.tolist(), dealt.tolist(), strict=True))
    # A group that was not learnt may be in any fold.
    return np.array([fold_of.get(group, 0) for group in group_of.tolist()])


def find_stand_ins(patches: np.ndarray, fold: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Find a stand-in for each row of a memory bank: it replaces the row when the fold of the row is left out.

    `patches` (ndarray of shape (n, d), float32): patches of all good images.
    `fold` (ndarray of shape (n,)): fold of each patch.
    `chosen` (ndarray of shape (m,)): indices of the patches that are the rows of the memory bank.
    Returns ndarray of shape (m, d), float32: stand-in of each row: if the other folds have no more patches, a row of
        another fold, else the row itself.
    """
    bank, of_row = np.ascontiguousarray(patches[chosen]), fold[chosen]
    stand_ins, search, near = bank.copy(), NearestPatches(bank), min(_NEIGHBORS, len(bank))
    blocks = (patches[start : start + _BLOCK] for start in range(0, len(patches), _BLOCK))
    index = np.concatenate([search.search(block, near)[1] for block in blocks])
    for number in np.unique(of_row).tolist():
        own, kept = np.flatnonzero(of_row == number), np.flatnonzero(of_row != number)
        if not len(kept):
            continue
        stays = of_row[index] != number
        nearest = index[np.arange(len(index)), stays.argmax(1)]
        far = np.flatnonzero(~stays.any(1) & (fold != number))
        if len(far):
            others = NearestPatches(bank[kept], backend="numpy")  # for few patches: prepared at once
            nearest[far] = kept[others.search(patches[far], 1)[1][:, 0]]
        known = chosen[nearest]
        known[chosen] = chosen  # also of rows that are equal
        known[fold == number] = -1
        more = extend_coreset(patches, known, len(own))
        stand_ins[own[: len(more)]] = patches[more]
        stand_ins[own[len(more) :]] = bank[kept[0]]
    return stand_ins
