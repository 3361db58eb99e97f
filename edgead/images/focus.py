"""Focus and exposure over an image, place by place, for whoever turns a lens or a lamp."""

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
    """

    sharpness: tuple[float, ...]
    saturated: float


def measure_focus(image: np.ndarray) -> Focus:
    """Measure an image of shape (H, W, 3), uint8, BGR, of at least `ROWS` x `COLUMNS` pixels."""
    slopes = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
    cells = [cell for row in np.array_split(slopes, ROWS) for cell in np.array_split(row, COLUMNS, axis=1)]
    saturated = float((image.max(axis=2) >= _SATURATED).mean())
    return Focus(tuple(float(cell.var()) for cell in cells), saturated)
