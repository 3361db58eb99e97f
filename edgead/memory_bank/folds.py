"""Folds of good images: the memory bank without what one fold gave scores its images as ones that were not learnt.

So all good images can calibrate what has learnt from all of them: cross-conformal prediction (Vovk, "Cross-conformal
predictors", 2015) without a further training. To leave the rows of a fold out is not enough: where greedy k-centre
chose a patch of one image, it kept none of those beside it, and what other images have there would seem far from
everything. So each row has a stand-in: of the patches that it stands for, and that other folds gave, the one that is
farthest from the other rows, if it is so far that greedy k-centre would have chosen it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.kernels import NearestPatches

FOLDS = 10
# Of a patch's nearest rows so many are looked at for one that another fold gave.
_NEIGHBORS = 4
_BLOCK = 65536


def deal_folds(
    groups: Sequence[int] | np.ndarray, seed: int, *, learnt: Sequence[bool] | np.ndarray | None = None
) -> np.ndarray:
    """Deal images to folds, whole groups each; one fold a group where they are few.

    Parameters
    ----------
    groups : sequence of int of length n
    seed : int
    learnt : sequence of bool of length n, optional
        Where some images are not learnt, the groups of those that are are dealt evenly.

    Returns
    -------
    ndarray of shape (n,), int
        From 0 on.
    """
    group_of = np.asarray(groups)
    distinct = np.unique(group_of if learnt is None else group_of[np.asarray(learnt, bool)])
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % FOLDS
    fold_of = dict(zip(distinct.tolist(), dealt.tolist(), strict=True))
    # Of a group that was not learnt any fold may be left out.
    return np.array([fold_of.get(group, 0) for group in group_of.tolist()])


def find_stand_ins(patches: np.ndarray, fold: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Find what takes the place of each row of a memory bank when the fold that gave it is left out.

    Parameters
    ----------
    patches : ndarray of shape (n, d), float32
        Of all good images.
    fold : ndarray of shape (n,)
        The fold of each patch.
    chosen : ndarray of shape (m,)
        Which of them are the rows of the memory bank, in the order in which greedy k-centre chose them.

    Returns
    -------
    ndarray of shape (m, d), float32
        A row that stands for no such patch of another fold has a row of another fold, or itself where there is none.
    """
    bank, of_row = np.ascontiguousarray(patches[chosen]), fold[chosen]
    near = min(_NEIGHBORS, len(bank))
    stand_ins = bank.copy()
    farthest = np.full(len(bank), -1.0)
    search, radius = NearestPatches(bank), 0.0
    for start in range(0, len(patches), _BLOCK):
        block = patches[start : start + _BLOCK]
        distance, index = search.search(block, near)
        row, radius = index[:, 0], max(radius, float(distance[:, 0].max()))
        # The nearest row that stays; of a patch around which all are of the fold, the farthest of those looked at.
        stays = of_row[index] != of_row[row][:, None]
        away = distance[np.arange(len(block)), np.where(stays.any(1), stays.argmax(1), near - 1)]
        away[fold[start : start + _BLOCK] == of_row[row]] = -1
        order = np.argsort(away, kind="stable")
        order = order[away[order] > farthest[row[order]]]
        farthest[row[order]] = away[order]  # the last of several is the farthest
        stand_ins[row[order]] = block[order]
    alone = farthest <= _radius_without(bank, radius)
    for number in np.unique(of_row[alone]).tolist():
        others = np.flatnonzero(of_row != number)
        if len(others):
            stand_ins[alone & (of_row == number)] = bank[others[0]]
    return stand_ins


def _radius_without(bank: np.ndarray, radius: float) -> float:
    """How far patches are at most from as many rows that are chosen from those of all folds but one.

    Of fewer patches as many rows cover more closely, as more rows of all would. How the radius goes on to fall is read
    off its last fall, from nine tenths of the rows to all.
    """
    most = len(bank) * (FOLDS - 1) // FOLDS
    if not most:
        return 0.0
    before, _ = NearestPatches(bank[:most]).search(bank[most : most + 1])
    fallen_from = float(before[0, 0])
    return radius * radius / fallen_from if fallen_from > radius else radius
