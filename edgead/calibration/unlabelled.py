"""Thresholds from unlabelled parts, of which at most a stated share is defective.

Of n held-out parts as they come at most e n are defective, so at least m = n - floor(e n) are good. The k-th highest of
all n scores is at least the k-th highest of the good ones. When these and the score of the next good part are
exchangeable, it exceeds that with a probability of at most k / (m + 1). So the k-th highest of all keeps the rate a for
good parts with k = floor(a (m + 1)), whatever the scores of the defective ones: ours, from split conformal prediction
in one line. That is the threshold of `edgead.calibration.conformal` for the rate a (m + 1) / (n + 1). Where images come
in groups, n and m count groups, each wholly good or counted as defective.

Cost: thresholds are higher than those of good parts alone, so more defects pass. Conditions: the detector has not
learnt from these parts, and e is not too small. There is no statement about defects.
"""

from __future__ import annotations

import math

from edgead.calibration.conformal import CalibrationError, check_review_rate, good_at_least, images_needed, rounded_up
from edgead.calibration.plan import OFFERED_RATES


def plan_unlabelled(
    count: int, false_reject_rate: float | None, review_rate: float | None, most_defective: float, *, what: str
) -> tuple[int, float]:
    """Plan a calibration from unlabelled parts: hold out half of them, and choose the false-reject rate.

    Parameters
    ----------
    count : int
        Number of parts in all: images, or groups of them.
    false_reject_rate, review_rate : float, optional
        Rates of good parts; by default the strictest offered rate that is supported.
    most_defective : float
        Largest share of defective parts, from 0 to below 1.
    what : str
        Name of the counted things in messages.

    Raises
    ------
    CalibrationError
        The parts cannot support the rate; says how many are needed.
    """
    if not 0 <= most_defective < 1:
        raise CalibrationError(f"a share of defective parts is from 0 to below 1, found {most_defective}")
    held_out = count // 2
    good = good_at_least(held_out, most_defective)
    supported = next((rate for rate in OFFERED_RATES if images_needed(rate) <= good), None)
    rate = supported if false_reject_rate is None else false_reject_rate
    if rate is None or images_needed(rate) > good:
        needed = images_needed(OFFERED_RATES[-1] if rate is None else rate)
        enough = math.ceil(2 * needed / (1 - most_defective)) + 1
        instead = f", or ask for a rate of at least {rounded_up(1 / (good + 1))}" if rate is not None and good else ""
        raise CalibrationError(
            f"thresholds need {needed} {what} in the half that is held out; {count // 2} of which up to "
            f"{most_defective:.0%} are defective are sure to hold {good}: give {enough} in all{instead}"
        )
    check_review_rate(rate, review_rate)
    return held_out, rate
