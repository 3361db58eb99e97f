"""Conformal thresholds and p-values from scores in groups, with a guarantee for a part of a new group.

Hierarchical conformal prediction (Lee, Barber, Willett, "Distribution-free inference with hierarchical data", 2023,
arXiv:2306.06342; Dunn, Wasserman, Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", 2022,
before them). With K groups, each of the N scores of a group has the weight 1 / ((K + 1) N); infinity, which stands for
the new group, has 1 / (K + 1).

Proof: let the K + 1 groups, including the new group, be exchangeable, and the scores within each group too. The score
of the new part is then drawn at random from a random group, and exceeds the weighted quantile of all K + 1 groups with
at most the requested probability. Infinity in place of the new group's scores only raises that quantile.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def have_several(groups: Sequence[Hashable] | None) -> bool:
    """Whether a group has more than one image; if no group has, plain conformal prediction gives the same."""
    return bool(groups) and len(set(groups or ())) < len(groups or ())


def dense(groups: Sequence[Hashable] | None) -> list[int]:
    """Renumber groups from 0 on, in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups or ()]


def group_threshold(scores: np.ndarray, groups: Sequence[int], false_reject_rate: float) -> float:
    """Compute the threshold: the smallest score up to which the weights sum to 1 - rate or more.

    `scores` (ndarray of shape (n,)): finite scores of K groups; K must be at least 1 / rate - 1.
    `false_reject_rate`: largest probability that a part of a new group exceeds the threshold.
    """
    order = np.argsort(scores, kind="stable")
    cumulative = np.cumsum(weights(groups)[order])
    needed = (len(set(groups)) + 1) * (1 - false_reject_rate)
    # The small term absorbs the rounding of the sum and of rates such as 0.07.
    rank = int(np.searchsorted(cumulative, needed - 1e-9))
    return float(scores[order[min(rank, len(order) - 1)]])


def weights(groups: Sequence[int]) -> np.ndarray:
    """Weight of each image within its group, 1 / (size of the group), float64 (n,)."""
    sizes = Counter(groups)
    return np.array([1 / sizes[group] for group in groups], np.float64)


def one_of_each(scores: Sequence[float], groups: Sequence[int] | None, *, seed: int = 0) -> list[float]:
    """Draw one score of each group at random, for tests that need exchangeable scores."""
    if not have_several(groups):
        return list(scores)
    order = np.random.default_rng(seed).permutation(len(scores))
    drawn = {(groups or ())[i]: i for i in order}
    return [scores[i] for i in sorted(drawn.values())]


class Ranking:
    """Scores of held-out good parts, prepared to rank new scores among them.

    `sorted_scores`: ascending.
    `groups`: group of each score; empty if every score is a group of its own.
    """

    def __init__(self, sorted_scores: Sequence[float], groups: Sequence[int] | None = None):
        self._scores = list(sorted_scores)
        share = weights(groups) if groups else np.ones(len(self._scores))
        # Cumulated weight of the scores from each rank on; the last is 0, for no score.
        self._from = [*np.cumsum(share[::-1])[::-1].tolist(), 0.0]
        self._total = (len(set(groups)) if groups else len(self._scores)) + 1

    def p_value(self, score: float) -> float:
        """Upper bound of the probability that the next good part scores as high or higher.

        The bound is (1 + number of scores at or above `score`) / (n + 1); with groups a score counts by its weight. For
        a good part the bound is at or below any p with a probability of at most p (Vovk et al. 2005, section 2.2).
        """
        return min(1.0, (1 + self._from[bisect_left(self._scores, score)]) / self._total)

    def share_above(self, threshold: float) -> float:
        """Estimate the false-reject rate of a threshold; see `edgead.calibration.conformal.share_above`."""
        return min(1.0, (1 + self._from[bisect_right(self._scores, threshold)]) / self._total)
