"""Measures of focus, exposure and motion blur in an image, for the adjustment of lens and light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

ROWS, COLUMNS = 6, 8
# Grey level of 255 from which a pixel counts as saturated.
_SATURATED = 250


@dataclass(frozen=True, slots=True)
class Focus:
    """Focus (Pech-Pacheco et al., ICPR 2000), saturation and slopes of an image.

    All depend on the content: compare a cell only with itself, and slopes with a sharp image of the same scene.
    """

    sharpness: Annotated[
        tuple[float, ...], Field(description="Variance of the Laplacian of each cell, row by row: higher is sharper.")
    ]
    saturated: Annotated[float, Field(ge=0, le=1, description="Share of overexposed pixels, with the highest value.")]
    across: Annotated[
        float, Field(description="Mean squared slope from left to right: motion blur along it lowers only this.")
    ]
    down: Annotated[float, Field(description="Mean squared slope from top to bottom.")]


def measure_focus(image: np.ndarray) -> Focus:
    """Measure an image of shape (H, W, 3), uint8, BGR, of at least `ROWS` x `COLUMNS` pixels."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    bends = cv2.Laplacian(grey, cv2.CV_32F)
    cells = [cell for row in np.array_split(bends, ROWS) for cell in np.array_split(row, COLUMNS, axis=1)]
    saturated = float((image.max(axis=2) >= _SATURATED).mean())
    slopes = [cv2.Sobel(grey, cv2.CV_16S, *way) for way in ((1, 0), (0, 1))]
    across, down = (cv2.norm(one, cv2.NORM_L2SQR) / grey.size for one in slopes)
    return Focus(tuple(float(cell.var()) for cell in cells), saturated, across, down)
