"""Robust standard deviation, which a few outliers do not change much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Factor from the median absolute deviation of normal values to their standard deviation (Iglewicz and Hoaglin 1993,
# How to detect and handle outliers).
_OF_MEDIAN = 1.4826


def robust_deviation(values: npt.ArrayLike) -> float:
    """Estimate the standard deviation of values from their median absolute deviation; 0 if most are equal.

    Each caller has its own limit in these units, with its reason: scores with a gap between (`calibration.outliers`),
    logarithms over few images (`adapt.commission.collect`), or many pairs (`near_duplicates`).
    """
    found = np.asarray(values, np.float64)
    return float(_OF_MEDIAN * np.median(np.abs(found - np.median(found))))


def deviations_above(values: npt.ArrayLike) -> np.ndarray:
    """Compute the distance of each value above the median in robust deviations; float64, same shape."""
    found = np.asarray(values, np.float64)
    return (found - np.median(found)) / max(robust_deviation(found), 1e-6)
