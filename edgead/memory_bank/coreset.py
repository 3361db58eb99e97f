"""The memory bank: which patches of good images are stored, and how new ones are merged into a full bank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgead import kernels
from edgead.dataset.folders import Progress


@dataclass(frozen=True, slots=True)
class BankRule:
    """How many patches to store: a share of all, but at most `most` rows and at least `least`."""

    sampling_ratio: float
    most: int
    least: int = 1
    seed: int = 0


def choose_memory_bank(
    patches: np.ndarray, fold: np.ndarray, rule: BankRule, *, progress: Progress | None = None
) -> np.ndarray:
    """Choose which patches to store, fold by fold: greedy k-centre (Roth et al. 2022, algorithm 1) from a random one.

    Each fold gives as many rows, at least one, chosen among its own patches alone; see `edgead.memory_bank.folds`.

    Parameters
    ----------
    patches : ndarray of shape (n, d), float32
    fold : ndarray of shape (n,)
        The fold of each patch, numbered from 0 on.
    rule : BankRule

    Returns
    -------
    ndarray of shape (m,), int64
        Rows of `patches`, one of each fold in turn: the one at r is of the fold r % folds. Of each fold they are in the
        order of choice, so the first of them are the smaller bank that `most` would give.
    """
    members = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
    wanted = max(rule.least, min(math.ceil(rule.sampling_ratio * len(patches)), rule.most))
    # A bank without one fold must do as well, and no fold gives more rows than it has patches.
    least = rule.least if len(members) == 1 else math.ceil(rule.least / (len(members) - 1))
    count = min(max(least, wanted // len(members)), *map(len, members))
    rng = np.random.default_rng(rule.seed)
    chosen = []
    for done, rows in enumerate(members):
        own = patches if len(members) == 1 else np.ascontiguousarray(patches[rows])

        def report(now: int, _: int, before: int = done * count) -> None:
            if progress:
                progress(before + now, count * len(members))

        picks = kernels.greedy_coreset(own, count, first=int(rng.integers(len(rows))), progress=report)
        chosen.append(rows[picks])
    return np.stack(chosen, axis=1).ravel()


def spacing(bank: np.ndarray) -> float:
    """Smallest distance between two rows; patches closer than this to a row of a k-centre bank are covered by it."""
    if len(bank) < 2:
        return 0.0
    distance, _ = kernels.NearestPatches(bank).search(bank, 2)
    return float(distance[:, 1].min())


@dataclass(frozen=True, slots=True)
class Merged:
    """A bank of the same size with new patches in it.

    `bank` is (m, d); `added` rows of it are new, each in the place of an old one that was given up. Every row given up,
    and every new patch that was offered, is within `radius` of a row of the bank.
    """

    bank: np.ndarray
    added: int
    radius: float


def merge(bank: np.ndarray, patches: np.ndarray, *, progress: Progress | None = None) -> Merged:
    """Merge patches into a bank that keeps its size: greedy k-centre over both.

    The old rows stand for patches that are gone. Greedy k-centre gives up those that others are nearest to, so that
    what they stood for stays covered within `radius` more than before.

    Parameters
    ----------
    bank : ndarray of shape (m, d), float32
    patches : ndarray of shape (n, d), float32
        New patches that the bank does not cover yet.
    """
    if not len(patches):
        return Merged(bank, 0, 0.0)
    both = np.concatenate([bank, patches])
    chosen = kernels.greedy_coreset(both, len(bank), progress=progress)
    left = np.ones(len(both), bool)
    left[chosen] = False
    new = chosen[chosen >= len(bank)]
    # A row of the bank is of the fold that its place says: what stays, stays in its place.
    merged = bank.copy()
    merged[np.flatnonzero(left[: len(bank)])] = both[new]
    distance, _ = kernels.NearestPatches(merged).search(np.ascontiguousarray(both[left]))
    return Merged(merged, len(new), float(distance.max()))
