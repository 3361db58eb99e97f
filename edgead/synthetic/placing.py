"""Place of a transplanted defect on a good part: its own, moved a little, or anywhere in a mask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgead.dataset.errors import DatasetError
from edgead.synthetic.transplant import Cutting, scaled

# Share of a side that a defect is moved by at most, and the share of it that must lie within a mask of places.
JITTER, WITHIN = 0.1, 0.75
# A defect goes onto one of these parts: the share of them nearest to its reject in size, and all that are as near.
_NEAREST_SHARE, _NEAREST = 0.2, 8
_TRIES = 200
_TOUCH_PX = 1

Shapes = Mapping[Path, tuple[int, int]]
"""Good parts, and the height and width of each."""


def alike(shapes: Shapes, shape: tuple[int, int]) -> list[Path]:
    """List the parts whose sides differ least from a reject's `shape`, by their ratio."""
    far = {path: float(np.abs(np.log(np.divide(of_part, shape))).sum()) for path, of_part in shapes.items()}
    least = min(len(far), max(_NEAREST, round(_NEAREST_SHARE * len(far))))
    limit = sorted(far.values())[least - 1]
    return [path for path, distance in far.items() if distance <= limit]


def place_like(cutting: Cutting, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Cutting, tuple[int, int]]:
    """Put a defect where it was on its reject, moved by up to a tenth of a side; what touched a border touches it.

    Parameters
    ----------
    cutting : Cutting
    shape : (int, int)
        Height and width of the good part.
    rng : Generator

    Returns
    -------
    (Cutting, (int, int))
        The defect, smaller where it would not fit, as long as the part where it reached from border to border; x and y
        of its rectangle.
    """
    rows, columns = (np.flatnonzero(cutting.mask.any(axis=axis)) for axis in (1, 0))
    height, top = _along(cutting, 0, rows, shape[0])
    width, left = _along(cutting, 1, columns, shape[1])
    whole = scaled(cutting, height, width)
    y = _moved(top, height, cutting.shape[0], shape[0], rng)
    x = _moved(left, width, cutting.shape[1], shape[1], rng)
    return whole, (x, y)


def place_within(cutting: Cutting, where: np.ndarray, rng: np.random.Generator) -> tuple[Cutting, tuple[int, int]]:
    """Put a defect anywhere in a mask of places, bool of the part's shape (H, W), three quarters of it inside.

    Raises
    ------
    DatasetError
        It fits nowhere.
    """
    height, width = (min(a, b) for a, b in zip(cutting.mask.shape, where.shape, strict=True))
    fitted = scaled(cutting, height, width)
    rows, columns = np.nonzero(where)
    for _ in range(_TRIES if rows.size else 0):
        spot = int(rng.integers(rows.size))
        y = int(np.clip(rows[spot] - height // 2, 0, where.shape[0] - height))
        x = int(np.clip(columns[spot] - width // 2, 0, where.shape[1] - width))
        if where[y : y + height, x : x + width][fitted.mask].mean() >= WITHIN:
            return fitted, (x, y)
    raise DatasetError(
        f"a defect of {width} x {height} pixels finds no place in the mask --where, of which {rows.size} pixels are "
        "set: draw a larger region"
    )


def _along(cutting: Cutting, axis: int, marked: np.ndarray, length: int) -> tuple[int, str | int]:
    """Length of the rectangle along an axis on the part, and where it begins: at a border, or by its place."""
    start = cutting.place[1 - axis]
    own = cutting.mask.shape[axis]
    low = start + int(marked[0]) < _TOUCH_PX
    high = start + int(marked[-1]) >= cutting.shape[axis] - _TOUCH_PX
    if low and high:
        return length, "low"
    return min(own, length), "low" if low else "high" if high else start


def _moved(begin: str | int, own: int, of_reject: int, length: int, rng: np.random.Generator) -> int:
    if isinstance(begin, str):
        return 0 if begin == "low" else length - own
    middle = (begin + own / 2) / of_reject + rng.uniform(-JITTER, JITTER)
    return int(np.clip(round(middle * length - own / 2), 0, length - own))
