"""Scores of good parts become thresholds with a stated false-reject rate.

Split conformal prediction (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005): when the
scores of n held-out good parts and the score of the next good part are exchangeable, the next one exceeds the
k-th smallest of the n with a probability of at most 1 - k / (n + 1), whatever the distribution.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgead.errors import EdgeadError
from edgead.manifest import Calibration, CalibrationMethod, TailFit
from edgead.tail import extrapolate as extrapolate_tail

# Rates offered when none is asked for, the strictest that the images can support first.
OFFERED_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


# A conformal threshold is the score of one of the images. Raised by this share, another runtime's rounding cannot put
# that very image on the other side; a higher threshold keeps the promise.
MARGIN = 1e-3


class CalibrationError(EdgeadError):
    """The good images cannot support the rate that was asked for."""


def images_needed(false_reject_rate: float) -> int:
    """Smallest number of held-out good images that can support a false-reject rate."""
    if not 0 < false_reject_rate < 1:
        raise CalibrationError(f"a false-reject rate lies between 0 and 1, found {false_reject_rate}")
    # The rank below must not exceed n; the small term absorbs the rounding of rates such as 0.07.
    return max(1, math.ceil(1 / false_reject_rate - 1 - 1e-9))


def conformal_threshold(scores: Sequence[float] | np.ndarray, false_reject_rate: float) -> float:
    """Threshold that the next good part exceeds with a probability of at most `false_reject_rate`.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Image scores of held-out good parts.
    false_reject_rate : float
        Between 0 and 1.

    Returns
    -------
    float
        The ceil((n + 1)(1 - rate))-th smallest score; a part is rejected when its score is above it.

    Raises
    ------
    CalibrationError
        Too few scores for the rate (says how many are needed), or scores that are not finite.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not np.isfinite(values).all():
        raise CalibrationError("a good image has a score that is NaN or infinite: the model is broken")
    needed = images_needed(false_reject_rate)
    if len(values) < needed:
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:.4g} needs {needed} held-out good images, found "
            f"{len(values)}: give more images or ask for at least {1 / (len(values) + 1):.3g}"
        )
    rank = math.ceil((len(values) + 1) * (1 - false_reject_rate) - 1e-9)
    return float(values[rank - 1])


def conformal_p_value(sorted_scores: Sequence[float], score: float) -> float:
    """Probability of a score as high or higher for the next good part, at most.

    For a good part it is at or below any p with a probability of at most p (Vovk et al. 2005, section 2.2).

    Parameters
    ----------
    sorted_scores : sequence of float
        Image scores of n held-out good parts, ascending.
    score : float

    Returns
    -------
    float
        (1 + number of the scores at or above `score`) / (n + 1).
    """
    return (1 + len(sorted_scores) - bisect_left(sorted_scores, score)) / (len(sorted_scores) + 1)


def calibrate(
    image_scores: Sequence[float],
    map_maxima: Sequence[float],
    map_medians: Sequence[float],
    *,
    false_reject_rate: float,
    review_rate: float | None = None,
    extrapolate: bool = False,
    cross_validated: bool = False,
) -> Calibration:
    """Make thresholds from what the shipped detector says of held-out good images.

    Parameters
    ----------
    image_scores, map_maxima, map_medians : sequence of float, one per image
        Image score, largest and median value of the anomaly map.
    false_reject_rate : float
        At most this share of good parts is rejected.
    review_rate : float, optional
        At most this share of good parts is sent to review or rejected; without it nothing is sent to review.
    extrapolate : bool
        Read a threshold that the images cannot support off a fitted tail (`edgead.tail`). The calibration is then
        marked as extrapolated; what marks pixels is for the strictest rate that the images support.
    cross_validated : bool
        The scores are of images that the shipped detector has learnt from, each by one that had not.
    """
    review_rate = false_reject_rate if review_rate is None else review_rate
    check_review_rate(false_reject_rate, review_rate)
    images = len(image_scores)

    def threshold(rate: float) -> tuple[float, TailFit | None]:
        if extrapolate and images < images_needed(rate):
            value, tail = extrapolate_tail(image_scores, rate)
            return raised(value), tail
        return raised(conformal_threshold(image_scores, rate)), None

    reject, tail = threshold(false_reject_rate)
    method: CalibrationMethod = "cross_validated" if cross_validated else "split_conformal"
    review = reject if review_rate == false_reject_rate else threshold(review_rate)[0]
    return Calibration(
        method=method if tail is None else "extrapolated",
        false_reject_rate=false_reject_rate,
        review_rate=review_rate,
        reject=max(reject, review),  # a fitted tail may end below the highest score
        review=review,
        map_threshold=raised(conformal_threshold(map_maxima, false_reject_rate if tail is None else 1 / (images + 1))),
        map_typical=float(np.median(map_medians)),
        scores=sorted(float(score) for score in image_scores),
        tail=tail,
    )


def score_scale(scores: npt.ArrayLike, good_scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """What an error of a score is relative to: the score, or the interquartile range of good scores if that is larger.

    A score near 0 need not be a small one: a discriminator's lie on both sides.
    """
    spread = np.subtract(*np.percentile(good_scores, [75, 25]))
    return np.maximum(np.abs(scores), max(spread, 1e-12))


def raised(threshold: float) -> float:
    """The threshold with the margin for the rounding of other runtimes."""
    return threshold + MARGIN * abs(threshold)


def share_above(sorted_scores: Sequence[float], threshold: float) -> float:
    """What scores of good parts say of a threshold that did not come from them: the rate it is expected to keep.

    (1 + number of the scores above) / (n + 1): the conformal p-value of a score just above the threshold.
    """
    above = len(sorted_scores) - bisect_right(sorted_scores, threshold)
    return (1 + above) / (len(sorted_scores) + 1)


def plan_calibration(
    images: int, false_reject_rate: float | None, review_rate: float | None = None
) -> tuple[int, float]:
    """Decide how many of the good images to hold out, and for which rate.

    A fifth is held out, more when the asked rate needs it, never more than half: the memory bank needs the rest.
    Without an asked rate, the strictest of `OFFERED_RATES` that a fifth supports is taken.

    Returns
    -------
    (int, float)
        Number of images to hold out and the false-reject rate.

    Raises
    ------
    CalibrationError
        When the images cannot support the rate; says how many are needed.
    """
    held_out, rate = _plan(images, false_reject_rate)
    check_review_rate(rate, review_rate)
    return held_out, rate


def plan_cross_validation(images: int, folds: int, false_reject_rate: float | None, review_rate: float | None) -> float:
    """Decide for which rate thresholds are made when every good image is scored, each by a model that has not seen it.

    Returns
    -------
    float
        The asked false-reject rate, or the strictest of `OFFERED_RATES` that the images support.

    Raises
    ------
    CalibrationError
        Too few images for the folds or the rate, or a review rate that does not fit.
    """
    if not 2 <= folds <= images:
        raise CalibrationError(f"{images} good images can be split into 2 to {images} folds, found {folds}")
    rate = _strictest(images) if false_reject_rate is None else false_reject_rate
    if rate is None or images_needed(rate) > images:
        needed = images_needed(OFFERED_RATES[-1] if rate is None else rate)
        raise CalibrationError(f"found {images} good images, but at least {needed} are needed for the threshold")
    check_review_rate(rate, review_rate)
    return rate


def check_review_rate(false_reject_rate: float, review_rate: float | None) -> None:
    """Raise CalibrationError unless the review rate, which counts rejected parts too, fits the false-reject rate."""
    if review_rate is not None and not false_reject_rate <= review_rate < 1:
        raise CalibrationError(
            f"the review rate counts rejected parts too: it must lie between the false-reject rate "
            f"({false_reject_rate:.4g}) and 1, found {review_rate:.4g}"
        )


def _strictest(held_out: int) -> float | None:
    """The strictest of `OFFERED_RATES` that so many images support."""
    return next((rate for rate in OFFERED_RATES if images_needed(rate) <= held_out), None)


def _plan(images: int, false_reject_rate: float | None) -> tuple[int, float]:
    held_out = max(1, images // 5)
    if false_reject_rate is None:
        rate = _strictest(held_out)
        if rate is not None:
            return held_out, rate
        needed = 5 * images_needed(OFFERED_RATES[-1])
        raise CalibrationError(f"found {images} good images, but at least {needed} are needed to set a threshold")
    needed = images_needed(false_reject_rate)
    if needed > images // 2:
        supported = f" or ask for a rate of at least {1 / (images // 2 + 1):.3g}" if images > 1 else ""
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:.4g} needs {needed} good images held out of training, so "
            f"at least {2 * needed} in all, found {images}: add {2 * needed - images} good images{supported}"
        )
    return max(held_out, needed), false_reject_rate
