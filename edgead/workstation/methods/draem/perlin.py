"""Perlin noise, and DRAEM's masks from it by a threshold."""

from __future__ import annotations

import cv2
import numpy as np

# From the authors' code; the paper samples the threshold too but states no range.
THRESHOLD = 0.5
LARGEST_EXPONENT = 5  # cells along an axis: 1, 2, 4, ... 32
ROTATION_DEG = 90.0


def perlin_noise(shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw gradient noise (Perlin 2002: fade 6 t^5 - 15 t^4 + 10 t^3).

    `shape`: height and width in pixels.
    `cells`: cells of the lattice along both axes; a corner has a unit gradient in a random direction.
    Returns ndarray of shape (h, w), float32: noise from -1 to 1, and 0 at the corners of the cells.
    """
    angle = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    slope_y, slope_x = np.cos(angle), np.sin(angle)
    y, x = (np.arange(side, dtype=np.float32) * (count / side) for side, count in zip(shape, cells, strict=True))
    row, column = (np.minimum(at.astype(np.intp), count - 1) for at, count in zip((y, x), cells, strict=True))
    y, x = (y - row.astype(np.float32))[:, None], (x - column.astype(np.float32))[None, :]

    def ramp(down: int, right: int) -> np.ndarray:
        corner = np.ix_(row + down, column + right)
        return slope_y[corner] * (y - down) + slope_x[corner] * (x - right)

    fade_y, fade_x = _fade(y), _fade(x)
    left = ramp(0, 0) + fade_y * (ramp(1, 0) - ramp(0, 0))
    right = ramp(0, 1) + fade_y * (ramp(1, 1) - ramp(0, 1))
    return np.sqrt(np.float32(2)) * (left + fade_x * (right - left))


def perlin_mask(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw the mask of an anomaly (section 3.3): noise with random cells, rotated at random and cut at a threshold.

    Returns ndarray of shape (h, w), bool: mask, which may be empty.
    """
    rows, columns = 2 ** rng.integers(0, LARGEST_EXPONENT + 1, 2)
    noise = perlin_noise(shape, (int(rows), int(columns)), rng)
    return rotate(noise, rng.uniform(-ROTATION_DEG, ROTATION_DEG), cv2.BORDER_CONSTANT) > THRESHOLD


def rotate(image: np.ndarray, degrees: float, border: int) -> np.ndarray:
    """Rotate an image about its middle; `border` is OpenCV's rule to fill the corners."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _fade(t: np.ndarray) -> np.ndarray:
    return t * t * t * (t * (t * 6 - 15) + 10)
