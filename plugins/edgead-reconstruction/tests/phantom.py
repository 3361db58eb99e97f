"""Slices of a drawn head: ellipses as of Shepp and Logan's phantom, each a little other, with or without a lesion."""

from __future__ import annotations

import cv2
import numpy as np

# Of the whole slice: centre (x, y) and half axes, in parts of its side, and the tissue; later ones cover earlier ones.
FLUID, GREY, WHITE = 0, 1, 2
PARTS = (
    ((0.5, 0.5), (0.36, 0.44), FLUID),
    ((0.5, 0.5), (0.33, 0.41), GREY),
    ((0.5, 0.49), (0.27, 0.34), WHITE),
    ((0.41, 0.46), (0.04, 0.13), FLUID),
    ((0.59, 0.46), (0.04, 0.13), FLUID),
    ((0.5, 0.68), (0.07, 0.05), GREY),
)
USUAL = (70, 130, 200)
"""Intensities of the three tissues."""


def draw(
    rng: np.random.Generator, side: int, *, lesion: bool, tissues: tuple[int, int, int] = USUAL
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a slice.

    Returns
    -------
    image : ndarray of shape (side, side, 3), uint8
        Grey; around the head it is black.
    mask : ndarray of shape (side, side), bool
        The lesion, as dark as grey matter in the white: without one it is empty.
    """
    image = np.zeros((side, side), np.float32)
    turned = rng.uniform(-4, 4)
    scale = rng.uniform(0.95, 1.05)
    for (x, y), (a, b), tissue in PARTS:
        jitter = rng.uniform(-0.008, 0.008, 4)
        centre = ((x + jitter[0]) * side, (y + jitter[1]) * side)
        axes = (2 * (a + jitter[2]) * side * scale, 2 * (b + jitter[3]) * side * scale)
        cv2.ellipse(image, (centre, axes, turned), float(tissues[tissue]), -1)
    inside = (image > 0).astype(np.float32)
    mask = np.zeros((side, side), np.uint8)
    if lesion:
        centre = (rng.choice([0.31, 0.69]) * side, rng.uniform(0.4, 0.6) * side)
        axes = tuple(2 * rng.uniform(0.04, 0.06, 2) * side)
        cv2.ellipse(mask, (centre, axes, rng.uniform(0, 180)), 1, -1)
        image[mask > 0] = tissues[GREY]
    image = cv2.GaussianBlur(image, (0, 0), 0.6) + inside * rng.normal(0, 4, image.shape)
    image = np.clip(image, 1, 255) * inside
    return np.repeat(image.astype(np.uint8)[..., None], 3, axis=2), mask > 0
