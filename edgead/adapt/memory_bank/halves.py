"""Two halves of few good images: each scores the other's images as ones that were not learnt.

What half of the images would have taught shows what more of them would teach, and whether a change, such as a mirror
image, makes another good part of a good part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.feature_space import fit_metric
from edgead.kernels import NearestPatches


@dataclass(frozen=True, slots=True)
class Half:
    """What one half of the images teaches: `metric` (d, d), or None, and the memory bank (m, d) in it."""

    metric: np.ndarray | None
    bank: NearestPatches

    def patch_scores(self, rows: np.ndarray, num_neighbors: int = 1) -> np.ndarray:
        """Score patches, float32 (n, d), on the scale before the metric; float32 (n,)."""
        distance, _ = self.bank.search(rows if self.metric is None else rows @ self.metric, num_neighbors)
        return distance.mean(axis=1)


def learn_halves(
    patches: np.ndarray, groups: Sequence[int] | np.ndarray, rule: BankRule, *, whiten: bool
) -> tuple[np.ndarray, list[Half]]:
    """Learn from each half of the images, whole groups each.

    Parameters
    ----------
    patches : ndarray of shape (n, d), float32
        On the scale of `edgead.adapt.memory_bank.feature_space`, before the metric; as many of every image, image by
        image.
    groups : sequence of int
        The group of each image; two at least.
    rule : BankRule
        Of the whole; a half stores as many rows.
    whiten : bool
        Learn a metric too.

    Returns
    -------
    strangers : ndarray of shape (images,), int
        Which of the halves has not learnt an image.
    halves : list of Half
    """
    of_image = np.asarray(groups)
    distinct = np.unique(of_image)
    first = np.random.default_rng(rule.seed).permutation(distinct)[: len(distinct) // 2]
    strangers = np.isin(of_image, first).astype(int)
    of_patch = len(patches) // len(of_image)
    halves = []
    for number in range(2):
        own = strangers != number
        rows = patches[np.repeat(own, of_patch)]
        metric = fit_metric(rows, of_image[own], seed=rule.seed).matrix if whiten else None
        rows = rows if metric is None else rows @ metric
        chosen = choose_memory_bank(rows, replace(rule, least=min(rule.least, len(rows))))
        halves.append(Half(metric, NearestPatches(rows[chosen])))
    return strangers, halves
