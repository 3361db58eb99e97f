"""Robust checks of images of good parts over all of them: blur, and images unlike the rest."""

from __future__ import annotations

import cv2
import numpy as np

from edgead.metrics.robust import robust_deviation

# Deviations (from the median, in units that are one standard deviation for a normal distribution).
FAR = 6.0
# Images that are less than half as sharp as the others are blurred, however alike the others are.
MIN_SHARPNESS = 0.5


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of an image, uint8 BGR (H, W, 3) (Pech-Pacheco et al., ICPR 2000)."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())


def find_blurred(sharpnesses: list[float]) -> list[int]:
    """Report which images are far less sharp than the others."""
    values = np.log(np.maximum(sharpnesses, 1e-9))
    below = _deviations(-values) > FAR
    return np.flatnonzero(below & (values < np.median(values) + np.log(MIN_SHARPNESS))).tolist()


def find_odd(scores: np.ndarray) -> list[int]:
    """Report which scores are far above the others."""
    return np.flatnonzero(_deviations(np.log(np.maximum(scores, 1e-9))) > FAR).tolist()


def _deviations(values: np.ndarray) -> np.ndarray:
    """How far each value is above the median, in robust standard deviations."""
    return (values - np.median(values)) / max(robust_deviation(values), 1e-6)
