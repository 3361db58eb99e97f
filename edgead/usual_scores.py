"""What patches of good parts usually score at each place: a defect is what stands out there.

Ours. A conveyor of rough rubber scores higher than a machined face, and the threshold must lie above both; less what is
usual at its place, a scratch on the face stands out by itself. It helps where parts lie alike; whether it does is
judged by the good parts alone, see `stands_out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from edgead.kernels import NearestPatches
from edgead.manifest import Scoring
from edgead.scoring import Scorer

# Each fold's parts are compared with the rows of the others; their groups are never separated.
FOLDS = 5
# So many images are looked at, and with fewer groups nothing is usual yet.
MOST_IMAGES, LEAST_GROUPS = 120, 20
# The mean is smoothed by this share of the shorter side of the grid: parts do not lie exactly alike.
SMOOTHING = 0.05
# A defect must rise above this share of the good images; it is looked for in the middle, where parts are.
EXCEEDED, MIDDLE = 0.9, 0.25
# What is won must be more than chance: a defect may be fainter by this share at least.
FAINTER = 0.02


def fold_of_groups(groups: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """The fold of each image, (n,); images of one group share it."""
    distinct, number = np.unique(np.asarray(groups), return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(distinct)) % FOLDS)[number]


def look_at(groups: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """Indices of the images whose scores are taken, at most MOST_IMAGES; none where the groups are too few."""
    if len(np.unique(np.asarray(groups))) < LEAST_GROUPS:
        return np.empty(0, int)
    return np.sort(np.random.default_rng(seed).permutation(len(groups))[:MOST_IMAGES])


def left_out_maps(
    features: Iterable[np.ndarray], fold: np.ndarray, bank: np.ndarray, fold_of_row: np.ndarray, num_neighbors: int
) -> Iterator[np.ndarray]:
    """Patch scores of images by the rows that other folds gave.

    Parameters
    ----------
    features : iterable of ndarray of shape (h, w, d), float32
        One an image.
    fold : ndarray of shape (n,)
        The fold of each of these images.
    bank : ndarray of shape (m, d), float32
    fold_of_row : ndarray of shape (m,)
    num_neighbors : int

    Yields
    ------
    ndarray of shape (h, w), float32
    """
    others: dict[int, NearestPatches] = {}
    for own, image in zip(fold.tolist(), features, strict=True):
        if own not in others:
            others[own] = NearestPatches(np.ascontiguousarray(bank[fold_of_row != own]))
        distance, _ = others[own].search(image.reshape(-1, image.shape[-1]), num_neighbors)
        yield distance.mean(axis=1).reshape(image.shape[:2])


def fit_usual_scores(maps: np.ndarray, fold: np.ndarray, scoring: Scoring) -> np.ndarray | None:
    """Find what is usual at each place, or None where it does not help.

    Parameters
    ----------
    maps : ndarray of shape (n, h, w), float32
        Patch scores of good images by rows of others, see `left_out_maps`.
    fold : ndarray of shape (n,)
        The fold of each image.
    scoring : Scoring
        The rule of the image score.

    Returns
    -------
    ndarray of shape (h, w), float32
        Is subtracted from patch scores; its mean is 0, so that scores keep their level.
    """
    if len(np.unique(fold)) < 2:
        return None
    usual = _mean(maps)
    corrected = np.empty_like(maps)
    for number in np.unique(fold):
        corrected[fold == number] = maps[fold == number] - _mean(maps[fold != number])
    with_usual = stands_out(corrected, np.zeros_like(usual), scoring)
    return usual if with_usual < (1 - FAINTER) * stands_out(maps, usual, scoring) else None


def stands_out(maps: np.ndarray, usual: np.ndarray, scoring: Scoring) -> float:
    """How far the patch scores of a defect must rise above those of good patches there, to exceed most good images.

    The place of the defect is unknown: the mean over places, those in the middle first.
    """
    grid = (usual.shape[0], usual.shape[1])
    scorer = Scorer(scoring.model_copy(update={"head": "map", "reweight_neighbors": 0}), grid, grid)
    exceeded = np.quantile([scorer.image_score(scores) for scores in maps], EXCEEDED)
    middle = [np.exp(-0.5 * (np.linspace(-0.5, 0.5, side) / MIDDLE) ** 2) for side in grid]
    return float(exceeded - maps.mean(dtype=np.float64) - np.average(usual, weights=np.outer(*middle)))


def _mean(maps: np.ndarray) -> np.ndarray:
    """The smoothed mean over images, less its own mean."""
    mean = maps.mean(axis=0, dtype=np.float64)
    sigma = max(SMOOTHING * min(mean.shape), 0.5)
    smooth = cv2.GaussianBlur(mean, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return (smooth - smooth.mean()).astype(np.float32)
