"""Ranking metrics of scores, defects above good parts: AUROC, average precision, F1max.

Everywhere a label is true for a defect and a higher score is more anomalous. No metric bins or rescales scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the area under the ROC curve: the share of pairs in which the defect scores higher, ties counting half.

    `labels`: array_like of shape (n,), bool.
    `scores`: array_like of shape (n,).
    Raises ValueError if the shapes differ, one of the classes is missing or a score is not finite.
    """
    is_defect, values = _labelled(labels, scores)
    return _auroc(values[is_defect], np.sort(values[~is_defect]))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the mean precision over the steps of recall, without interpolation.

    Parameters and errors are those of `auroc`.
    """
    _, hits, flagged = _cuts(labels, scores)
    return mean_precision(hits, flagged)


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Find the best F1 over all thresholds, and the highest threshold that reaches it.

    A score above the threshold counts as a defect, as `set_thresholds(reject=...)` takes it: it lies midway to the next
    lower score. Parameters and errors are those of `auroc`. The threshold is fitted to the labels at hand: it measures
    a ranking and is no threshold to ship.
    """
    cuts = _cuts(labels, scores)
    best, threshold = best_f1(*cuts)
    below = max(cuts[0][cuts[0] < threshold], default=np.nextafter(threshold, -np.inf))
    return best, float(min(below + (threshold - below) / 2, np.nextafter(threshold, -np.inf)))


def mean_precision(hits: np.ndarray, flagged: np.ndarray) -> float:
    """Compute the average precision from the numbers of defects, and of all, at or above each falling threshold."""
    return float(np.sum(np.diff(hits, prepend=0) * (hits / flagged)) / hits[-1])


def best_f1(thresholds: np.ndarray, hits: np.ndarray, flagged: np.ndarray) -> tuple[float, float]:
    """Compute the best F1 and the score from which items count as defects, from the counts of `mean_precision`."""
    f1 = 2 * hits / (flagged + hits[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def _auroc(defect: np.ndarray, sorted_normal: np.ndarray) -> float:
    defect = np.sort(defect)  # neighbouring searches stay in the cache: ten times faster
    below = np.searchsorted(sorted_normal, defect, side="left")
    up_to = np.searchsorted(sorted_normal, defect, side="right")
    # Twice the wins as an integer: exact, and within 64 bits up to 10^9 pixels of each class.
    return int(below.sum() + up_to.sum()) / (2 * defect.size * sorted_normal.size)


def _labelled(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    is_defect, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if is_defect.ndim != 1 or is_defect.shape != values.shape:
        raise ValueError(
            f"labels and scores must be two lists of one length, got shapes {is_defect.shape} and {values.shape}"
        )
    check_finite(values, "scores")
    check_classes(int(is_defect.sum()), is_defect.size, "labels")
    return is_defect, values


def _cuts(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every distinct score, falling, with the numbers of defects and of images at or above it."""
    is_defect, values = _labelled(labels, scores)
    order = np.argsort(-values, kind="stable")
    values = values[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values)), values.size - 1)
    return values[last_of_tie], np.cumsum(is_defect[order])[last_of_tie], last_of_tie + 1


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError if there is a NaN or an infinity."""
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise ValueError(f"{name}: {bad} of {values.size} values are NaN or infinite")


def check_classes(defects: int, total: int, name: str) -> None:
    """Raise ValueError unless there are both good items and defects."""
    if not 0 < defects < total:
        raise ValueError(f"{name} must mark both good and defective, found {defects} defective of {total}")
