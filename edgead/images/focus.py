"""Measures of focus, exposure and motion blur in an image, for the adjustment of lens and light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

ROWS, COLUMNS = 6, 8
# Grey level of 255 from which a pixel counts as saturated.
_SATURATED = 250


@dataclass(frozen=True, slots=True)
class Focus:
    """Focus, saturation and slopes of an image.

    Attributes
    ----------
    sharpness : tuple of float
        Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of `ROWS` x `COLUMNS` cells, row by row. It depends
        on the content: compare a cell only with itself.
    saturated : float
        Share of the pixels with a saturated channel.
    across, down : float
        Mean squared slope from left to right, and from top to bottom, of the whole image. A lens out of focus lowers
        both alike, a part that moves during the exposure only the one along its motion. They depend on the content:
        compare with a sharp image of the same scene.
    """

    sharpness: tuple[float, ...]
    saturated: float
    across: float
    down: float


def measure_focus(image: np.ndarray) -> Focus:
    """Measure an image of shape (H, W, 3), uint8, BGR, of at least `ROWS` x `COLUMNS` pixels."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    bends = cv2.Laplacian(grey, cv2.CV_32F)
    cells = [cell for row in np.array_split(bends, ROWS) for cell in np.array_split(row, COLUMNS, axis=1)]
    saturated = float((image.max(axis=2) >= _SATURATED).mean())
    slopes = [cv2.Sobel(grey, cv2.CV_16S, *way) for way in ((1, 0), (0, 1))]
    across, down = (cv2.norm(one, cv2.NORM_L2SQR) / grey.size for one in slopes)
    return Focus(tuple(float(cell.var()) for cell in cells), saturated, across, down)
