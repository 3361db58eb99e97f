"""Focus, exposure and blur by motion over an image, for whoever turns a lens or a lamp."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

ROWS, COLUMNS = 6, 8
# Of 255: above it a sensor gives no more than "bright".
_SATURATED = 250


@dataclass(frozen=True, slots=True)
class Focus:
    """What is measured of an image.

    Attributes
    ----------
    sharpness : tuple of float
        Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of `ROWS` x `COLUMNS` cells, row by row. It depends
        on what lies there: compare a cell with itself.
    saturated : float
        Share of the pixels with a channel at its end.
    across, down : float
        Mean squared slope from left to right, and from top to bottom, of the whole image. A lens that is out of focus
        takes of both alike, a part that moves during the exposure of that along its way alone. They depend on what lies
        there: compare with a sharp image of the same.
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
