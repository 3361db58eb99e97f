"""Plan of a calibration: the rates that thresholds are set for, and the number of good images or groups to hold out."""

from __future__ import annotations

from edgead.calibration.conformal import CalibrationError, check_review_rate, images_needed, looser

# Default rates, from strict to loose: the first that the images support comfortably is taken. Stricter rates pass far
# more defects: see `docs/explanation/good-images.md`.
OFFERED_RATES = (0.05, 0.1, 0.2)
# With the first of them, parts up to this rate go to review. With few images, more would be too many to look at.
REVIEW_RATE = 0.1
# Number of good images above a default limit, so that one image alone does not move it far.
ABOVE = 2

IMAGES, GROUPS = "good images", "groups of good images"


def plan_calibration(
    count: int, false_reject_rate: float | None, review_rate: float | None = None, *, what: str = IMAGES
) -> tuple[int, float]:
    """Choose how many of the good images, or groups, to hold out, and the false-reject rate.

    A fifth is held out, more if the requested rate needs it, never more than half: the memory bank needs the rest.
    Without a requested rate, the strictest of `OFFERED_RATES` that a fifth supports, comfortably or not, is taken.

    `count`: number of groups of images, or of images if every image is its own group.
    `what`: name of the counted things in messages: `IMAGES` or `GROUPS`.
    Returns number to hold out and the false-reject rate.
    Raises CalibrationError: the images cannot support the rate; says how many are needed and found, and which rate is
        supported.
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
    """Choose the rates for thresholds from all good images, each scored by a detector that had not learnt it.

    `false_reject_rate`, `review_rate`: by default `strictest_rate`, and `REVIEW_RATE` if that is the first of
        `OFFERED_RATES`.
    `groups`: number of groups that the images form; by default every image is a group of its own.
    Returns the false-reject rate and the review rate.
    Raises CalibrationError: the images cannot support the rate, or the review rate does not fit.
    """
    count, what = counted(images, groups)
    rate = false_reject_rate
    if rate is None:
        rate = strictest_rate(images, groups)
        if review_rate is None and rate == OFFERED_RATES[0]:
            review_rate = REVIEW_RATE
    elif images_needed(rate) > count:
        raise CalibrationError(
            f"a false-reject rate of {rate:.4g} needs {images_needed(rate)} {what}, found {count}: take "
            f"{images_needed(rate) - count} more first. {looser(rate, count)}"
        )
    check_review_rate(rate, review_rate)
    return rate, rate if review_rate is None else review_rate


def comfortable(rate: float, images: int, groups: int | None = None) -> bool:
    """Whether at least `ABOVE` of the images, or groups, lie above the threshold for a rate."""
    count, _ = counted(images, groups)
    return images / count * (rate * (count + 1) - 1) >= ABOVE - 1e-9 if count else False


def strictest_rate(images: int, groups: int | None = None) -> float:
    """Choose the strictest of `OFFERED_RATES` that the images support comfortably, or else the last.

    Raises CalibrationError: the images do not support the last either; says how many are needed.
    """
    count, what = counted(images, groups)
    rate = next((rate for rate in OFFERED_RATES if comfortable(rate, images, groups)), OFFERED_RATES[-1])
    needed = images_needed(rate)
    if needed > count:
        raise CalibrationError(
            f"found {count} {what}, but at least {needed} are needed for a threshold: give {needed - count} more; "
            "with fewer than 20, a model misses many defects"
        )
    return rate


def counted(images: int, groups: int | None) -> tuple[int, str]:
    """Return the number of groups, or of images without groups, and the name of the counted things."""
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
        supported = f". {looser(false_reject_rate, count // 2)}" if count > 1 else ""
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:.4g} needs {needed} {what} held out of training, so "
            f"at least {2 * needed} in all, found {count}: take {2 * needed - count} more first{supported}"
        )
    return max(held_out, needed), false_reject_rate
