"""Rendered stereo pairs with known heights: a textured plate with a dent and a step, seen by two cameras.

The texture belongs to the plate: a pixel of the right camera equals that of the left one a disparity to its right, and
of two places that coincide the nearer one is visible. Textures are smooth enough for cubic interpolation.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

FOCAL_PX = 1200.0
BASELINE_MM = 60.0
DISTANCE_MM = 503.0
SIZE = (240, 400)

_GREY, _CONTRAST = 128.0, 45.0
_TEXTURE_PX = 1.2  # sigma; finer detail would be interpolated wrongly
_NOISE = 1.0  # grey levels
_DENT_RADIUS_PX = 32.0
# As shares of the width; the right camera does not see the left third of the left image.
_DENT_AT, _STEP_AT = 0.6, 0.8


class Pair(NamedTuple):
    """Stereo images, uint8 BGR (h, w, 3), and mm towards the left camera, float32 (h, w), as given by `stereo:`."""

    left: np.ndarray
    right: np.ndarray
    mm: np.ndarray


def render_pair(
    rng: np.random.Generator,
    *,
    dent_mm: float = 0.0,
    step_mm: float = 0.0,
    size: tuple[int, int] = SIZE,
    texture: float = 1.0,
) -> Pair:
    """Render a plate at `DISTANCE_MM` from cameras of `FOCAL_PX` that are `BASELINE_MM` apart.

    Parameters
    ----------
    rng : Generator
        Generator of texture and noise.
    dent_mm : float
        Depth of a dent left of the step.
    step_mm : float
        Height of the step by which the right fifth is nearer.
    size : (int, int)
        Height and width in pixels.
    texture : float
        Strength of the texture: 1 for full; 0 for only noise.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    off = (np.square(rows - height / 2) + np.square(columns - _DENT_AT * width)) / _DENT_RADIUS_PX**2
    bowl = np.square(np.maximum(0, 1 - off))
    distance = DISTANCE_MM + dent_mm * bowl - step_mm * (columns >= _STEP_AT * width)
    shift = FOCAL_PX * BASELINE_MM / distance
    margin = int(shift.max()) + 8  # the right camera sees what lies beyond the left one's right edge
    grain = cv2.GaussianBlur(rng.normal(size=(height, width + 2 * margin)).astype(np.float32), (0, 0), _TEXTURE_PX)
    surface = _GREY + texture * _CONTRAST * grain / grain.std()
    beyond = np.pad(shift, ((0, 0), (0, margin)), mode="edge")
    at = np.empty((height, width), np.float32)
    places = np.arange(width + margin, dtype=np.float64)
    for row in range(height):
        seen_at = places - beyond[row]
        nearest = seen_at <= np.minimum.accumulate(seen_at[::-1])[::-1]
        at[row] = np.interp(np.arange(width), seen_at[nearest], places[nearest])
    right = cv2.remap(surface, at, rows.astype(np.float32), cv2.INTER_CUBIC)
    images = [_image(values, rng) for values in (surface[:, :width], right)]
    return Pair(images[0], images[1], (-distance).astype(np.float32))


def _image(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noisy = values + rng.normal(0, _NOISE, values.shape)
    return cv2.cvtColor(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
