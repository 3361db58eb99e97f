"""The metric in which patches are compared: directions in which good parts differ from each other count for less.

Ours; a relative of within-class covariance normalisation (Hatch and Stolcke, ICASSP 2006). The nearest patch that
other good parts have differs from a good patch by what is no defect: light, grain, a slight turn. The covariance
of these residuals gives the directions of such changes, and its inverse root makes all directions equally loud.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.kernels import NearestPatches, greedy_coreset

# Each fold's parts are compared with those of the others; their groups are never separated.
FOLDS = 5
# So many patches are compared, with those of so many rows (greedy k-centre of a sample) that other parts have.
QUERIES, SAMPLE, ROWS = 40_000, 60_000, 5_000
# This share of the mean variance is added to every direction: none is louder than 1 / sqrt(SHRINKAGE).
SHRINKAGE = 0.05


def fit_metric(patches: np.ndarray, groups: Sequence[int] | np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Learn the metric from patches of good images.

    Parameters
    ----------
    patches : ndarray of shape (n, d), float32
        On the scale of `edgead.memory_bank.feature_scale`; as many of every image, image by image.
    groups : sequence of int
        The group of each image; images of one part, one batch or one light share a number.
    seed : int

    Returns
    -------
    ndarray of shape (d, d), float32
        Symmetric; `patches @ metric` is what is compared. The identity where all images are one group.
    """
    of_image = np.asarray(groups)
    distinct = np.unique(of_image)
    if len(distinct) < 2:
        return np.eye(patches.shape[1], dtype=np.float32)
    rng = np.random.default_rng(seed)
    fold_of_group = dict(zip(rng.permutation(distinct).tolist(), np.arange(len(distinct)) % FOLDS, strict=True))
    fold = np.repeat([fold_of_group[group] for group in of_image.tolist()], len(patches) // len(of_image))
    sample = _some(np.arange(len(patches)), SAMPLE, rng)
    rows = sample[greedy_coreset(patches[sample], min(ROWS, len(sample)))]
    covariance = np.zeros((patches.shape[1], patches.shape[1]))
    for number in np.unique(fold):
        own, others = np.flatnonzero(fold == number), rows[fold[rows] != number]
        if not len(others):
            continue
        queries = patches[_some(own, QUERIES * len(own) // len(patches), rng)]
        references = patches[others]
        _, nearest = NearestPatches(references).search(queries)
        residuals = (queries - references[nearest[:, 0]]).astype(np.float64)
        covariance += residuals.T @ residuals
    return inverse_root(covariance)


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(rows, min(len(rows), max(1, most)), replace=False))


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """(d, d) -> its inverse square root, shrunk towards the identity, float32; the mean variance becomes 1 first."""
    values, vectors = np.linalg.eigh(covariance)
    mean = values.mean()
    if not mean > 0:  # good parts that are copies of each other
        return np.eye(len(values), dtype=np.float32)
    shrunk = (1 - SHRINKAGE) * np.maximum(values, 0) / mean + SHRINKAGE
    root = (vectors / np.sqrt(shrunk)) @ vectors.T
    return root.astype(np.float32)
