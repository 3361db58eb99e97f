"""Memory bank: choice of the patches of good images to store, and merging of new patches into a full bank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgead import kernels
from edgead.dataset.folders import Progress


@dataclass(frozen=True, slots=True)
class BankRule:
    """Number of patches to store: a share of all, but at most `most` rows and at least `least`."""

    sampling_ratio: float
    most: int
    least: int = 1
    seed: int = 0


def choose_memory_bank(patches: np.ndarray, rule: BankRule, *, progress: Progress | None = None) -> np.ndarray:
    """Choose the patches to store: greedy k-centre from a random first patch (Roth et al. 2022, algorithm 1).

    `patches`: ndarray of shape (n, d), float32.
    Returns ndarray of shape (m,), int64: rows of `patches` in the order of choice: the first k are the bank that
        `most=k` would give.
    """
    wanted = math.ceil(rule.sampling_ratio * len(patches))
    count = max(rule.least, min(wanted, rule.most, len(patches)))
    first = int(np.random.default_rng(rule.seed).integers(len(patches)))
    return kernels.greedy_coreset(patches, count, first=first, progress=progress)


def spacing(bank: np.ndarray) -> float:
    """Smallest distance between two rows; a row of a k-centre bank represents all patches closer to it than this."""
    if len(bank) < 2:
        return 0.0
    distance, _ = kernels.NearestPatches(bank).search(bank, 2)
    return float(distance[:, 1].min())


@dataclass(frozen=True, slots=True)
class Merged:
    """A bank into which new patches were merged; its size is unchanged.

    `bank` is (m, d); `new` (m,) marks the new rows, each in the place of an old row that was dropped. Every dropped
    row, and every offered patch, is within `radius` of a row of the bank.
    """

    bank: np.ndarray
    new: np.ndarray
    radius: float

    @property
    def added(self) -> int:
        """Number of new rows."""
        return int(self.new.sum())


def merge(bank: np.ndarray, patches: np.ndarray, *, progress: Progress | None = None) -> Merged:
    """Merge patches into a bank that keeps its size: greedy k-centre over both.

    Old rows represent patches that were not stored. Greedy k-centre drops rows that have a near neighbour, so that
    patches represented by a dropped row stay covered, within `radius` more than before.

    `bank`: ndarray of shape (m, d), float32.
    `patches` (ndarray of shape (n, d), float32): new patches that the bank does not cover yet.
    """
    if not len(patches):
        return Merged(bank, np.zeros(len(bank), bool), 0.0)
    both = np.concatenate([bank, patches])
    chosen = kernels.greedy_coreset(both, len(bank), progress=progress)
    left = np.ones(len(both), bool)
    left[chosen] = False
    new = left[: len(bank)]
    merged = bank.copy()
    merged[new] = both[chosen[chosen >= len(bank)]]
    distance, _ = kernels.NearestPatches(merged).search(np.ascontiguousarray(both[left]))
    return Merged(merged, new, float(distance.max()))
