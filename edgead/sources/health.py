"""Health of a camera, apart from that of the parts: too dark, too bright, blurred, moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from edgead.components.options import Seconds, Section
from edgead.sources.registration import Place
from edgead.types import Frame

_LONG_SIDE_PX = 512  # that images are measured at
_CHECKS = 5  # whose median counts: one odd image is no odd camera


class HealthSection(Section):
    """When a camera's images are no longer those that it was commissioned with."""

    dark_below: Annotated[float, Field(ge=0, le=255, description="Mean grey level below which images are dark.")] = 10.0
    bright_above: Annotated[
        float, Field(ge=0, le=255, description="Mean grey level above which images are too bright.")
    ] = 245.0
    blurred_below: Annotated[float, Field(ge=0, le=1, description="Sharpness relative to the golden images.")] = 0.3
    moved_above_px: Annotated[
        float,
        Field(
            gt=0,
            le=100_000,
            description="Shift against the golden images, in pixels of the frame, above which the camera has moved.",
        ),
    ] = 8.0
    every_s: Annotated[Seconds, Field(description="Time between two checks.")] = 1.0


class HealthWatch:
    """Measures images against the golden images of the camera's models.

    Brightness is the mean grey level. Sharpness is the variance of the Laplacian over that of the grey levels, so that
    contrast does not count, relative to the median of the golden images. For the place see `Place`.

    Parameters
    ----------
    golden : sequence of ndarray of shape (H, W, 3), uint8, BGR
        Without any, only brightness is judged.
    """

    def __init__(self, section: HealthSection, golden: Sequence[np.ndarray] = ()):
        self._section = section
        self._shape = golden[0].shape[:2] if golden else None
        greys = [_grey(image) for image in golden if image.shape[:2] == self._shape]
        self._sharpness = float(np.median([_sharpness(grey) for grey in greys])) if greys else 0.0
        self._place = Place(greys, max(self._shape) / max(greys[0].shape)) if self._shape else None
        self._measured: deque[tuple[float, float]] = deque(maxlen=_CHECKS)
        self._next_ns = 0

    def is_due(self, frame: Frame) -> bool:
        """Report whether the next check is to be made with this frame."""
        return frame.captured_ns >= self._next_ns

    def check(self, frame: Frame) -> tuple[str, ...]:
        """Measure a frame; names what is wrong by the median of the last checks.

        Returns
        -------
        tuple of str
            Of "dark", "bright", "blurred" and "moved".
        """
        self._next_ns = frame.captured_ns + int(self._section.every_s * 1e9)
        grey = _grey(frame.image)
        comparable = frame.image.shape[:2] == self._shape
        sharpness = _sharpness(grey) / self._sharpness if comparable and self._sharpness else np.inf
        self._measured.append((float(grey.mean()), sharpness))
        if self._place is not None and comparable:
            self._place.look(grey)
        brightness, sharpness = np.median(np.array(self._measured), axis=0)
        section = self._section
        found = {
            "dark": brightness < section.dark_below,
            "bright": brightness > section.bright_above,
            "blurred": sharpness < section.blurred_below,
            "moved": self._place is not None and self._place.has_moved(section.moved_above_px),
        }
        return tuple(name for name, wrong in found.items() if wrong)


def _grey(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    factor = _LONG_SIDE_PX / max(grey.shape)
    if factor >= 1:
        return grey
    size = max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _sharpness(grey: np.ndarray) -> float:
    spread, edges = (float(cv2.meanStdDev(image)[1][0, 0]) for image in (grey, cv2.Laplacian(grey, cv2.CV_16S)))
    return (edges / spread) ** 2 if spread > 0 else 0.0
