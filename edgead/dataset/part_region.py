"""Where the parts lie: the region that good images show alike, apart from what is around them.

A fixed camera shows a part at the same place, on a background that is another piece of the same every time: a conveyor,
foam, a table. What is at the same place in every image stays in the mean of them, and what differs is averaged away. A
background can only bring false rejects, the more so at the border, where a network sees its padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import Progress
from edgead.images.files import ImageError, load_image

Region = tuple[int, int, int, int]

LOOKED_AT, LEAST_IMAGES = 60, 20
SIDE_PX = 240  # images are looked at at this size of their longer side
BLUR_PX, WINDOW_PX = 2.0, 9
# A place belongs to the part where this share of what is to be seen there is the same in all images ...
ALIKE = 0.5
# ... or where as much is to be seen as this share of what such places show: a part that moves, something else.
BUSY = 0.25
MARGIN = 0.02  # of the image's sides, around all this
# The smallest share of the image that must be alike, and the largest region that is worth it.
LEAST_ALIKE, LARGEST = 0.01, 0.9


@dataclass(frozen=True, slots=True)
class PartRegion:
    """The region x, y, width, height that holds the parts, in pixels, or None for the whole image; why, in words."""

    region: Region | None
    reason: str


def find_part_region(paths: Sequence[Path], *, progress: Progress | None = None) -> PartRegion:
    """Find the rectangle outside of which all good images show nothing but background.

    Parameters
    ----------
    paths : sequence of Path
        Good images; a sample of them is read, those that cannot be read are left out.
    progress : callable, optional

    Returns
    -------
    PartRegion
        None where images differ in size or are too few, where nothing is at the same place in all of them, and where
        the parts or a busy background reach to the borders: whoever is in doubt looks at the whole image.
    """
    views: list[np.ndarray] = []
    shapes: set[tuple[int, ...]] = set()
    picks = np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int)
    for done, pick in enumerate(picks, 1):
        try:
            image = load_image(paths[pick])
        except ImageError:  # the training reports it
            continue
        shapes.add(image.shape[:2])
        views.append(_view(image))
        if progress:
            progress(done, len(picks))
    if len(views) < LEAST_IMAGES:
        return PartRegion(None, f"the whole image: {len(views)} good images are too few to see where the parts lie")
    if len(shapes) > 1:
        return PartRegion(None, "the whole image: the images have different sizes")
    held = _places_of_parts(views)
    if held is None:
        return PartRegion(None, "the whole image: nothing is at the same place in all of them")
    return _around(held, shapes.pop())


def find_parts(images: Sequence[np.ndarray]) -> np.ndarray | None:
    """Find the places that show more than background, in good images of one size.

    Parameters
    ----------
    images : sequence of ndarray of shape (H, W, 3), uint8
        A sample of them is looked at.

    Returns
    -------
    ndarray of shape (h, w), bool, or None
        With holes filled, at a size of its own; None where nothing is at the same place in all images, or they are few.
    """
    picks = np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).round().astype(int)
    held = _places_of_parts([_view(images[int(pick)]) for pick in picks]) if len(picks) >= LEAST_IMAGES else None
    if held is None:
        return None
    contours, _ = cv2.findContours(held.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(held.shape, np.uint8)
    return cv2.drawContours(filled, contours, -1, 1, cv2.FILLED).astype(bool)


def _view(image: np.ndarray) -> np.ndarray:
    """The image small, without its finest grain and its exposure: float32 (h, w, 3) with a mean of 1."""
    scale = SIDE_PX / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR_PX)
    return smooth / max(float(smooth.mean()), 1.0)


def _places_of_parts(views: Sequence[np.ndarray]) -> np.ndarray | None:
    """The places (h, w), bool, that show more than background; None where too few are alike."""
    count = len(views)
    seen: np.ndarray = np.mean([_structure(view) for view in views], axis=0)
    in_mean = _structure(np.mean(views, axis=0))
    # The mean of n images that have nothing in common still varies by the n-th part of their variance.
    shared = (in_mean - seen / count) / np.maximum(seen * (1 - 1 / count), 1e-9)
    alike = shared > ALIKE
    if alike.mean() < LEAST_ALIKE:
        return None
    return np.asarray(alike | (seen > BUSY * np.median(seen[alike])))


def _structure(view: np.ndarray) -> np.ndarray:
    """Variance within a window around each place, (h, w) float32, of the channel that varies most."""
    window = (WINDOW_PX, WINDOW_PX)
    mean = cv2.blur(view, window, borderType=cv2.BORDER_REFLECT)
    square = cv2.blur(view * view, window, borderType=cv2.BORDER_REFLECT)
    return np.maximum(square - mean * mean, 0).max(axis=2)


def _around(held: np.ndarray, shape: tuple[int, ...]) -> PartRegion:
    sides = []
    for length, lines in zip(shape, (held.any(axis=1), held.any(axis=0)), strict=True):
        scale, margin = length / lines.size, MARGIN * length
        occupied = np.flatnonzero(lines)
        start = max(0, int(occupied[0] * scale - margin))
        sides.append((start, min(length, int(np.ceil((occupied[-1] + 1) * scale + margin))) - start))
    (y, height), (x, width) = sides
    share = width * height / (shape[0] * shape[1])
    if share > LARGEST:
        return PartRegion(None, "the whole image: parts, or what is around them, reach to its borders")
    return PartRegion((x, y, width, height), f"{x},{y},{width},{height}: around it is only background")
