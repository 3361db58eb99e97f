"""Operating points: what each limit rejects of good parts and finds of known defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgead.calibration.conformal import conformal_threshold, images_needed, raised

# Shown to whoever chooses a limit, as far as the good images support them.
SHOWN_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A limit for a false-reject rate: `above` of the good images have a higher score, and `found` of the defects."""

    rate: float
    limit: float
    above: int
    found: int


def operating_points(
    good: Sequence[float],
    groups: Sequence[int] = (),
    defects: Sequence[float] = (),
    rates: Sequence[float] = SHOWN_RATES,
) -> list[OperatingPoint]:
    """Find the limits for some rates; those that the good images do not support are left out.

    Parameters
    ----------
    good : sequence of float
        Scores of good images that were held out, or left out of what scored them.
    groups : sequence of int
        Group of each of them; empty where each is its own.
    defects : sequence of float
        Scores of known defects.
    rates : sequence of float
    """
    count = len(set(groups)) or len(good)
    points = []
    for rate in rates:
        if images_needed(rate) > count:
            continue
        limit = raised(conformal_threshold(good, rate, groups or None))
        points.append(
            OperatingPoint(rate, limit, sum(score > limit for score in good), sum(score > limit for score in defects))
        )
    return points
