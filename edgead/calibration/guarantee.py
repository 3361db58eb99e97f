"""Wording of a limit's guarantee, shared by all commands and pages that make a model."""

from __future__ import annotations

import numpy as np

from edgead.artifact.manifest import PROVEN, Calibration
from edgead.calibration.conformal import images_needed, rounded_up
from edgead.calibration.group_conformal import have_several

STRICT = 0.01
MORE = 1.5
"""Factor above the rate from which the share of rejected images is reported for a limit made from groups."""


def guarantee_of(calibration: Calibration) -> list[str]:
    """State how many good parts a limit will reject, how that is known, and the effect of grouped images.

    `calibration`: a calibration with scores.
    Returns sentences.
    """
    rate, images = calibration.false_reject_rate, len(calibration.scores)
    groups = len(set(calibration.groups)) if have_several(calibration.groups) else 0
    count, unit = (groups, "groups of images") if groups else (images, "images")
    proven = calibration.method in PROVEN
    how = " held out" if proven else ", each scored by what was learnt from the others"
    bound = "at most" if proven else "about"
    said = [f"About {one_in(rate)} will be rejected ({bound} {100 * rate:.3g} %, from {count} {unit}{how})."]
    if calibration.review < calibration.reject:
        said[0] += f" About {one_in(calibration.review_rate)} will be for review or rejected."
    if STRICT < rate and count < images_needed(STRICT):
        needed = images_needed(STRICT) * (2 if proven else 1)
        said[0] += f" For 1 in 100, train with {needed} good {unit} and --false-reject-rate {STRICT:g}."
    above = int(np.count_nonzero(np.asarray(calibration.scores) > calibration.reject))
    if groups and above > MORE * rate * images:
        said.append(
            f"By image it is more: {above} of {images} lie above the limit ({100 * above / images:.0f} %), in few "
            "groups."
        )
    if groups:
        said.append(
            f"The {images} images are {groups} groups, which support rates from {rounded_up(1 / (groups + 1))} on. "
            f"With --group none they would support {rounded_up(1 / (images + 1))}: right only where each image shows "
            "another part, for more good parts are rejected otherwise."
        )
    return said


def one_in(rate: float) -> str:
    """Format a rate as one good part in so many, or as a percentage if it is large."""
    return f"1 good part in {1 / rate:.0f}" if rate <= 0.4 else f"{100 * rate:.0f} of 100 good parts"
