"""Health of a camera's images, independent of the parts: too dark, too bright, blurred, moved.

A camera has moved if its view is shifted against the golden images of its models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from edgead.components.options import Seconds, Section
from edgead.types import COLOUR, VALUES, Frame

_REGISTERED_SIDE_PX = 192  # small enough to remove noise and fine grain, which differs between parts
_MIN_RESPONSE = 0.2  # least response of a registration; below it the image shows something else than the golden one
_MAX_GOLDEN = 3
_PLACE_CHECKS, _MIN_CHECKS = 9, 5
_LONG_SIDE_PX = 512  # longer side of images when they are measured
_CHECKS = 5  # number of checks whose median counts, so that one odd image is no fault of the camera


class ShiftMonitor:
    """Monitor of the shift of a camera's images against golden images.

    Each image is registered with each golden image by phase correlation (Kuglin and Hines 1975) of edge strengths,
    which depend less on light than grey levels do. As parts do not all lie in the same place, the shift of an image is
    the median over the golden images, and the median over the last nine images is used. The camera has moved if this
    median exceeds the limit by more than twice the spread of the golden images. An image that cannot be registered,
    such as of an empty conveyor, does not count.

    `golden` (sequence of ndarray of shape (h, w), uint8): golden images, at least one, all of one size.
    `scale`: pixels of the camera per pixel of the golden images.
    """

    def __init__(self, golden: Sequence[np.ndarray], scale: float):
        self._golden = [_edges(grey) for grey in golden[:_MAX_GOLDEN]]
        height, width = self._golden[0].shape
        self._scale = scale * max(golden[0].shape) / max(height, width)
        self._window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        self._shifts_px: deque[np.ndarray] = deque(maxlen=_PLACE_CHECKS)
        places = [place for edges in self._golden if (place := self._shift_px(edges)) is not None]
        self._apart_px = float(np.mean([np.hypot(*place) for place in places]))

    def look(self, grey: np.ndarray) -> None:
        """Register an image that has the size of the golden images."""
        shift_px = self._shift_px(_edges(grey))
        if shift_px is not None:
            self._shifts_px.append(shift_px)

    def has_moved(self, above_px: float) -> bool:
        """Whether the last images are shifted by more than a limit."""
        if len(self._shifts_px) < _MIN_CHECKS:
            return False
        return float(np.hypot(*np.median(self._shifts_px, axis=0))) > above_px + 2 * self._apart_px

    def _shift_px(self, edges: np.ndarray) -> np.ndarray | None:
        """Compute the median shift (x, y) against the golden images that can be registered; None if none can."""
        # Copies: if no side needs padding for the transform, OpenCV multiplies the window into its arguments.
        found = [cv2.phaseCorrelate(golden.copy(), edges.copy(), self._window) for golden in self._golden]
        shifts = [shift for shift, response in found if response > _MIN_RESPONSE]
        return np.median(shifts, axis=0) * self._scale if shifts else None


def _edges(grey: np.ndarray) -> np.ndarray:
    factor = _REGISTERED_SIDE_PX / max(grey.shape)
    size = max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), 1)
    edges = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return edges - edges.mean()


class HealthSection(Section):
    """Limits from which a camera's images no longer resemble the images that its model was made with."""

    dark_below: Annotated[float, Field(ge=0, le=255, description="Mean grey level below which images are dark.")] = 10.0
    bright_above: Annotated[
        float, Field(ge=0, le=255, description="Mean grey level above which images are too bright.")
    ] = 245.0
    blurred_below: Annotated[float, Field(ge=0, le=1, description="Least sharpness relative to golden images.")] = 0.3
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
    """Monitor of brightness, sharpness and place, relative to the golden images of the camera's models.

    Brightness is the mean grey level. Sharpness is the variance of the Laplacian divided by the variance of the grey
    levels (so that contrast cancels), relative to the median of the golden images. For the place see `ShiftMonitor`.

    `golden` (sequence of ndarray of shape (H, W, 3), uint8, BGR): golden images; without any, only brightness is
        judged.
    """

    def __init__(self, section: HealthSection, golden: Sequence[np.ndarray] = ()):
        self._section = section
        self._shape = golden[0].shape[:2] if golden else None
        greys = [_grey(image) for image in golden if image.shape[:2] == self._shape]
        self._sharpness = float(np.median([_sharpness(grey) for grey in greys])) if greys else 0.0
        self._place = ShiftMonitor(greys, max(self._shape) / max(greys[0].shape)) if self._shape else None
        self._measured: deque[tuple[float, float]] = deque(maxlen=_CHECKS)
        self._next_ns = 0

    def is_due(self, frame: Frame) -> bool:
        """Whether the next check is due with this frame."""
        return frame.captured_ns >= self._next_ns

    def check(self, frame: Frame) -> tuple[str, ...]:
        """Measure a frame; return the faults that the median of the last checks shows.

        Returns some of "dark", "bright", "blurred" and "moved".
        """
        self._next_ns = frame.captured_ns + int(self._section.every_s * 1e9)
        grey = _grey(frame.image)
        comparable = frame.image.shape[:2] == self._shape
        sharpness = _sharpness(grey) / self._sharpness if comparable and self._sharpness else np.inf
        # Values rarely use the full 16 bits, so their brightness means nothing; colours beside heights have 8 bits.
        level = float(grey.mean()) if VALUES not in frame.others or COLOUR in frame.others else np.nan
        self._measured.append((level, sharpness))
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
