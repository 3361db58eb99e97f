"""Registration of a part with a golden one by shift and small rotation, in images of reduced resolution."""

from __future__ import annotations

import cv2
import numpy as np

# Phase correlation finds shifts of any length, but only if the rotation is known to some degrees.
_TURNS_DEG = (-4.0, -2.0, 0.0, 2.0, 4.0)
_MAX_DEG = 8.0
_MAX_SHIFT = 0.3  # share of the longer side: after a larger shift too little of the part is in view
_MIN_CORRELATION = 0.5  # correlation below which the images have nothing in common to register
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-5)
_BLUR_PX = 3

STAYS = np.eye(2, 3)
"""Transform of a part that is already aligned with the golden one: the identity."""


class Placer:
    """Registration with one golden image.

    Phase correlation (Kuglin and Hines 1975) with turned golden images, then ECC (Evangelidis and Psarakis 2008).

    `golden` (ndarray of shape (h, w)): grey levels of the golden part.
    """

    def __init__(self, golden: np.ndarray):
        self._golden = np.ascontiguousarray(golden, np.float32)
        height, width = golden.shape
        self._window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        self._everywhere = np.full(golden.shape, 255, np.uint8)
        self._turned = []
        for degrees in _TURNS_DEG:
            turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
            turned = cv2.warpAffine(self._golden, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
            self._turned.append((cv2.invertAffineTransform(turn), turned))

    def find(self, part: np.ndarray) -> np.ndarray:
        """Return only the transform of `place`."""
        return self.place(part)[0]

    def place(self, part: np.ndarray) -> tuple[np.ndarray, float]:
        """Find the transform from a part to the golden one, and the correlation of the two after it.

        `part` (ndarray of shape (h, w)): grey levels, of the golden image's size.
        Returns transform, ndarray of shape (2, 3), float64: maps (x, y) of the part to the golden part, in pixels of
            these images. `STAYS` (identity) if nothing better is found, as on a surface without marks or for another
            object.
        And correlation of the transformed part with the golden one.
        """
        part = np.ascontiguousarray(part, np.float32)
        if not (part.std() and self._golden.std()):
            return STAYS, 0.0
        as_it_lies = _correlation(part, self._golden)
        try:
            correlation, found = cv2.findTransformECC(
                part, self._golden, self._coarse(part), cv2.MOTION_EUCLIDEAN, _STEPS, self._everywhere, _BLUR_PX
            )
        except cv2.error:  # it does not converge, or leaves the image
            return STAYS, as_it_lies
        if correlation > max(_MIN_CORRELATION, as_it_lies) and self._is_near(found):
            return found.astype(np.float64), float(correlation)
        return STAYS, as_it_lies

    def _coarse(self, part: np.ndarray) -> np.ndarray:
        """Find the rotation and shift that make the golden part most like this one, float32 (2, 3).

        The response of phase correlation cannot choose the rotation: it is as high two degrees off.
        """
        height, width = part.shape
        best, highest = STAYS, -1.0
        for back, turned in self._turned:
            # Copies: if no side needs padding for the transform, OpenCV multiplies the window into its arguments.
            shift, _ = cv2.phaseCorrelate(part.copy(), turned.copy(), self._window)
            placed = np.column_stack([back[:, :2], back[:, 2] + back[:, :2] @ shift])
            laid = cv2.warpAffine(
                self._golden,
                placed,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT,
            )
            alike = _correlation(part, laid)
            if alike > highest:
                best, highest = placed, alike
        return best.astype(np.float32)

    def _is_near(self, found: np.ndarray) -> bool:
        height, width = self._golden.shape
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = float(np.abs(found[:, :2] @ centre + found[:, 2] - centre).max())
        degrees = abs(float(np.degrees(np.arctan2(found[1, 0], found[0, 0]))))
        return shift <= _MAX_SHIFT * max(height, width) and degrees <= _MAX_DEG


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two grey images, blurred as ECC does; 0 if one has no contrast."""
    blurred = [cv2.GaussianBlur(image, (_BLUR_PX, _BLUR_PX), 0).ravel() for image in (first, second)]
    centred = [image - image.mean() for image in blurred]
    lengths = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(centred[0] @ centred[1]) / lengths if lengths else 0.0
