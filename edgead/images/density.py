"""Density of boxes on a grid: places of a part that are found defective again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

_COLUMNS = 64
_PLACES = 8


def box_density(boxes: Iterable[Mapping[str, int]], size: tuple[int, int]) -> np.ndarray:
    """Count the boxes over each cell of a grid.

    Parameters
    ----------
    boxes : iterable of mapping
        x, y, width and height in pixels; what lies outside of the image counts for nothing.
    size : (int, int)
        Width and height of the image in pixels.

    Returns
    -------
    ndarray of shape (rows, 64), int64
        Boxes that touch each cell; cells are as square as whole numbers allow.
    """
    width, height = size
    rows = max(1, round(_COLUMNS * height / width))
    corners = [(box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in boxes]
    scaled = np.array(corners, np.float64).reshape(-1, 4) * np.tile([_COLUMNS / width, rows / height], 2)
    left, top = np.clip(np.floor(scaled[:, :2]), 0, (_COLUMNS, rows)).astype(int).T
    right, bottom = np.clip(np.ceil(scaled[:, 2:]), 0, (_COLUMNS, rows)).astype(int).T
    # Each box adds one from its first corner on, and takes it away behind the others: two sums fill it.
    steps = np.zeros((rows + 1, _COLUMNS + 1), np.int64)
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(steps, (y, x), sign)
    return steps.cumsum(axis=0).cumsum(axis=1)[:rows, :_COLUMNS]


def box_places(boxes: Iterable[Mapping[str, int]], size: tuple[int, int]) -> dict[str, int]:
    """Count boxes by the place of their centre, most frequent first.

    Parameters
    ----------
    boxes : iterable of mapping
        As for `box_density`; each counts once.
    size : (int, int)
        Width and height of the image in pixels.

    Returns
    -------
    dict of str to int
        Places as on a chessboard: a letter for the row, from the top, and a number for one of eight columns.
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
