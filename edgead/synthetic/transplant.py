"""Transplantation of real defects onto good parts, by the ratio to their surroundings or pasted with a soft edge.

A defect is put at its own place on the good part, shifted a little, or anywhere in a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edgead.dataset.errors import DatasetError

# Largest shift of a defect as a share of a side, and the share of it that must be within a mask of places.
JITTER, WITHIN = 0.1, 0.75
# Share of parts, nearest to the reject in proportions, with all equally near ones, that may get its defect.
_NEAREST_SHARE, _NEAREST = 0.2, 8
_TRIES = 200
_TOUCH_PX = 1

Shapes = Mapping[Path, tuple[int, int]]
"""Good parts, and the height and width of each."""
# A mask ends where a person no longer sees the defect, but its blur reaches a little further.
_REACH_PX = 2
_EDGE_SIGMA_PX = 1.5
_DARKEST = 4.0  # below this grey value a ratio would be noise


def alike(shapes: Shapes, shape: tuple[int, int]) -> list[Path]:
    """List the parts whose proportions differ least from those of a reject of `shape`."""
    far = {path: float(np.abs(np.log(np.divide(of_part, shape))).sum()) for path, of_part in shapes.items()}
    least = min(len(far), max(_NEAREST, round(_NEAREST_SHARE * len(far))))
    limit = sorted(far.values())[least - 1]
    return [path for path, distance in far.items() if distance <= limit]


def place_like(cutting: Cutting, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Cutting, tuple[int, int]]:
    """Choose a place near the defect's own, shifted by up to a tenth of a side; a defect at a border stays there.

    Parameters
    ----------
    cutting : Cutting
    shape : (int, int)
        Height and width of the good part.
    rng : Generator

    Returns
    -------
    (Cutting, (int, int))
        The defect, reduced if it would not fit, or scaled to the part if it spanned from border to border; x and y of
        its rectangle.
    """
    rows, columns = (np.flatnonzero(cutting.mask.any(axis=axis)) for axis in (1, 0))
    height, top = _along(cutting, 0, rows, shape[0])
    width, left = _along(cutting, 1, columns, shape[1])
    whole = scaled(cutting, height, width)
    y = _moved(top, height, cutting.shape[0], shape[0], rng)
    x = _moved(left, width, cutting.shape[1], shape[1], rng)
    return whole, (x, y)


def place_within(cutting: Cutting, where: np.ndarray, rng: np.random.Generator) -> tuple[Cutting, tuple[int, int]]:
    """Choose a random place in a mask, bool of the part's shape (H, W), with three quarters of the defect inside.

    Raises
    ------
    DatasetError
        The defect fits nowhere.
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
    """Compute a rectangle's length along an axis of the part, and its start: at a border, or by its place."""
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


Transplanting = Literal["ratio", "paste"]


@dataclass(frozen=True, slots=True, eq=False)
class Cutting:
    """Defect cut out of a reject.

    Attributes
    ----------
    piece : ndarray of shape (h, w, 3), float32, BGR
        Image within the rectangle around the defect and its soft edge.
    surroundings : ndarray of shape (h, w, 3), float32, BGR
        Estimate of the same image without the defect: its surroundings, continued smoothly.
    mask : ndarray of shape (h, w), bool
        The defect.
    opacity : ndarray of shape (h, w), float32
        1 on the defect, falling to 0 around it.
    place : (int, int)
        x and y of the rectangle in the reject.
    shape : (int, int)
        Height and width of the reject.
    """

    piece: np.ndarray
    surroundings: np.ndarray
    mask: np.ndarray
    opacity: np.ndarray
    place: tuple[int, int]
    shape: tuple[int, int]


def cut_out(image: np.ndarray, mask: np.ndarray) -> Cutting:
    """Cut a defect out of the image of a reject.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR
    mask : ndarray of shape (H, W), bool
        The defect; at least one pixel.
    """
    wide = _dilated(mask, _REACH_PX)
    opacity = np.maximum(cv2.GaussianBlur(wide.astype(np.float32), (0, 0), _EDGE_SIGMA_PX), mask)
    rows, columns = np.nonzero(opacity > 1e-3)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    inside = np.s_[top:bottom, left:right]
    filled = _carried_on(image.astype(np.float32), _dilated(mask, 2 * _REACH_PX))
    return Cutting(
        image[inside].astype(np.float32),
        filled[inside],
        mask[inside],
        opacity[inside],
        (int(left), int(top)),
        (image.shape[0], image.shape[1]),
    )


def transplant(
    good: np.ndarray, cutting: Cutting, place: tuple[int, int], method: Transplanting
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cut-out defect on a good part.

    Parameters
    ----------
    good : ndarray of shape (H, W, 3), uint8, BGR
    cutting : Cutting
        Defect, not larger than the part.
    place : (int, int)
        x and y of the cutting's rectangle in the good part.
    method : {"ratio", "paste"}
        "ratio" multiplies the part by the ratio of the defect to its surroundings, which keeps light and texture of the
        part; "paste" copies the pixels of the reject.

    Returns
    -------
    image : ndarray of shape (H, W, 3), uint8, BGR
    mask : ndarray of shape (H, W), bool
    """
    x, y = place
    height, width = cutting.mask.shape
    there = np.s_[y : y + height, x : x + width]
    part = good[there].astype(np.float32)
    if method == "ratio":
        changed = part * ((cutting.piece + 1) / np.maximum(cutting.surroundings + 1, _DARKEST))
    else:
        changed = cutting.piece
    image, mask = good.copy(), np.zeros(good.shape[:2], bool)
    mixed = part + cutting.opacity[..., None] * (changed - part)
    image[there] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    mask[there] = cutting.mask
    return image, mask


def scaled(cutting: Cutting, height: int, width: int) -> Cutting:
    """Resize a cutting to another height and width."""
    if cutting.mask.shape == (height, width):
        return cutting

    def resize(array: np.ndarray, way: int = cv2.INTER_LINEAR) -> np.ndarray:
        return cv2.resize(array, (width, height), interpolation=way)

    mask = resize(cutting.mask.astype(np.uint8), cv2.INTER_NEAREST) > 0
    return Cutting(
        resize(cutting.piece),
        resize(cutting.surroundings),
        mask,
        np.maximum(resize(cutting.opacity), mask),
        cutting.place,
        cutting.shape,
    )


def _dilated(mask: np.ndarray, reach_px: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def _carried_on(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a hole smoothly from its surroundings by an image pyramid, more coarsely farther from the edge."""
    weight = (~hole).astype(np.float32)
    if min(image.shape[:2]) < 4 or not hole.any():
        mean = (image * weight[..., None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1.0)
        return np.where(hole[..., None], mean, image).astype(np.float32)
    size = ((image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2)
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(image * weight[..., None], size, interpolation=cv2.INTER_AREA)
    small = summed / np.maximum(small_weight, 1e-6)[..., None]
    below = _carried_on(small, small_weight < 0.25)
    coarse = cv2.resize(below, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None], coarse, image)
