"""Boxes around the anomalous regions of a map, the map's highest pixel, and densities of boxes on a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from edgead.types import Box

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
_COLUMNS = 64
_PLACES = 8


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
        x, y, width and height of the region of the frame that the map covers.
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
        # Rounded outwards to whole pixels, so that the box contains the region; computed in integers, so that the frame
        # contains the box.
        first_x, first_y = x * region[2] // columns, y * region[3] // rows
        wide = -(-(x + width) * region[2] // columns) - first_x
        tall = -(-(y + height) * region[3] // rows) - first_y
        left, top = region[0] + first_x, region[1] + first_y
        place = place_in((left + wide / 2, top + tall / 2), frame) if frame else ""
        boxes.append(Box(left, top, wide, tall, peak, place))
    return tuple(sorted(boxes, key=lambda box: -box.peak))


def place_in(point: tuple[float, float], frame: tuple[int, ...]) -> str:
    """Name the ninth of a frame of shape (H, W) or (H, W, 3) that a point (x, y) lies in.

    The grid is AnomalyGPT's (Gu et al., AAAI 2024): a point on a line belongs to the upper or left ninth.

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


def box_density(boxes: Iterable[Mapping[str, int]], size: tuple[int, int]) -> np.ndarray:
    """Count the boxes over each cell of a grid.

    `boxes`: x, y, width and height in pixels; what lies outside of the image is ignored.
    `size`: width and height of the image in pixels.
    Returns ndarray of shape (rows, 64), int64: number of boxes that touch each cell; cells are as square as whole
        numbers allow.
    """
    width, height = size
    rows = max(1, round(_COLUMNS * height / width))
    corners = [(box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in boxes]
    scaled = np.array(corners, np.float64).reshape(-1, 4) * np.tile([_COLUMNS / width, rows / height], 2)
    left, top = np.clip(np.floor(scaled[:, :2]), 0, (_COLUMNS, rows)).astype(int).T
    right, bottom = np.clip(np.ceil(scaled[:, 2:]), 0, (_COLUMNS, rows)).astype(int).T
    # Each box adds 1 at its first corner and cancels it behind the others: cumulated sums along both axes fill it.
    steps = np.zeros((rows + 1, _COLUMNS + 1), np.int64)
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(steps, (y, x), sign)
    return steps.cumsum(axis=0).cumsum(axis=1)[:rows, :_COLUMNS]


def box_places(boxes: Iterable[Mapping[str, int]], size: tuple[int, int]) -> dict[str, int]:
    """Count boxes by the place of their centre, most frequent first.

    `boxes`: boxes as for `box_density`; each counts once.
    `size`: width and height of the image in pixels.
    Returns places as on a chessboard: a letter for the row, from the top, and a number for one of eight columns.
    """
    width, height = size
    rows = max(1, min(26, round(_PLACES * height / width)))
    counted: Counter[str] = Counter()
    for box in boxes:
        column = int((box["x"] + box["width"] / 2) * _PLACES // width)
        row = int((box["y"] + box["height"] / 2) * rows // height)
        if 0 <= column < _PLACES and 0 <= row < rows:
            counted[f"{chr(ord('A') + row)}{column + 1}"] += 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
