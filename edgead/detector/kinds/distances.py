"""Distances of rejects from the known kinds, and of these from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# One example may be odd: a part that is near two others is known. Ours, chosen on one split of the magnetic tiles.
_NEAREST_PARTS = 2


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of rows (n, d): (n,)."""
    return np.asarray(np.square(rows).sum(axis=1))


def distances_between(rows: np.ndarray, others: np.ndarray, squares: np.ndarray | None = None) -> np.ndarray:
    """Euclidean distances of rows (n, d) to others (m, d), whose squared lengths may be known: float64 (n, m)."""
    of_others = squared_lengths(others) if squares is None else squares
    found = squared_lengths(rows)[:, None] + of_others - 2 * rows @ others.T
    return np.sqrt(np.maximum(found, 0, dtype=np.float64))


class KnownParts:
    """The parts that known rejects show, prepared for questions of how far they are.

    Parameters
    ----------
    groups : sequence of int of length m
        Rejects of one number show the same part; there are two parts at least.
    """

    def __init__(self, groups: Sequence[int]):
        numbers, self._part_of = np.unique(groups, return_inverse=True)
        self._order = np.argsort(self._part_of, kind="stable")
        self._starts = np.searchsorted(self._part_of[self._order], np.arange(len(numbers)))
        self._nearest = min(_NEAREST_PARTS, len(numbers) - 1)

    def to_nearest(self, distances: np.ndarray) -> np.ndarray:
        """Mean distance to the two nearest parts, of distances (n, m) to all known rejects: float64 (n,)."""
        return self._mean_of_nearest(self._to_parts(distances))

    def to_others(self, distances: np.ndarray) -> np.ndarray:
        """The same of the known rejects to other parts than their own, of distances (m, m): float64 (m,).

        Images of one part are near each other whatever their kind: among them a kind never seen would seem near.
        """
        to_parts = self._to_parts(distances)
        to_parts[np.arange(len(to_parts)), self._part_of] = np.inf
        return self._mean_of_nearest(to_parts)

    def _to_parts(self, distances: np.ndarray) -> np.ndarray:
        return np.minimum.reduceat(distances[:, self._order], self._starts, axis=1)

    def _mean_of_nearest(self, to_parts: np.ndarray) -> np.ndarray:
        nearest = np.partition(to_parts, self._nearest - 1, axis=1)[:, : self._nearest]
        return np.asarray(nearest.mean(axis=1))
