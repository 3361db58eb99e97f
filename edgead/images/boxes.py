"""Rectangles around the anomalous regions of a map, and its highest place."""

from __future__ import annotations

import cv2
import numpy as np

from edgead.types import Box


def find_boxes(anomaly_map: np.ndarray, threshold: float, region: tuple[int, int, int, int]) -> tuple[Box, ...]:
    """Find the connected regions above the threshold, largest peak first.

    Parameters
    ----------
    anomaly_map : ndarray of shape (h, w), float32
    threshold : float
    region : (int, int, int, int)
        x, y, width and height of the part of the frame that the map covers.

    Examples
    --------
    >>> anomaly_map = np.array([[0, 0, 0], [0, 3, 2], [0, 0, 0]], np.float32)
    >>> find_boxes(anomaly_map, 1.0, (0, 0, 30, 30))
    (Box(x=10, y=10, width=20, height=10, peak=3.0),)
    """
    scale = np.array([region[2] / anomaly_map.shape[1], region[3] / anomaly_map.shape[0]])
    mask = (anomaly_map > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    boxes = []
    for label in range(1, count):
        x, y, width, height = stats[label, :4]
        inside = labels[y : y + height, x : x + width] == label
        peak = float(anomaly_map[y : y + height, x : x + width][inside].max())
        # Outwards to whole pixels of the frame, so that the region never sticks out of its box.
        low = np.floor(np.array([x, y]) * scale).astype(int)
        high = np.ceil(np.array([x + width, y + height]) * scale).astype(int)
        size = high - low
        boxes.append(Box(int(region[0] + low[0]), int(region[1] + low[1]), int(size[0]), int(size[1]), peak))
    return tuple(sorted(boxes, key=lambda box: -box.peak))


def highest_spot(anomaly_map: np.ndarray, region: tuple[int, int, int, int]) -> tuple[int, int]:
    """Find the pixel (x, y) of the frame where the map, which covers its `region`, is highest.

    >>> highest_spot(np.array([[0, 0], [0, 1]], np.float32), (0, 0, 40, 20))
    (30, 15)
    """
    row, column = np.unravel_index(int(np.argmax(anomaly_map)), anomaly_map.shape)
    x, y, width, height = region
    return x + int((column + 0.5) * width / anomaly_map.shape[1]), y + int((row + 0.5) * height / anomaly_map.shape[0])
