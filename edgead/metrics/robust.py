"""Robust spread: a standard deviation that a few values far away do not move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Of the median absolute deviation of normal values, to their standard deviation (Iglewicz and Hoaglin 1993, How to
# detect and handle outliers).
_OF_MEDIAN = 1.4826


def robust_deviation(values: npt.ArrayLike) -> float:
    """Median absolute deviation of values, as a standard deviation of normal ones; 0 where most are equal.

    How many of these is far differs with what is compared, and each caller says why: scores with a gap between
    (`calibration.outliers`), logarithms over few images (`adapt.commission.collect`), or pairs of many
    (`near_duplicates`).
    """
    found = np.asarray(values, np.float64)
    return float(_OF_MEDIAN * np.median(np.abs(found - np.median(found))))


def deviations_above(values: npt.ArrayLike) -> np.ndarray:
    """Distance of each value above the median, in robust deviations; float64, of the shape of the values."""
    found = np.asarray(values, np.float64)
    return (found - np.median(found)) / max(robust_deviation(found), 1e-6)
