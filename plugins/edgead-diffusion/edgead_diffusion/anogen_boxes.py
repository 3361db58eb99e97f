"""Random boxes on a part in which AnoGen makes defects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgead.errors import SettingsError

ON_PART = 0.75
"""Least share of a box that lies on the part."""
TRIES = 10_000


@dataclass(frozen=True, slots=True)
class BoxRule:
    """Rule for random boxes, with sizes as shares of the image's side.

    `width`, `height`: smallest and largest size.
    `turned`: whether each box is rotated by a random angle. The authors' tables have the texts "True" or "False", both
        of which count as true in their code.
    """

    width: tuple[float, float]
    height: tuple[float, float]
    turned: bool = False


def draw_box(place: np.ndarray, rule: BoxRule, rng: np.random.Generator) -> np.ndarray:
    """Draw a box with at least three quarters in the allowed area.

    `place` (ndarray of shape (side, side), uint8): 255 where a defect may be, 0 elsewhere.
    Returns ndarray of shape (side, side), uint8: 255 in the box, 0 elsewhere.
    Raises SettingsError: no such box was found.
    """
    for _ in range(TRIES):
        box = _any_box(len(place), rule, rng)
        size = np.count_nonzero(box)
        if rule.turned:
            box = _turn(box, int(rng.integers(0, 181)))
        if np.count_nonzero(box & place) > ON_PART * size:
            return box
    share = np.count_nonzero(place) / place.size
    raise SettingsError(f"found no place for a box of {rule.width} x {rule.height} on {share:.1%} of the image")


def _any_box(side: int, rule: BoxRule, rng: np.random.Generator) -> np.ndarray:
    width, height = (
        int(rng.integers(int(low * side), int(high * side) + 1)) for low, high in (rule.width, rule.height)
    )
    x, y = (int(rng.integers(0, side - size + 1)) for size in (width, height))
    box = np.zeros((side, side), np.uint8)
    # Both ends are included.
    box[y : y + height + 1, x : x + width + 1] = 255
    return box


def _turn(box: np.ndarray, degrees: int) -> np.ndarray:
    contours, _ = cv2.findContours(box, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    centre, _, _ = cv2.minAreaRect(contours[0])
    return cv2.warpAffine(box, cv2.getRotationMatrix2D(centre, degrees, 1), box.shape[::-1])
