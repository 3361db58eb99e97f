"""Motion JPEG of the demo line's camera, in videos, in data sets and from `synthetic:` alike.

A detector that has seen only lossless images takes the coding of every frame for a defect.
"""

from __future__ import annotations

import cv2
import numpy as np

QUALITY = 95


def transmit(image: np.ndarray) -> np.ndarray:
    """Give an image, (H, W, 3) uint8 BGR, as it arrives: coded and decoded again."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
