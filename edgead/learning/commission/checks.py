"""Is an image of a good part fit to learn from? Robust measures over all images: blur, duplicates, odd ones out."""

from __future__ import annotations

import cv2
import numpy as np

# The same part photographed twice differs by noise alone, which the mean over a cell of the thumbnail takes away.
THUMBNAIL_PX = 32
SAME_GREY_LEVELS = 2.0
# Deviations (from the median, in units that are one standard deviation for a normal distribution).
FAR = 6.0
# Images that are less than half as sharp as the others are blurred, however alike the others are.
LEAST_SHARPNESS = 0.5


class Duplicates:
    """Remembers images and reports when one comes again: a part that still lies under the camera."""

    def __init__(self) -> None:
        self._seen = np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX), np.float32)

    def is_new(self, image: np.ndarray) -> bool:
        """Report whether an image, uint8 BGR (H, W, 3), differs from all before it by more than noise; remember it."""
        size = (THUMBNAIL_PX, THUMBNAIL_PX)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        thumbnail = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        if (np.abs(self._seen - thumbnail).max(axis=(1, 2), initial=0) <= SAME_GREY_LEVELS).any():
            return False
        self._seen = np.concatenate([self._seen, thumbnail[None]])
        return True


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of an image, uint8 BGR (H, W, 3) (Pech-Pacheco et al., ICPR 2000)."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())


def find_blurred(sharpnesses: list[float]) -> list[int]:
    """Report which images are far less sharp than the others."""
    values = np.log(np.maximum(sharpnesses, 1e-9))
    below = _deviations(-values) > FAR
    return np.flatnonzero(below & (values < np.median(values) + np.log(LEAST_SHARPNESS))).tolist()


def find_odd(scores: np.ndarray) -> list[int]:
    """Report which scores are far above the others."""
    return np.flatnonzero(_deviations(np.log(np.maximum(scores, 1e-9))) > FAR).tolist()


def _deviations(values: np.ndarray) -> np.ndarray:
    """How far each value is above the median, in robust standard deviations (1.4826 x MAD)."""
    middle = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - middle))
    return (values - middle) / max(deviation, 1e-6)
