"""How good a detector is: ranking metrics on images and pixels, and rates with exact intervals.

Everywhere a label is true for a defect and a higher score is more anomalous. No metric bins or rescales scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

_MAX_TERMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted, with its Clopper-Pearson interval."""

    count: int
    total: int
    low: float
    high: float
    confidence: float = 0.95

    @classmethod
    def of(cls, count: int, total: int, confidence: float = 0.95) -> Rate:
        """Build the rate of `count` in `total` with its interval."""
        return cls(count, total, *clopper_pearson(count, total, confidence), confidence)

    @property
    def rate(self) -> float:
        return self.count / self.total

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.total} ({100 * self.rate:.1f} %, {100 * self.confidence:g} % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f} %)"
        )


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the area under the ROC curve: how often a defect outscores a good one, ties counting half.

    Parameters
    ----------
    labels : array_like of shape (n,), bool
    scores : array_like of shape (n,)

    Raises
    ------
    ValueError
        If the shapes differ, one of the classes is missing or a score is not finite.
    """
    is_defect, values = _labelled(labels, scores)
    return _auroc(values[is_defect], np.sort(values[~is_defect]))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the mean precision over the steps of recall, without interpolation.

    Parameters and errors are those of `auroc`.
    """
    _, hits, flagged = _cuts(labels, scores)
    return float(np.sum(np.diff(hits, prepend=0) * (hits / flagged)) / hits[-1])


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Find the best F1 over all thresholds, and the highest threshold that reaches it.

    A score at or above the threshold counts as a defect. Parameters and errors are those of `auroc`. The
    threshold is fitted to the labels at hand: it measures a ranking and is no threshold to ship.
    """
    thresholds, hits, flagged = _cuts(labels, scores)
    f1 = 2 * hits / (flagged + hits[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def pixel_auroc(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Compute the AUROC over all pixels of all images.

    Parameters
    ----------
    maps : sequence of ndarray of shape (H, W), float32
        Anomaly maps, which may differ in size.
    masks : sequence of ndarray of shape (H, W), bool
        True on defects.

    Raises
    ------
    ValueError
        If the shapes do not match, there are no defect pixels or only such, or a score is not finite.

    Notes
    -----
    Exact. Only the scores of good pixels are sorted, once and without their indices; extra memory is one
    copy of all scores.
    """
    normal = _sorted_normal(maps, masks)
    return _auroc(np.concatenate([a[m] for a, m in zip(maps, masks, strict=True)]), normal)


def aupro(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = 0.3) -> float:
    """Compute the area under the per-region overlap curve up to a false-positive rate, divided by it.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2: every connected region (8
    neighbours) has the same weight whatever its size, and the false-positive rate is that of the good pixels
    of all images.

    Parameters
    ----------
    maps, masks : as in `pixel_auroc`
    limit : float
        Largest false-positive rate, above 0 and at most 1. Errors are those of `pixel_auroc`.

    Notes
    -----
    Exact at every threshold and at the limit. A region's pixel adds its weight to the overlap while the
    threshold passes its score: that is, linearly while the false-positive rate grows from the share of good
    pixels above the score to the share at or above it. So the area is a sum over the pixels of regions and
    the curve need not be built.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"the limit is a false-positive rate above 0 and at most 1, got {limit}")
    normal = _sorted_normal(maps, masks)
    area, regions = 0.0, 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        found, labelled = cv2.connectedComponents(np.asarray(mask, np.uint8), connectivity=8, ltype=cv2.CV_32S)
        scores, region = anomaly_map[mask], labelled[mask]
        order = np.argsort(scores)  # neighbouring searches stay in the cache: ten times faster
        scores, region = scores[order], region[order]
        start = (normal.size - np.searchsorted(normal, scores, side="right")) / normal.size
        stop = (normal.size - np.searchsorted(normal, scores, side="left")) / normal.size
        weights = 1 / np.bincount(region, minlength=found)[region]
        area += float(np.sum(weights * _area_of_rise(start, stop, limit)))
        regions += found - 1
    return area / regions / limit


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of a binomial rate.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934. The bounds are quantiles of beta distributions, found by bisection.

    Raises ValueError for counts that are no rate and for a confidence that is not between 0 and 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, n - successes + 1)
    # The upper bound is one minus the lower bound of the failures, which keeps its tail small and exact.
    high = 1.0 if successes == n else 1 - _beta_quantile(tail, n - successes, successes + 1)
    return low, high


def _auroc(defect: np.ndarray, sorted_normal: np.ndarray) -> float:
    defect = np.sort(defect)  # neighbouring searches stay in the cache: ten times faster
    below = np.searchsorted(sorted_normal, defect, side="left")
    up_to = np.searchsorted(sorted_normal, defect, side="right")
    # Twice the wins as an integer: exact, and within 64 bits up to 10^9 pixels of each class.
    return int(below.sum() + up_to.sum()) / (2 * defect.size * sorted_normal.size)


def _area_of_rise(start: np.ndarray, stop: np.ndarray, limit: float) -> np.ndarray:
    """Integrate from 0 to `limit` what is 0 up to `start`, rises to 1 at `stop` and stays there."""
    width = np.maximum(stop - start, np.finfo(np.float64).tiny)
    within = np.clip(limit - start, 0, stop - start)
    return within * within / (2 * width) + np.maximum(limit - stop, 0)


def _labelled(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    is_defect, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if is_defect.ndim != 1 or is_defect.shape != values.shape:
        raise ValueError(
            f"labels and scores must be two lists of one length, got shapes {is_defect.shape} and {values.shape}"
        )
    _check_finite(values, "scores")
    _check_classes(int(is_defect.sum()), is_defect.size, "labels")
    return is_defect, values


def _cuts(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every distinct score, falling, with the defects and the images at or above it."""
    is_defect, values = _labelled(labels, scores)
    order = np.argsort(-values, kind="stable")
    values = values[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values)), values.size - 1)
    return values[last_of_tie], np.cumsum(is_defect[order])[last_of_tie], last_of_tie + 1


def _sorted_normal(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Check maps and masks and return the scores of all good pixels, rising."""
    if len(maps) != len(masks) or not len(maps):
        raise ValueError(f"every map needs a mask, got {len(maps)} maps and {len(masks)} masks")
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape or mask.dtype != bool:
            raise ValueError(
                f"map {index} of shape {anomaly_map.shape} needs a bool mask of the same (H, W), "
                f"got {mask.dtype} of shape {mask.shape}"
            )
        _check_finite(anomaly_map, f"map {index}")
    defects = sum(int(np.count_nonzero(mask)) for mask in masks)
    _check_classes(defects, sum(mask.size for mask in masks), "masks")
    normal = np.concatenate([a[~m] for a, m in zip(maps, masks, strict=True)])
    normal.sort()
    return normal


def _check_finite(values: np.ndarray, name: str) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise ValueError(f"{name}: {bad} of {values.size} values are NaN or infinite")


def _check_classes(defects: int, total: int, name: str) -> None:
    if not 0 < defects < total:
        raise ValueError(f"{name} must mark both good and defective, found {defects} defective of {total}")


def _beta_quantile(probability: float, a: int, b: int) -> float:
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return middle


def _beta_cdf(x: float, a: int, b: int) -> float:
    """Evaluate the regularised incomplete beta function by its continued fraction.

    Lentz's method as in Press et al., "Numerical Recipes", section 6.4; it converges fast below the mean,
    and the symmetry of the function leads there.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MAX_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a
