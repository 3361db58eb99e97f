"""How many good images to hold out for thresholds, and for which rate; where images come in groups, how many groups."""

from __future__ import annotations

from collections.abc import Sequence

from edgead.calibration.conformal import CalibrationError, check_review_rate, images_needed, rounded_up
from edgead.calibration.extreme_value import FEWEST_SCORES, FURTHEST
from edgead.calibration.group_conformal import have_several

# Rates offered when none is asked for, the strictest that the images can support first.
OFFERED_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)

IMAGES, GROUPS = "good images", "groups of good images"


def plan_calibration(
    count: int, false_reject_rate: float | None, review_rate: float | None = None, *, what: str = IMAGES
) -> tuple[int, float]:
    """Decide how many of the good images, or of their groups, to hold out, and for which rate.

    A fifth is held out, more when the asked rate needs it, never more than half: the memory bank needs the rest.
    Without an asked rate, the strictest of `OFFERED_RATES` that a fifth supports is taken.

    Parameters
    ----------
    count : int
        Groups of images; images where each is its own group.
    false_reject_rate, review_rate : float, optional
    what : str
        What is counted, for messages: `IMAGES` or `GROUPS`.

    Returns
    -------
    (int, float)
        Number to hold out and the false-reject rate.

    Raises
    ------
    CalibrationError
        When they cannot support the rate; says how many are needed, were found, and which rate is supported.
    """
    held_out, rate = _plan(count, false_reject_rate, what)
    check_review_rate(rate, review_rate)
    return held_out, rate


def plan_cross_validation(
    count: int, folds: int, false_reject_rate: float | None, review_rate: float | None, *, what: str = IMAGES
) -> float:
    """Decide for which rate thresholds are made when every good image is scored, each by a model that has not seen it.

    `count` and `what` are those of `plan_calibration`; whole groups are dealt to the folds.

    Returns
    -------
    float
        The asked false-reject rate, or the strictest of `OFFERED_RATES` that the images support.

    Raises
    ------
    CalibrationError
        Too few images for the folds or the rate, or a review rate that does not fit.
    """
    if not 2 <= folds <= count:
        raise CalibrationError(f"{count} {what} can be split into 2 to {count} folds, found {folds}")
    rate = _strictest(count) if false_reject_rate is None else false_reject_rate
    if rate is None or images_needed(rate) > count:
        needed = images_needed(OFFERED_RATES[-1] if rate is None else rate)
        raise CalibrationError(f"found {count} {what}, but at least {needed} are needed for the threshold")
    check_review_rate(rate, review_rate)
    return rate


def check_recalibration(images: int, rate: float, extrapolate: bool, groups: Sequence[int]) -> None:
    """Raise CalibrationError where images, or the groups that they are in, do not support the rate."""
    several = have_several(groups)
    count = len(set(groups)) if several else images
    what = GROUPS if several else IMAGES
    needed = images_needed(rate)
    if count >= needed or (extrapolate and not several):
        return
    instead = f"ask for at least {rounded_up(1 / (count + 1))}" if count else "give images"
    if not several and images >= FEWEST_SCORES and rate >= 1 / (FURTHEST * (images + 1)):
        instead += ", or take --extrapolate, which fits the tail of the scores and guarantees nothing"
    elif several and extrapolate:
        instead += "; --extrapolate takes images that belong to no groups"
    raise CalibrationError(
        f"a false-reject rate of {rate:.4g} needs {needed} {what}, found {count}: add {needed - count}, {instead}"
    )


def strictest_rate(count: int, what: str = IMAGES) -> float:
    """The strictest of `OFFERED_RATES` that so many held-out images or groups support.

    Raises
    ------
    CalibrationError
        They support none; says how many are needed.
    """
    rate = _strictest(count)
    if rate is None:
        needed = images_needed(OFFERED_RATES[-1])
        raise CalibrationError(
            f"found {count} {what}, but at least {needed} are needed for a threshold: give {needed - count} more"
        )
    return rate


def _strictest(held_out: int) -> float | None:
    """The strictest of `OFFERED_RATES` that so many images or groups support."""
    return next((rate for rate in OFFERED_RATES if images_needed(rate) <= held_out), None)


def _plan(count: int, false_reject_rate: float | None, what: str) -> tuple[int, float]:
    held_out = max(1, count // 5)
    if false_reject_rate is None:
        rate = _strictest(held_out)
        if rate is not None:
            return held_out, rate
        needed = 5 * images_needed(OFFERED_RATES[-1])
        raise CalibrationError(f"found {count} {what}, but at least {needed} are needed to set a threshold")
    needed = images_needed(false_reject_rate)
    if needed > count // 2:
        supported = f" or ask for a rate of at least {rounded_up(1 / (count // 2 + 1))}" if count > 1 else ""
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:.4g} needs {needed} {what} held out of training, so "
            f"at least {2 * needed} in all, found {count}: add {2 * needed - count} {what}{supported}"
        )
    return max(held_out, needed), false_reject_rate
