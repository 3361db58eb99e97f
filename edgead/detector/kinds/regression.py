"""Kernel ridge regression of the kind of a reject.

Saunders, Gammerman and Vovk, "Ridge regression learning algorithm in dual variables", ICML 1998, with a Gaussian
kernel, towards 1 for the kind of an example and -1 for all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of the median distance of examples. Ours, as the ridge: chosen on one split of the magnetic tiles, bottles and boards.
_WIDTH = 0.7
_RIDGE = 0.3


class KindRegression:
    """Learns from examples, and gives each kind a score.

    Parameters
    ----------
    distances : ndarray of shape (m, m), float64
        Of the examples to each other.
    labels : sequence of int of length m
        Their kinds, from 0 on.
    """

    def __init__(self, distances: np.ndarray, labels: Sequence[int]):
        self._width = _WIDTH * float(np.median(distances)) or 1.0
        targets = 2 * np.eye(max(labels) + 1)[list(labels)] - 1
        self._mean = targets.mean(axis=0)
        kernel = self._kernel(distances)
        kernel[np.diag_indices(len(kernel))] += _RIDGE
        self._weights = np.linalg.solve(kernel, targets - self._mean)

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """Score of each kind, of distances (n, m) to the examples: float64 (n, kinds)."""
        return np.asarray(self._kernel(distances) @ self._weights + self._mean)

    def _kernel(self, distances: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square(distances / self._width))
