"""Registration of a camera's view against the images that it was commissioned with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

_LONG_SIDE_PX = 192  # fine grain, which differs from part to part, and noise are gone at this size
_MIN_RESPONSE = 0.2  # of a registration; what has less shows something else than the golden image
_MAX_GOLDEN = 3
_CHECKS, _MIN_CHECKS = 9, 5


class Place:
    """Watches the shift of a camera's images against golden images.

    Each image is registered with each golden image by phase correlation (Kuglin and Hines 1975) of the strength of
    their edges, which light moves less than grey levels. Parts do not all lie in the same place: the median over the
    golden images counts, of that the median over the last nine images, and the camera has moved where that exceeds
    the limit by more than twice what the golden images lie apart. An image in which nothing of the golden images is
    found, as of an empty conveyor, says nothing.

    Parameters
    ----------
    golden : sequence of ndarray of shape (h, w), uint8
        Of one size; at least one.
    scale : float
        Pixels of the camera for one of theirs.
    """

    def __init__(self, golden: Sequence[np.ndarray], scale: float):
        self._golden = [_edges(grey) for grey in golden[:_MAX_GOLDEN]]
        height, width = self._golden[0].shape
        self._scale = scale * max(golden[0].shape) / max(height, width)
        self._window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        self._shifts_px: deque[np.ndarray] = deque(maxlen=_CHECKS)
        places = [place for edges in self._golden if (place := self._shift_px(edges)) is not None]
        self._apart_px = float(np.mean([np.hypot(*place) for place in places]))

    def look(self, grey: np.ndarray) -> None:
        """Register an image of the size of the golden images."""
        shift_px = self._shift_px(_edges(grey))
        if shift_px is not None:
            self._shifts_px.append(shift_px)

    def has_moved(self, above_px: float) -> bool:
        """Report whether the last images are shifted by more than a limit."""
        if len(self._shifts_px) < _MIN_CHECKS:
            return False
        return float(np.hypot(*np.median(self._shifts_px, axis=0))) > above_px + 2 * self._apart_px

    def _shift_px(self, edges: np.ndarray) -> np.ndarray | None:
        """The median shift (x, y) against the golden images that are found in an image; None for none."""
        # Copies: where no side needs padding for the transform, OpenCV multiplies the window into what it is given.
        found = [cv2.phaseCorrelate(golden.copy(), edges.copy(), self._window) for golden in self._golden]
        shifts = [shift for shift, response in found if response > _MIN_RESPONSE]
        return np.median(shifts, axis=0) * self._scale if shifts else None


def _edges(grey: np.ndarray) -> np.ndarray:
    factor = _LONG_SIDE_PX / max(grey.shape)
    size = max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), 1)
    edges = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return edges - edges.mean()
