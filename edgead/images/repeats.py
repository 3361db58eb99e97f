"""Detection of repeats: images equal to an earlier image but for noise, as the part was photographed before."""

from __future__ import annotations

import cv2
import numpy as np

# Two images of the same unmoved part differ only by noise, which averaging over a cell of the thumbnail removes.
THUMBNAIL_PX = 32
SAME_GREY_LEVELS = 2.0


class Repeats:
    """Memory of images by name, to find repeats, such as a new image of a part that still lies under the camera."""

    def __init__(self) -> None:
        self._seen: dict[str, np.ndarray] = {}

    def take(self, name: str, image: np.ndarray) -> str | None:
        """Remember an image, unless it repeats an earlier one, with no difference but noise.

        `image`: ndarray of shape (H, W, 3), uint8, BGR.
        Returns the name of the earlier image, if the new image repeats it; the new image is not remembered then.
        """
        size = (THUMBNAIL_PX, THUMBNAIL_PX)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        thumbnail = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for other, seen in self._seen.items():
            if np.abs(seen - thumbnail).max() <= SAME_GREY_LEVELS:
                return other
        self._seen[name] = thumbnail
        return None

    def forget(self, name: str) -> None:
        """Remove an image from the memory."""
        self._seen.pop(name, None)
