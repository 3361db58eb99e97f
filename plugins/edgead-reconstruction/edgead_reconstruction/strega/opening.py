"""Lesions from residuals: the authors' processing after the network, with numpy and OpenCV alone."""

from __future__ import annotations

import cv2
import numpy as np

CUT = 0.2
"""Cut of the residual: values above it count as 1."""
AREA = 256
"""Least number of pixels of a lesion, in a slice of 256 x 256."""
BINS = 256
SPREAD = 0.25
"""Largest distance of the heights of `open_levels` from the cut, as a share of it."""


def find_lesions(slices: np.ndarray, rebuilt: np.ndarray, *, area: int = AREA) -> np.ndarray:
    """Find the lesions of a volume: cut, Otsu's threshold over all slices, opening by area, background removed.

    `slices`, `rebuilt` (ndarray of shape (n, h, w), float): slices in 0..1 with 0 in the background, and their
        reconstructions. Pixels darker than rebuilt count.
    Returns ndarray of shape (n, h, w), bool.
    """
    difference = np.maximum(rebuilt - slices, 0)
    difference[difference > CUT] = 1
    found = difference > otsu_threshold(difference)
    opened = np.stack([open_by_area(one, area) for one in found])
    return opened & (slices != 0)


def otsu_threshold(values: np.ndarray) -> float:
    """Return Otsu's threshold (1979) over 256 bins from least to largest value: the middle of the last lower bin."""
    if values.min() == values.max():
        return float(values.flat[0])
    counts, edges = np.histogram(values, BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * middles) / below
    mean_above = np.cumsum((counts * middles)[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(middles[np.argmax(between)])


def open_by_area(mask: np.ndarray, area: int) -> np.ndarray:
    """Keep the regions of a mask, bool (h, w), connected by sides of pixels, that have at least `area` pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] >= area
    large[0] = False
    return large[labels]


def open_levels(residual: np.ndarray, *, cut: float, levels: int, area: int) -> np.ndarray:
    """Open a residual by area at `levels` heights around `cut`; return the share of them that keep a pixel, float32.

    With one level, the mask above the cut is opened. With more, a region that barely has the area at the cut is kept at
    some levels, so that a runtime with other rounding gives nearly the same result.
    """
    opened = np.zeros(residual.shape, np.float32)
    for height in np.linspace(-SPREAD, SPREAD, levels) if levels > 1 else (0.0,):
        opened += open_by_area(residual > cut * (1 + height), area)
    return opened / np.float32(levels)
