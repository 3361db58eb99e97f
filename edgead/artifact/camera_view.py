"""Brightness, sharpness and position of a camera's images, relative to golden images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgead.artifact.manifest import CameraView

_SIDE_PX = 256  # longer side of an image when it is measured
_CELLS = 16  # cells along each side; brightness is compared cell by cell
_STEEPEST = 0.005  # share of the pixels that sharpness is taken from: edges of the outline, not texture


class ViewMeter:
    """Meter of brightness, sharpness and position, relative to golden images.

    Brightness is the median, over the cells of the image, of the ratio of grey levels: exposure and light change every
    cell, an odd part changes only the cells that show it. Sharpness is the steepest gradient relative to the contrast.
    Position is the centroid of the gradient's magnitude; it needs no registration and works for turned parts.

    `golden` (sequence of ndarray of shape (H, W, 3), uint8, BGR): golden images, at least one; images of another size
        than the first are ignored.
    """

    def __init__(self, golden: Sequence[np.ndarray]):
        self.shape = golden[0].shape[:2]
        greys = [_grey(image) for image in golden if image.shape[:2] == self.shape]
        self._cells = np.mean([_cells(grey) for grey in greys], axis=0)
        self._sharpness = float(np.mean([_sharpness(_gradient(grey), grey) for grey in greys])) or 1.0

    def measure(self, image: np.ndarray) -> CameraView | None:
        """Measure an image; None if its size differs from the golden images' or it has no gradient at all."""
        if image.shape[:2] != self.shape:
            return None
        grey = _grey(image)
        gradient = _gradient(grey)
        moments = cv2.moments(gradient)
        if not moments["m00"]:
            return None
        px = max(self.shape) / max(grey.shape)
        return CameraView(
            brightness=float(np.median(_cells(grey) / self._cells)),
            sharpness=_sharpness(gradient, grey) / self._sharpness,
            x_px=px * moments["m10"] / moments["m00"],
            y_px=px * moments["m01"] / moments["m00"],
        )


def _grey(image: np.ndarray) -> np.ndarray:
    factor = min(1.0, _SIDE_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return grey.astype(np.float32)


def _cells(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA) + np.float32(1)  # black is no divisor


def _gradient(grey: np.ndarray) -> np.ndarray:
    return cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def _sharpness(gradient: np.ndarray, grey: np.ndarray) -> float:
    place = int(gradient.size * (1 - _STEEPEST))
    spread = float(grey.std())
    return float(np.partition(gradient, place, axis=None)[place]) / spread if spread > 0 else 0.0
