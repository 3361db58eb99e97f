"""Sizes of boxes in mm, if the pixel size is known, and in height maps the lowest and highest point of each."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edgead.artifact.inputs import Preprocessing
from edgead.artifact.preprocess import cut
from edgead.artifact.relief import heights_of
from edgead.images.files import is_pair
from edgead.images.pairs import heights_in
from edgead.types import Box

# Single pixels of a height camera can be far off: a median filter of this width comes first.
_MEDIAN_PX = 5


def in_mm(boxes: tuple[Box, ...], image: np.ndarray, spec: Preprocessing) -> tuple[Box, ...]:
    """Add sizes in mm to boxes, as far as the model's settings allow.

    `boxes`: boxes in pixels of the frame.
    `image` (ndarray of shape (H, W) or (H, W, 3), or a pair): the frame that was judged.
    """
    if not boxes or (spec.mm_per_pixel is None and spec.relief is None):
        return boxes
    if (side := spec.mm_per_pixel) is not None:
        boxes = tuple(replace(box, width_mm=box.width * side, height_mm=box.height * side) for box in boxes)
    if spec.relief is None:
        return boxes
    left, top, _, _ = spec.region(image.shape)
    heights = heights_in(image) if is_pair(image) else image
    mm, known = heights_of(cut(heights, spec.roi), spec.relief)
    mm = cv2.medianBlur(mm, _MEDIAN_PX)
    found = []
    for box in boxes:
        inside = np.s_[box.y - top : box.y - top + box.height, box.x - left : box.x - left + box.width]
        those = mm[inside][known[inside] > 0]
        lowest, highest = (float(those.min()), float(those.max())) if len(those) else (None, None)
        found.append(replace(box, lowest_mm=lowest, highest_mm=highest))
    return tuple(found)
