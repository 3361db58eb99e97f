"""Operating points: for each limit, the share of good parts rejected and of known defects found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgead.calibration.conformal import conformal_threshold, images_needed, raised

# Rates offered to the user who chooses a limit, as far as the good images support them.
SHOWN_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Limit for a false-reject rate, with the number of good images `above` it and of defects `found`."""

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
    """Compute the limits for some rates, leaving out rates that the good images do not support.

    `good`: scores of good images that the detector had not learnt when it scored them.
    `groups`: group of each good image; empty if every image is a group of its own.
    `defects`: scores of known defects.
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


def defects_found(good: Sequence[float], groups: Sequence[int], defects: Sequence[float], chosen: float) -> str:
    """Say how many defects the limit of each rate finds, and of the `chosen` rate; parameters as above."""
    points = operating_points(good, groups, defects, sorted({*SHOWN_RATES, chosen}))
    counts = (f"{point.found} at {100 * point.rate:.3g} %{' (chosen)' * (point.rate == chosen)}" for point in points)
    return f"of {len(defects)} defects the limits for these false-reject rates find: {', '.join(counts)}"
