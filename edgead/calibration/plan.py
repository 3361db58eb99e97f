"""Operating point: the rates that thresholds are for, and how many good images, or groups of them, are held out."""

from __future__ import annotations

from edgead.calibration.conformal import CalibrationError, check_review_rate, images_needed, rounded_up

# Rates taken when none is asked for, the strictest that the images support comfortably first. Stricter ones pass far
# more defects: see `docs/explanation/good-images.md`.
OFFERED_RATES = (0.05, 0.1, 0.2)
# With the first of them, parts up to this rate go to review. With few images as many are rejected as anybody looks at.
REVIEW_RATE = 0.1
# So many good images lie above a limit that is taken without asking: what one image says does not move it far.
ABOVE = 2

IMAGES, GROUPS = "good images", "groups of good images"


def plan_calibration(
    count: int, false_reject_rate: float | None, review_rate: float | None = None, *, what: str = IMAGES
) -> tuple[int, float]:
    """Decide how many of the good images, or of their groups, to hold out, and for which rate.

    A fifth is held out, more when the asked rate needs it, never more than half: the memory bank needs the rest.
    Without an asked rate, the strictest of `OFFERED_RATES` that a fifth supports is taken, comfortably or not.

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


def choose_rates(
    images: int,
    false_reject_rate: float | None,
    review_rate: float | None,
    *,
    groups: int | None = None,
) -> tuple[float, float]:
    """Choose the rates of thresholds that are made from every good image, each scored by what had not learnt it.

    Parameters
    ----------
    images : int
    false_reject_rate, review_rate : float, optional
        By default `strictest_rate`, and `REVIEW_RATE` where that is the first of `OFFERED_RATES`.
    groups : int, optional
        That the images are in; by default each is its own.

    Returns
    -------
    (float, float)
        The false-reject rate and the review rate.

    Raises
    ------
    CalibrationError
        The images cannot support the rate, or the review rate does not fit.
    """
    count, what = _unit(images, groups)
    rate = false_reject_rate
    if rate is None:
        rate = strictest_rate(images, groups)
        if review_rate is None and rate == OFFERED_RATES[0]:
            review_rate = REVIEW_RATE
    elif images_needed(rate) > count:
        raise CalibrationError(
            f"a false-reject rate of {rate:.4g} needs {images_needed(rate)} {what}, found {count}: add "
            f"{images_needed(rate) - count} or ask for a rate of at least {rounded_up(1 / (count + 1))}"
        )
    check_review_rate(rate, review_rate)
    return rate, rate if review_rate is None else review_rate


def comfortable(rate: float, images: int, groups: int | None = None) -> bool:
    """Do `ABOVE` of so many images, in so many groups, lie above the threshold for a rate?"""
    count, _ = _unit(images, groups)
    return images / count * (rate * (count + 1) - 1) >= ABOVE - 1e-9 if count else False


def strictest_rate(images: int, groups: int | None = None) -> float:
    """The strictest of `OFFERED_RATES` that the images support comfortably, or else the last.

    Raises
    ------
    CalibrationError
        They do not support that either; says how many are needed.
    """
    count, what = _unit(images, groups)
    rate = next((rate for rate in OFFERED_RATES if comfortable(rate, images, groups)), OFFERED_RATES[-1])
    needed = images_needed(rate)
    if needed > count:
        raise CalibrationError(
            f"found {count} {what}, but at least {needed} are needed for a threshold: give {needed - count} more"
        )
    return rate


def _unit(images: int, groups: int | None) -> tuple[int, str]:
    """What is counted, and what it is called."""
    return (images, IMAGES) if groups is None or groups == images else (groups, GROUPS)


def _plan(count: int, false_reject_rate: float | None, what: str) -> tuple[int, float]:
    held_out = max(1, count // 5)
    if false_reject_rate is None:
        rate = next((rate for rate in OFFERED_RATES if images_needed(rate) <= held_out), None)
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
