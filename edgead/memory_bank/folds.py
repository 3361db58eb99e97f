"""Folds of good images: what each image is scored by are the rows of the memory bank that other folds gave.

The rows that one fold gives are chosen without a look at the others. So the bank without the rows of a fold is the bank
that would have been there had the images of that fold never been seen, and all good images can calibrate what learns
from all of them: cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015) without a further training. A
coreset of all images at once has no such part: where it chose a patch of one image, it kept no stand-in among others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FOLDS = 10


def deal_folds(
    groups: Sequence[int] | np.ndarray, seed: int, *, learnt: Sequence[bool] | np.ndarray | None = None
) -> np.ndarray:
    """Deal images to folds, whole groups each; one fold a group where they are few.

    Parameters
    ----------
    groups : sequence of int of length n
    seed : int
    learnt : sequence of bool of length n, optional
        Where some images give no rows, no fold is without one that does.

    Returns
    -------
    ndarray of shape (n,), int
        From 0 on.
    """
    group_of = np.asarray(groups)
    distinct = np.unique(group_of if learnt is None else group_of[np.asarray(learnt, bool)])
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % FOLDS
    fold_of = dict(zip(distinct.tolist(), dealt.tolist(), strict=True))
    # Of a group that gives no rows any fold may be left out.
    return np.array([fold_of.get(group, 0) for group in group_of.tolist()])
