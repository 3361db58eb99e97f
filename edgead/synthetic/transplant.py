"""Real defects moved onto good parts: multiplied in by the ratio to their surroundings, or pasted with a soft edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Transplanting = Literal["ratio", "paste"]

# A mask ends where a person stopped to see the defect, its blur a little further out.
_REACH_PX = 2
_EDGE_SIGMA_PX = 1.5
_DARKEST = 4.0  # below this grey value a ratio would be noise


@dataclass(frozen=True, slots=True, eq=False)
class Cutting:
    """A defect cut out of a reject.

    Attributes
    ----------
    piece : ndarray of shape (h, w, 3), float32, BGR
        What is seen within the rectangle around the defect and its soft edge.
    surroundings : ndarray of shape (h, w, 3), float32, BGR
        What would be seen there without the defect: what is around it, carried on smoothly.
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
    """Put a defect onto a good part.

    Parameters
    ----------
    good : ndarray of shape (H, W, 3), uint8, BGR
    cutting : Cutting
        Not larger than the part.
    place : (int, int)
        x and y of the rectangle of the cutting in the good part.
    method : {"ratio", "paste"}
        "ratio" multiplies the part by what the defect did to its surroundings, so that light and texture of the part
        stay; "paste" takes the pixels of the reject as they are.

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
    """The same in another height and width."""
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
    """Fill a hole from what is around it: coarse where it is far away, level by level of a pyramid."""
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
