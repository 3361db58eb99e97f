"""Agreement of two labellings of the same items."""

from __future__ import annotations

import numpy as np


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the adjusted Rand index of two labellings: 1 if they agree, near 0 by chance.

    Hubert and Arabie, "Comparing partitions", Journal of Classification 1985.

    `first`, `second` (ndarray of shape (n,), int): labels from 0 on; their values need not correspond.
    """
    table = contingency(first, second)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    by_chance = rows * columns / max(_pairs(np.array(len(first))), 1)
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else float((together - by_chance) / (most - by_chance))


def jaccard_of_each(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the Jaccard overlap of each class of `first` with its best match in `second`: float64 (classes,).

    The overlap is the size of the intersection over that of the union: 1 if the second labelling has the same class.
    Hennig, "Cluster-wise assessment of cluster stability", Computational Statistics & Data Analysis 2007.
    """
    table = contingency(first, second)
    union = table.sum(axis=1)[:, None] + table.sum(axis=0) - table
    return np.asarray((table / np.maximum(union, 1)).max(axis=1))


def contingency(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the items with each pair of labels, float64 (classes of the first, classes of the second)."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first, second), 1)
    return table


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2
