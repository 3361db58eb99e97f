"""Conformal thresholds: a stated false-reject rate from scores of good parts.

Split conformal prediction (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005): when the
scores of n held-out good parts and the score of the next good part are exchangeable, the next one exceeds the
k-th smallest of the n with a probability of at most 1 - k / (n + 1), whatever the distribution.

If images come in groups (one part photographed several times, a batch, a light), groups are exchangeable, images are
not: see `edgead.calibration.group_conformal`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgead.artifact.manifest import Calibration, CalibrationMethod
from edgead.calibration.group_conformal import Ranking, dense, group_threshold, have_several
from edgead.errors import EdgeadError

# A conformal threshold is the score of one of the images. It is raised by this share, so that the rounding of another
# runtime cannot put that image on the other side; a higher threshold keeps the guarantee.
MARGIN = 1e-3


class CalibrationError(EdgeadError):
    """Good images that cannot support the requested rate."""


def check_rate(rate: object, what: str) -> None:
    """Raise CalibrationError if a rate is given and is no number between 0 and 1; `what` names it in the message."""
    if rate is not None and not (isinstance(rate, (float, np.floating)) and 0 < rate < 1):
        raise CalibrationError(f"a {what} lies between 0 and 1, 0.05 for 5 %, found {rate!r}")


def images_needed(false_reject_rate: float) -> int:
    """Smallest number of held-out good images, or groups, that can support a false-reject rate."""
    check_rate(false_reject_rate, "false-reject rate")
    # The rank below must not exceed n; the small term absorbs the rounding of rates such as 0.07.
    return max(1, math.ceil(1 / false_reject_rate - 1 - 1e-9))


def rounded_up(rate: float) -> str:
    """Format a rate with three digits, rounded up, so that a rate offered in a message is supported."""
    digits = 2 - math.floor(math.log10(rate))
    return f"{math.ceil(rate * 10**digits - 1e-9) / 10**digits:.3g}"


def looser(rate: float, count: int) -> str:
    """Sentence that offers a rate which this number of images or groups supports, beside the asked rate."""
    least = rounded_up(1 / (count + 1))
    cost = f"{100 * float(least):.3g} % of good parts, not {100 * rate:.3g} %"
    return f"A rate of {least}, which these support, rejects up to {cost}"


def conformal_threshold(
    scores: Sequence[float] | np.ndarray, false_reject_rate: float, groups: Sequence[int] | None = None
) -> float:
    """Threshold that the next good part exceeds with a probability of at most `false_reject_rate`.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Image scores of held-out good parts.
    false_reject_rate : float
        Between 0 and 1.
    groups : sequence of int of length n, optional
        Group of each score. The guarantee then holds for a part of a new group.

    Returns
    -------
    float
        The ceil((n + 1)(1 - rate))-th smallest score, or with groups the weighted quantile of
        `edgead.calibration.group_conformal.group_threshold`; a part is rejected when its score is above it.

    Raises
    ------
    CalibrationError
        Too few scores for the rate (says how many are needed), or scores that are not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        raise CalibrationError("a good image has a score that is NaN or infinite: the model is broken")
    check_support(len(values), false_reject_rate, groups)
    if have_several(groups):
        return group_threshold(values, groups or (), false_reject_rate)
    return float(np.sort(values)[conformal_rank(len(values), false_reject_rate) - 1])


def conformal_rank(count: int, false_reject_rate: float) -> int:
    """Rank of the threshold among `count` scores, 1 for the smallest; `count` must support the rate."""
    return math.ceil((count + 1) * (1 - false_reject_rate) - 1e-9)


def check_support(images: int, false_reject_rate: float, groups: Sequence[int] | None = None) -> None:
    """Raise CalibrationError if this number of held-out images, or their groups, cannot support the rate."""
    found = len(set(groups or ())) if have_several(groups) else images
    what = "groups of good images" if have_several(groups) else "good images"
    needed = images_needed(false_reject_rate)
    if found < needed:
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:.4g} needs {needed} held-out {what}, found {found}: take "
            f"{needed - found} more first. {looser(false_reject_rate, found)}"
        )


def calibrate(
    image_scores: Sequence[float],
    map_maxima: Sequence[float],
    map_medians: Sequence[float],
    *,
    false_reject_rate: float,
    review_rate: float | None = None,
    groups: Sequence[int] | None = None,
    method: CalibrationMethod | None = None,
) -> Calibration:
    """Compute thresholds from the shipped detector's scores of held-out good images.

    Parameters
    ----------
    image_scores, map_maxima, map_medians : sequence of float, one per image
        Image score, largest and median value of the anomaly map.
    false_reject_rate : float
        Largest share of good parts to reject.
    review_rate : float, optional
        Largest share of good parts to send to review or reject; without it nothing is sent to review.
    groups : sequence of int, optional
        Group of each image, if some belong together.
    method : str, optional
        "cross_conformal" or "cross_validated" if the shipped detector has learnt the images, but each was scored as if
        it had not been learnt; by default they are held-out images.
    """
    review_rate = false_reject_rate if review_rate is None else review_rate
    check_review_rate(false_reject_rate, review_rate)
    grouped = dense(groups) if have_several(groups) else []

    def threshold(scores: Sequence[float], rate: float) -> float:
        return raised(conformal_threshold(scores, rate, grouped))

    order = np.argsort(image_scores, kind="stable")
    return Calibration(
        method=method or ("group_conformal" if grouped else "split_conformal"),
        false_reject_rate=false_reject_rate,
        review_rate=review_rate,
        reject=threshold(image_scores, false_reject_rate),
        review=threshold(image_scores, review_rate),
        map_threshold=threshold(map_maxima, false_reject_rate),
        map_typical=float(np.median(map_medians)),
        scores=[float(image_scores[i]) for i in order],
        groups=[grouped[i] for i in order] if grouped else [],
    )


def score_scale(scores: npt.ArrayLike, good_scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Scale for relative errors of scores: each score, or the interquartile range of good scores if that is larger.

    A score near 0 is not always small: scores of a discriminator are negative or positive.
    """
    spread = np.subtract(*np.percentile(good_scores, [75, 25])) if len(good_scores) else 0.0
    return np.maximum(np.abs(scores), max(spread, 1e-12))


def raised(threshold: float) -> float:
    """Raise a threshold by the margin for the rounding of other runtimes."""
    return threshold + MARGIN * abs(threshold)


def share_above(sorted_scores: Sequence[float], threshold: float, groups: Sequence[int] | None = None) -> float:
    """Estimate the false-reject rate of a threshold from scores of good parts that it was not derived from.

    The estimate is (1 + number of scores above) / (n + 1), the conformal p-value of a score just above the threshold.
    """
    if groups:
        return Ranking(sorted_scores, groups).share_above(threshold)
    above = len(sorted_scores) - bisect_right(sorted_scores, threshold)
    return (1 + above) / (len(sorted_scores) + 1)


def check_review_rate(false_reject_rate: float, review_rate: float | None) -> None:
    """Raise CalibrationError unless the review rate, which counts rejected parts too, fits the false-reject rate."""
    if review_rate is not None and not false_reject_rate <= review_rate < 1:
        raise CalibrationError(
            f"the review rate counts rejected parts too: it must lie between the false-reject rate "
            f"({false_reject_rate:.4g}) and 1, found {review_rate:.4g}"
        )
