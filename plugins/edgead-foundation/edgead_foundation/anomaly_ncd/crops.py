"""Square crops around the regions of an image, a little wider than the region; close crops are joined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from edgead_foundation.anomaly_ncd.regions import SearchRange

PADDING = 0.1
"""Extra width of a box around its region, as a share of the region's longer side."""
SMALLEST = 0.1
"""Least half of a box's side, as a share of the image's longer side."""
NEAR = 0.01
"""Boxes nearer than this share of the image's longer side become one."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, in pixels; it may reach beyond the image."""


@dataclass(frozen=True, slots=True)
class Crop:
    """Crop of an image with one region, or several neighbouring regions.

    `image` (ndarray of shape (h, w, 3), uint8, RGB): image, black where the box reaches beyond it.
    `mask` (ndarray of shape (h, w), uint8): 255 in a region, 0 elsewhere.
    `box`: see `Box`.
    `score`: highest anomaly score inside, scaled to about 0..1 over the set of images.
    """

    image: np.ndarray
    mask: np.ndarray
    box: Box
    score: float = 1.0

    @property
    def area(self) -> int:
        """Number of pixels in the regions."""
        return int(np.count_nonzero(self.mask))


def cut_crops(
    image: np.ndarray, mask: np.ndarray, count: int | None, anomaly_map: np.ndarray, found_in: SearchRange
) -> list[Crop]:
    """Cut an image into crops around the regions of its mask; the whole image if the mask is empty.

    `image`: ndarray of shape (h, w, 3), uint8, RGB.
    `mask`, `anomaly_map`: ndarray of shape (h', w'), uint8.
    `count`: number of regions from `main_elements`: the largest `count + 1` crops are kept; None keeps all.
    `found_in`: range by which the maps of the whole set are scaled, for the scores of the crops.
    Returns crops, the largest first.
    """
    height, width = image.shape[:2]
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    boxes = join_boxes(_boxes(mask), max(height, width))
    if count is not None:
        boxes = boxes[: count + 1]
    whole, marked = Image.fromarray(image), Image.fromarray(mask)
    # Bicubic, as in the authors' code, which may exceed 255 by a little.
    scores = Image.fromarray(found_in.stretch(anomaly_map).astype(np.float32)).resize((width, height))
    return [
        Crop(
            np.asarray(whole.crop(box)),
            np.asarray(marked.crop(box)),
            box,
            float(np.asarray(scores.crop(box)).max()) / 255,
        )
        for box in boxes
    ]


def join_boxes(boxes: list[Box], longest_side: int) -> list[Box]:
    """Join boxes that are close to each other into squares; return the largest first."""
    near = int(longest_side * NEAR)
    groups = list(dict.fromkeys(tuple(sorted({b for b in boxes if _distance(a, b) < near})) for a in boxes))
    kept = [group for group in groups if not any(set(group) < set(other) for other in groups)]
    joined = [_join(group) for group in kept]
    return sorted(joined, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), reverse=True)


def _boxes(mask: np.ndarray) -> list[Box]:
    height, width = mask.shape
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    regions = sorted((w * h, x, y, w, h) for x, y, w, h in map(cv2.boundingRect, contours))
    if not regions:
        return [(0, 0, width, height)]
    return [_square(region, height, width) for _, *region in regions]


def _square(region: list[int], height: int, width: int) -> Box:
    """Compute the square around a region, shifted into the image as far as possible."""
    x, y, w, h = region
    longest = max(height, width)
    radius = max(int(max(h, w) * (1 + PADDING) * 0.5), int(longest * SMALLEST))
    radius = min(radius, int(longest * 0.5))
    left, right = _inside(int((2 * x + w) * 0.5), radius, width)
    top, bottom = _inside(int((2 * y + h) * 0.5), radius, height)
    return left, top, right, bottom


def _inside(centre: int, radius: int, side: int) -> tuple[int, int]:
    if centre < radius:
        return 0, 2 * radius
    if centre + radius > side:
        return side - 2 * radius, side
    return centre - radius, centre + radius


def _distance(a: Box, b: Box) -> float:
    """Compute the distance of two boxes; -1 if they touch in both directions."""
    gaps = [abs(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 - (a[i + 2] - a[i] + b[i + 2] - b[i]) / 2 for i in (0, 1)]
    if max(gaps) < 0:
        return -1.0
    return math.hypot(*(max(gap, 0.0) for gap in gaps))


def _join(group: tuple[Box, ...]) -> Box:
    """Join boxes one by one into a square, whose shorter side is extended at both ends in each step."""
    left, top, right, bottom = group[0]
    for box in group[1:]:
        left, top, right, bottom = min(left, box[0]), min(top, box[1]), max(right, box[2]), max(bottom, box[3])
        wider = ((right - left) - (bottom - top)) / 2
        if wider > 0:
            top, bottom = top - wider, bottom + wider
        else:
            left, right = left + wider, right - wider
    return left, top, right, bottom
