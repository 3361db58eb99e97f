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


SMALL_BOX = BoxRule((0.05, 0.1), (0.05, 0.1))
"""The rule of the authors' code for VisA."""


def draw_box(place: np.ndarray, rule: BoxRule, rng: np.random.Generator) -> np.ndarray:
    """Draw a box with at least three quarters in the allowed area.

    `place` (ndarray of shape (side, side), uint8): 255 where a defect may be, 0 elsewhere: see `foreground`.
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


def foreground(image: np.ndarray, side: int = 256) -> np.ndarray:
    """Segment the part by brightness (Otsu); the class of the top left corner is background.

    `image`: ndarray of shape (h, w, 3), uint8, BGR.
    `side`: side of the result in pixels.
    Returns ndarray of shape (side, side), uint8: 255 on the part, 0 elsewhere.
    """
    grey = cv2.cvtColor(cv2.resize(image, (side, side)), cv2.COLOR_BGR2GRAY)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if mask[0, 0] == 255:
        mask = cv2.bitwise_not(mask)
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))


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
