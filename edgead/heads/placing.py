"""Placement of a part beside a golden one: shift and small rotation, found in images of a few pixels' grain."""

from __future__ import annotations

import cv2
import numpy as np

# Phase correlation finds shifts of any length, but only where the rotation is known to some degrees.
_TURNS_DEG = (-4.0, -2.0, 0.0, 2.0, 4.0)
_MAX_DEG = 8.0
_MAX_SHIFT = 0.3  # of the longer side: what lies farther shows too little of the part
_MIN_CORRELATION = 0.5  # parts that are less alike than this have nothing that would lie anywhere
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-5)
_BLUR_PX = 3

STAYS = np.eye(2, 3)
"""The transform of a part that lies where the golden one does."""


class Placer:
    """Finds the golden places of a part.

    Phase correlation (Kuglin and Hines 1975) with turned golden images, then ECC (Evangelidis and Psarakis 2008).

    Parameters
    ----------
    golden : ndarray of shape (h, w)
        Grey levels of the golden part.
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
        """The transform of `place`."""
        return self.place(part)[0]

    def place(self, part: np.ndarray) -> tuple[np.ndarray, float]:
        """Find how a part lies, and how alike it is to the golden one then.

        Parameters
        ----------
        part : ndarray of shape (h, w)
            Grey levels, of the golden image's size.

        Returns
        -------
        ndarray of shape (2, 3), float64
            Takes a place (x, y) of the part to the golden place, in pixels of these images. `STAYS` where nothing
            better is found: on a surface without marks, or of something else.
        float
            Correlation of the part, laid there, with the golden one.
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
        """The turn and its shift that make the golden part most like this one, float32 (2, 3).

        The response of phase correlation does not tell turns apart: it is as high two degrees off.
        """
        height, width = part.shape
        best, highest = STAYS, -1.0
        for back, turned in self._turned:
            # Copies: where no side needs padding for the transform, OpenCV multiplies the window into what it is given.
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
    """Of grey levels, blurred as ECC sees them; 0 where one has no contrast."""
    blurred = [cv2.GaussianBlur(image, (_BLUR_PX, _BLUR_PX), 0).ravel() for image in (first, second)]
    centred = [image - image.mean() for image in blurred]
    lengths = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(centred[0] @ centred[1]) / lengths if lengths else 0.0
