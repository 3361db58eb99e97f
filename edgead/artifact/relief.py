"""Relief: three channels of a height map, without tilt and holes, for networks that learnt from photographs.

The choice of channels is edgead's own: height above the surroundings, slope across and slope down. Each maps the range
of good parts to 0 to 255; values outside are kept up to as far again.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from edgead.artifact.inputs import Relief
from edgead.images.files import ImageError

# A frame with a smaller share of known heights is refused.
LEAST_VALID = 0.1
# Holes of at least half so many pixels of the input mask the patches within so many pixels around them. Measured on
# plates: filled holes of 10 pixels raise a good score by 6 % at most, and holes of 40 by 5 %.
HIDES_PX = ((5, 16.0), (11, 32.0))
_PLANE_SAMPLES = 5_000
_PLANE_ROUNDS = 8
_FAR = 5.0  # robust deviations from the plane, beyond which a point does not belong to it
_MIDDLE = 127.5
_BEYOND = 255.0  # a step at the outline of a part would otherwise dominate everything else
_SLOPE_SIGMA_PX, _FINE_SIGMA_PX = 1.0, 4.0
_HOLE_BGR = (96, 48, 32)


class Heights(NamedTuple):
    """Heights above a part's plane, float32 (H, W), with holes filled, and the known share of each pixel."""

    mm: np.ndarray
    known: np.ndarray


def heights_of(values: np.ndarray, relief: Relief) -> Heights:
    """Subtract the plane of a part from its heights, and fill holes from their surroundings.

    `values`: ndarray of shape (H, W), uint16 or float32.
    Raises ImageError: nearly all values are holes.
    """
    known = known_of(values, relief)
    share = float(known.mean())
    if share < LEAST_VALID:
        raise ImageError(
            f"{100 * share:.2g} % of the pixels have a height, at least {100 * LEAST_VALID:g} % are needed: is the "
            "part in view and in the range of the camera?"
        )
    mm = np.where(known, values, 0).astype(np.float32) * np.float32(relief.mm_per_count)
    mm = np.where(known, mm - plane_of(mm, known), 0).astype(np.float32)
    return Heights(_filled(mm, known), known.astype(np.float32))


def known_of(values: np.ndarray, relief: Relief) -> np.ndarray:
    """Mask of the values that are heights, bool (H, W); the others are holes."""
    known = values != relief.invalid
    return known & np.isfinite(values) if values.dtype.kind == "f" else known


def plane_of(mm: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fit the plane that most known points lie on, float32 (H, W).

    Iteratively reweighted least squares with Tukey's biweight. If a plane is added to the heights, every step's result
    shifts by that plane: the residuals do not depend on the tilt.
    """
    rows, columns = np.nonzero(known)
    step = max(1, len(rows) // _PLANE_SAMPLES)
    rows, columns = rows[::step], columns[::step]
    height, width = mm.shape
    x, y = columns / width - 0.5, rows / height - 0.5
    design = np.stack([np.ones_like(x), x, y], axis=1)
    found = mm[rows, columns].astype(np.float64)
    weights = np.ones(len(found))
    plane = np.zeros(3)
    for _ in range(_PLANE_ROUNDS):
        weighted = design * weights[:, None]
        plane = np.linalg.lstsq(weighted.T @ design, weighted.T @ found, rcond=None)[0]
        off = found - design @ plane
        off -= np.median(off)
        spread = 1.4826 * float(np.median(np.abs(off)))
        if not spread:
            break
        weights = np.square(np.maximum(0, 1 - np.square(off / (_FAR * spread))))
    across, down = (np.arange(side) / side - 0.5 for side in (width, height))
    return (plane[0] + plane[1] * across + plane[2] * down[:, None]).astype(np.float32)


def _filled(mm: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill holes by mirroring the known heights at the nearest edge, or with the height of that edge.

    On textured parts a smooth filling would look as odd as a defect, and a network looks far around a patch.
    """
    if known.all():
        return mm
    missing = (~known).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    places = np.zeros(int(labels.max()) + 1, np.int64)  # index of the known pixel of each label
    places[labels[known]] = np.flatnonzero(known)
    holes = np.flatnonzero(~known)
    edge = places[labels.ravel()[holes]]
    width = mm.shape[1]
    sides = zip(divmod(edge, width), divmod(holes, width), strict=True)
    rows, columns = (2 * of_edge - of_hole for of_edge, of_hole in sides)
    inside = (rows >= 0) & (rows < mm.shape[0]) & (columns >= 0) & (columns < width)
    mirrored = np.where(inside, rows * width + columns, edge)
    source = np.where(known.ravel()[mirrored], mirrored, edge)
    filled = mm.copy()
    filled.ravel()[holes] = mm.ravel()[source]
    return filled


class Surface(NamedTuple):
    """Relief of heights, float32 (h, w) each: mm above the surroundings, slopes right and down in mm per pixel."""

    height: np.ndarray
    across: np.ndarray
    down: np.ndarray


def surface_of(mm: np.ndarray, sigma_px: float) -> Surface:
    """Compute height above a Gaussian mean of the surroundings, and slopes, at the size of the network's input."""
    local = mm - _surroundings(mm, sigma_px)
    smooth = cv2.GaussianBlur(mm, (0, 0), _SLOPE_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    return Surface(local, across, down)


def _surroundings(mm: np.ndarray, sigma_px: float) -> np.ndarray:
    """Smooth heights by a Gaussian; a wide Gaussian runs on a shrunken image, which loses nothing visible."""
    factor = max(1, round(sigma_px / _FINE_SIGMA_PX))
    size = tuple(max(1, round(side / factor)) for side in mm.shape[::-1])
    small = cv2.resize(mm, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / factor, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(small, mm.shape[::-1], interpolation=cv2.INTER_LINEAR)


def channels_of(surface: Surface, relief: Relief) -> np.ndarray:
    """Scale a surface to the network's channels, float32 (h, w, 3), so that good parts fill 0 to 255."""
    return _clipped(_MIDDLE + _scaled(surface, relief))


def add_heights(channels: np.ndarray, mm: np.ndarray, relief: Relief) -> np.ndarray:
    """Compute the channels, float32 (h, w, 3), of the same part raised by `mm` (h, w)."""
    return _clipped(channels + _scaled(surface_of(mm, relief.sigma_px), relief))


def _scaled(surface: Surface, relief: Relief) -> np.ndarray:
    ranges = (relief.height_mm, relief.slope_mm, relief.slope_mm)
    return np.dstack([channel * (_MIDDLE / reach) for channel, reach in zip(surface, ranges, strict=True)])


def _clipped(channels: np.ndarray) -> np.ndarray:
    return np.clip(channels, -_BEYOND, 255 + _BEYOND).astype(np.float32)


def shaded(values: np.ndarray, relief: Relief, px: float) -> np.ndarray:
    """Draw heights as a surface with light from the upper left, and holes dark blue: uint8 BGR (H, W, 3).

    `px` is the number of pixels of the image per pixel of the network's input.
    """
    known = known_of(values, relief)
    if known.mean() < LEAST_VALID:  # cannot be judged, and is shown all the same
        return np.full((*values.shape, 3), _HOLE_BGR, np.uint8)
    surface = surface_of(heights_of(values, relief).mm, max(relief.sigma_px * px, 1.0))
    light = (surface.across + surface.down) * (px * 80 / relief.slope_mm) + surface.height * (40 / relief.height_mm)
    grey = np.clip(128 + light, 0, 255).astype(np.uint8)
    image = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    image[~known] = _HOLE_BGR
    return image
