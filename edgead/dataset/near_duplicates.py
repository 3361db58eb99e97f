"""Detection of near-duplicates: images of one thing under another exposure or a small shift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edgead import kernels
from edgead.images.files import has_depth, is_pair, load_image
from edgead.images.pairs import colours_in
from edgead.metrics.robust import robust_deviation

# Measured on bottles, bricks, cookies, circuit boards, castings, a walkway and tiles: at this size and scale of local
# contrast, exposures of one part correlate and aligned images of different parts do not.
_SIZE = 64
_SIGMA_PX = 2.0
_SHIFT_PX = 2
# A pair is joined from this correlation on, if it is also so many deviations above the median pair of the set. If all
# pairs of a set correlate, there is no outlier below 1, and a pair must be nearly identical.
_MIN_LIKENESS, _DEVIATIONS, _IDENTICAL = 0.5, 8.0, 0.95
# Limit of a first pass over all pairs at half the size; it loses less than one in a hundred of the pairs to join.
_MIN_COARSE = 0.4
_SAMPLED_PAIRS = 2000
_ROWS = 512


def near_duplicates(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Find the pairs of images that are near-duplicates.

    Images are compared at 64 x 64 pixels after normalisation of local brightness and contrast, so that exposure does
    not matter, and after subtraction of the set's mean, which images of different parts in one fixture share. A pair is
    found if its correlation, the best over shifts of up to a thirtieth of the image, is an outlier among all pairs of
    the set.

    `paths`: readable images.
    Returns indices of the images of each pair, the lower one first, in ascending order.
    """
    if len(paths) < 2:
        return []
    with ThreadPoolExecutor(kernels.threads()) as pool:
        fine = _without_the_common(np.array(list(pool.map(_load_thumbnail, paths))))
    half = (_SIZE // 2, _SIZE // 2)
    coarse = np.array([cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in fine])
    candidates = _coarse_pairs(coarse)
    if not len(candidates):
        return []
    found = _pair_correlations(fine, candidates)
    return [tuple(pair) for pair in candidates[found >= _bar(fine)].tolist()]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Compute an image's normalised structure, float32 (64, 64): mean 0, deviation 1, by neighbourhood, then in all.

    `image` (ndarray of shape (H, W, 3), uint8, BGR): or values of one channel, (H, W) uint16 or float32; of a pair, the
        colours are used.
    """
    if is_pair(image):
        image = colours_in(image)
    grey = (np.nan_to_num(image) if has_depth(image) else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).astype(np.float32)
    small = cv2.resize(grey, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    detail = small - cv2.GaussianBlur(small, (0, 0), _SIGMA_PX)
    # A share of the whole image's contrast keeps the noise of flat areas small.
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _SIGMA_PX)) + 0.1 * detail.std() + 1e-3
    local = detail / contrast
    return np.asarray((local - local.mean()) / (local.std() + 1e-6), np.float32)


def _load_thumbnail(path: Path) -> np.ndarray:
    return thumbnail(load_image(path, keep_depth=True))


def _without_the_common(thumbnails: np.ndarray) -> np.ndarray:
    """Subtract the mean of the set, except for two images, whose residuals would be opposite."""
    return thumbnails - thumbnails.mean(axis=0) if len(thumbnails) > 2 else thumbnails


def _coarse_pairs(images: np.ndarray) -> np.ndarray:
    """Find the candidate pairs (n, 2) that do not differ clearly at half the size."""
    centres = _centres(images, 1)
    pairs = []
    for first in range(0, len(images), _ROWS):
        best = np.full((min(_ROWS, len(images) - first), len(images)), -1, np.float32)
        for shifted in _shifted(images, 1):
            np.maximum(best, centres[first : first + _ROWS] @ shifted.T, out=best)
        i, j = np.nonzero(best >= _MIN_COARSE)
        pairs.append(np.stack([np.minimum(i + first, j), np.maximum(i + first, j)], axis=1)[i + first != j])
    return np.unique(np.concatenate(pairs), axis=0)  # the first of a pair is shifted against the second, and vice versa


def _pair_correlations(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Compute the best correlation of each pair over all shifts, float32 (n,)."""
    centres = _centres(images, _SHIFT_PX)
    best = np.full(len(pairs), -1, np.float32)
    for shifted in _shifted(images, _SHIFT_PX):
        for first in range(0, len(pairs), _ROWS):
            i, j = pairs[first : first + _ROWS].T
            forth, back = (np.einsum("ij,ij->i", centres[a], shifted[b]) for a, b in ((i, j), (j, i)))
            np.maximum(best[first : first + _ROWS], np.maximum(forth, back), out=best[first : first + _ROWS])
    return best


def _bar(images: np.ndarray) -> float:
    """Compute the least correlation of a duplicate, far above typical pairs' correlations (sampled if many)."""
    n = len(images)
    if n * (n - 1) // 2 > _SAMPLED_PAIRS:
        rng = np.random.default_rng(0)
        first = rng.integers(n, size=_SAMPLED_PAIRS)
        pairs = np.stack([first, (first + rng.integers(1, n, size=_SAMPLED_PAIRS)) % n], axis=1)
    else:
        pairs = np.stack(np.triu_indices(n, 1), axis=1)
    found = _pair_correlations(images, pairs)
    bar = float(np.median(found)) + _DEVIATIONS * robust_deviation(found)
    return min(max(_MIN_LIKENESS, bar), _IDENTICAL)


def _centres(images: np.ndarray, margin: int) -> np.ndarray:
    return _standardised(images[:, margin:-margin, margin:-margin])


def _shifted(images: np.ndarray, margin: int) -> Iterator[np.ndarray]:
    """Yield all windows as large as the centre, standardised."""
    size = images.shape[1] - 2 * margin
    for y in range(2 * margin + 1):
        for x in range(2 * margin + 1):
            yield _standardised(images[:, y : y + size, x : x + size])


def _standardised(images: np.ndarray) -> np.ndarray:
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)
