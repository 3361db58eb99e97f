"""Check of new thresholds, before they are written, for blind limits, which would pass defects.

A limit made from images of another product, or of defects, passes the defects that the model should stop, although the
false reject rate is right. So the images and the new limit are compared with the good parts of the old limit, in units
of the spread of their scores.

The factors below are bounds of chance, not fitted to images: if old and new scores have one distribution (normal,
Student's t of 3 degrees of freedom, Gumbel, exponential, or log-normal with sigma 0.3 or 0.6), at most 0.3 % of honest
sets of 4 to 40 exceed `FAR` with 20 to 240 old scores, and at most 2.1 % exceed `HIGHER` with 60 to 240, at rates of 5
% and more; with normal scores none. `python -m benchmarks blind` measures both on real parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.artifact.manifest import Calibration
from edgead.calibration.group_conformal import have_several
from edgead.errors import SettingsError
from edgead.metrics.robust import robust_deviation

# Largest rise of the median of new scores above that of the old ones, in deviations of the old ones. A group of images
# counts as one, by its median.
FAR = 3.0
# Largest rise of the new limit above the old one and all old scores, in the same unit.
HIGHER = 4.0
# Largest median of a map relative to that of good images: on the built-in line good parts under other lights, out of
# focus and in other batches lie below 1.7, six other products and random textures above 2.6.
OTHER_PRODUCT = 2.0
# More than this share of the images must have other proportions, or must be rejected.
MAX_REJECTED = 0.5

# Lower bound of the spread: nearly identical parts differ only by rounding.
_MIN_SPREAD = 1e-3


class BlindLimitError(SettingsError):
    """New thresholds with doubts that nobody has confirmed with a reason; the message lists the doubts.

    `by_hand`: the thresholds were set on the page or by the API, so the message suggests no images to remove.
    """

    def __init__(self, reasons: Sequence[str], *, by_hand: bool = False):
        found = "".join(f"\n  {reason}" for reason in reasons)
        from_images = (
            "leave out images that show defects or another product. Good parts that only look otherwise are learnt "
            "by `edgead teach`, with defects in --bad as the test. A limit as high as this one may pass defects: "
            'whoever takes it all the same says why with --reason "...", which the model keeps'
        )
        to_do = "If it is right all the same, give a reason." if by_hand else from_images
        super().__init__(f"the new limit may be blind:{found}\n{to_do}")


def doubts(
    before: Calibration,
    reject: float,
    scores: Sequence[float] = (),
    medians: Sequence[float] = (),
    groups: Sequence[int] = (),
    *,
    unlike: Sequence[str] = (),
) -> list[str]:
    """List the reasons why new thresholds may be blind; empty if there are none.

    `before`: calibration that the new one replaces. If it has no scores, only `unlike` is considered.
    `reject`: the new limit.
    `scores`, `medians`: image scores and medians of the maps of the images for the new limit; empty if it was set by
        hand.
    `groups`: group of each image, if some belong together.
    `unlike`: ways in which most of the images differ from the golden images; see `edgead.detector.golden_likeness`.
    """
    found = list(unlike)
    if not before.scores:
        return found
    if len(scores):
        found += _of_images(before, scores, medians, groups)
    if rise(before, reject) > HIGHER:
        found.append(
            f"the limit would rise from {before.reject:.4g} to {reject:.4g}, {rise(before, reject):.1f} "
            f"deviations above the old one and the highest of the good parts behind it, {before.scores[-1]:.4g}"
        )
    return found


def shift(before: Calibration, scores: Sequence[float], groups: Sequence[int] = ()) -> float:
    """Rise of the median of scores above the median of old scores, in deviations of the old scores."""
    usual = _by_group(before.scores, before.groups)
    return float(np.median(_by_group(scores, groups)) - np.median(usual)) / _spread(usual)


def rise(before: Calibration, reject: float) -> float:
    """Rise of the new limit above the old one and all old scores, in deviations of the old scores."""
    return (reject - max(before.reject, before.scores[-1])) / _spread(np.asarray(before.scores))


def _of_images(
    before: Calibration, of_images: Sequence[float], of_maps: Sequence[float], groups: Sequence[int]
) -> list[str]:
    found = []
    scores, medians = _by_group(of_images, groups), _by_group(of_maps, groups)
    what = "groups of images" if have_several(groups) else "images"
    rejected = int(np.count_nonzero(scores > before.reject))
    if rejected > MAX_REJECTED * len(scores):
        found.append(f"the old limit, {before.reject:.4g}, rejects {rejected} of the {len(scores)} {what}: defects?")
    usual, above = float(np.median(before.scores)), shift(before, of_images, groups)
    everywhere = float(np.median(medians)) / before.map_typical if usual > 0 and before.map_typical > 0 else 1.0
    if everywhere > OTHER_PRODUCT:
        found.append(f"all of them is {everywhere:.1f} times as far from what is good as usual: another product?")
    elif above > FAR:
        found.append(
            f"their median score, {np.median(scores):.4g}, lies {above:.1f} deviations above that of good parts, "
            f"{usual:.4g}: another product, light or camera, or defects?"
        )
    return found


def _by_group(values: Sequence[float], groups: Sequence[int]) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if not have_several(groups):
        return found
    members = np.asarray(groups)
    return np.array([np.median(found[members == group]) for group in np.unique(members)])


def _spread(scores: np.ndarray) -> float:
    """Spread of good scores: the larger of the robust and the plain standard deviation, with a floor."""
    floor = _MIN_SPREAD * abs(np.median(scores))
    return float(max(robust_deviation(scores), np.std(scores), floor, np.finfo(np.float32).tiny))
