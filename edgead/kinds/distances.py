"""How far known rejects are from each other: what a new one's distance is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def to_other_parts(descriptors: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Distance of each reject to the nearest one of another part.

    Images of one part are near each other whatever their kind: among them a kind never seen would seem near.

    Parameters
    ----------
    descriptors : ndarray of shape (m, n), float32
    groups : sequence of int of length m
        Rejects of one number show the same part.

    Returns
    -------
    ndarray of shape (m,), float64
        Infinite where there is no other part.
    """
    rows, numbers = descriptors.astype(np.float64), np.asarray(groups)
    nearest = np.full(len(rows), np.inf)
    for index, row in enumerate(rows):
        others = rows[numbers != numbers[index]]
        if len(others):
            nearest[index] = np.sqrt(np.square(others - row).sum(axis=1).min())
    return nearest
