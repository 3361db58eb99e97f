"""Health of a camera, apart from that of the parts: too dark, too bright, blurred, moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from edgead.config import HealthSection
from edgead.types import Frame

_LONG_SIDE_PX = 512  # that pictures are measured at
_CHECKS = 5  # whose median counts: one part in an odd place is no moved camera
_LEAST_RESPONSE = 0.1  # of a registration, below which it found nothing


class HealthWatch:
    """Measures pictures against the golden images of the camera's models.

    Brightness is the mean grey level. Sharpness is the variance of the Laplacian over that of the grey levels, so that
    contrast does not count, relative to the median of the golden images. The shift against each golden image is found
    by phase correlation (Kuglin and Hines 1975), and the smallest counts. Where the golden images themselves lie
    further apart than `moved_above_px`, parts come as they like, and nothing is said of the camera's place.

    Parameters
    ----------
    golden : sequence of ndarray of shape (H, W, 3), uint8, BGR
        Without any, only brightness is judged.
    """

    def __init__(self, section: HealthSection, golden: Sequence[np.ndarray] = ()):
        self._section = section
        self._shape = golden[0].shape[:2] if golden else None
        self._golden = [_grey(image) for image in golden if image.shape[:2] == self._shape]
        self._sharpness = float(np.median([_sharpness(grey) for grey in self._golden])) if golden else 0.0
        self._measured: deque[tuple[float, float, float]] = deque(maxlen=_CHECKS)
        self._next_ns = 0
        self._lie_alike = self._lies_alike()

    def is_due(self, frame: Frame) -> bool:
        """Tell whether the next check is to be made with this frame."""
        return frame.captured_ns >= self._next_ns

    def check(self, frame: Frame) -> tuple[str, ...]:
        """Measure a frame; names what is wrong by the median of the last five checks.

        Returns
        -------
        tuple of str
            Of "dark", "bright", "blurred" and "moved".
        """
        self._next_ns = frame.captured_ns + int(self._section.every_s * 1e9)
        grey = _grey(frame.image)
        comparable = frame.image.shape[:2] == self._shape
        sharpness = _sharpness(grey) / self._sharpness if comparable and self._sharpness else np.inf
        moved_px = self._moved_px(grey, frame.image.shape) if comparable and self._lie_alike else 0.0
        self._measured.append((float(grey.mean()), sharpness, moved_px))
        brightness, sharpness, moved_px = np.median(np.array(self._measured), axis=0)
        section = self._section
        found = {
            "dark": brightness < section.dark_below,
            "bright": brightness > section.bright_above,
            "blurred": sharpness < section.blurred_below,
            "moved": moved_px > section.moved_above_px,
        }
        return tuple(name for name, wrong in found.items() if wrong)

    def _lies_alike(self) -> bool:
        if len(self._golden) < 2 or self._shape is None:
            return len(self._golden) == 1
        first, *others = self._golden
        scale = max(self._shape) / max(first.shape)
        shifts = [_shift_px(first, other) for other in others]
        return all(shift is not None and shift * scale <= self._section.moved_above_px for shift in shifts)

    def _moved_px(self, grey: np.ndarray, shape: tuple[int, ...]) -> float:
        """Distance to the golden image that lies nearest, in pixels of the picture; infinite where none is like it."""
        shifts = [shift for golden in self._golden if (shift := _shift_px(golden, grey)) is not None]
        return min(shifts) * max(shape[:2]) / max(grey.shape) if shifts else np.inf


def _grey(image: np.ndarray) -> np.ndarray:
    factor = min(1.0, _LONG_SIDE_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)


def _sharpness(grey: np.ndarray) -> float:
    spread = float(grey.var())
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()) / spread if spread > 0 else 0.0


def _shift_px(one: np.ndarray, other: np.ndarray) -> float | None:
    """Length of the shift between two pictures of one size; None where they have nothing in common."""
    window = cv2.createHanningWindow((one.shape[1], one.shape[0]), cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(one - one.mean(), other - other.mean(), window)
    return float(np.hypot(x, y)) if response > _LEAST_RESPONSE else None
