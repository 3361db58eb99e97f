"""Rectangles around the anomalous regions of a map, and its highest place."""

from __future__ import annotations

import cv2
import numpy as np

from edgead.types import Box

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")


def find_boxes(
    anomaly_map: np.ndarray,
    threshold: float,
    region: tuple[int, int, int, int],
    frame: tuple[int, ...] | None = None,
) -> tuple[Box, ...]:
    """Find the connected regions above the threshold, largest peak first.

    Parameters
    ----------
    anomaly_map : ndarray of shape (h, w), float32
    threshold : float
    region : (int, int, int, int)
        x, y, width and height of the part of the frame that the map covers.
    frame : tuple of int, optional
        Shape of the frame, (H, W) or (H, W, 3), for the `place` of each box.

    Examples
    --------
    >>> anomaly_map = np.array([[0, 0, 0], [0, 3, 2], [0, 0, 0]], np.float32)
    >>> find_boxes(anomaly_map, 1.0, (0, 0, 30, 30), (30, 30))
    (Box(x=10, y=10, width=20, height=10, peak=3.0, place='centre'),)
    """
    rows, columns = anomaly_map.shape
    mask = (anomaly_map > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    boxes = []
    for label in range(1, count):
        x, y, width, height = stats[label, :4].tolist()
        inside = labels[y : y + height, x : x + width] == label
        peak = float(anomaly_map[y : y + height, x : x + width][inside].max())
        # Outwards to whole pixels, so that the region never sticks out of its box; in whole numbers, so that the box
        # never sticks out of the frame.
        first_x, first_y = x * region[2] // columns, y * region[3] // rows
        wide = -(-(x + width) * region[2] // columns) - first_x
        tall = -(-(y + height) * region[3] // rows) - first_y
        left, top = region[0] + first_x, region[1] + first_y
        place = place_in((left + wide / 2, top + tall / 2), frame) if frame else ""
        boxes.append(Box(left, top, wide, tall, peak, place))
    return tuple(sorted(boxes, key=lambda box: -box.peak))


def place_in(point: tuple[float, float], frame: tuple[int, ...]) -> str:
    """Name the ninth of a frame of shape (H, W) or (H, W, 3) that a point (x, y) lies in.

    The grid is AnomalyGPT's (Gu et al., AAAI 2024): what lies on a line between two belongs to the upper or left one.

    >>> place_in((99, 5), (60, 100)), place_in((50, 30), (60, 100)), place_in((50, 59), (60, 100))
    ('top right', 'centre', 'bottom')
    """
    height, width = frame[:2]
    column, row = (
        sum(at > size * third / 3 for third in (1, 2)) for at, size in zip(point, (width, height), strict=True)
    )
    return PLACES[3 * row + column]


def highest_spot(anomaly_map: np.ndarray, region: tuple[int, int, int, int]) -> tuple[int, int]:
    """Find the pixel (x, y) of the frame where the map, which covers its `region`, is highest.

    >>> highest_spot(np.array([[0, 0], [0, 1]], np.float32), (0, 0, 40, 20))
    (30, 15)
    """
    row, column = np.unravel_index(int(np.argmax(anomaly_map)), anomaly_map.shape)
    x, y, width, height = region
    return x + int((column + 0.5) * width / anomaly_map.shape[1]), y + int((row + 0.5) * height / anomaly_map.shape[0])
