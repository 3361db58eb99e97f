"""Part of the demo line: a cast cover with turned faces, drilled lugs and a stamped mark.

The part is described once, upright and in the middle of the image, as layers: how each pixel is tilted,
how polished it is and what colour it has. The camera turns the layers into images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

SIZE = (480, 480)
CENTRE = (SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5)

# Radii in pixels, from the inside out.
BORE, SEAT, GROOVE, HUB, BOLT_CIRCLE = 30.0, 47.0, (84.0, 94.0), 118.0, 150.0
BODY, LUG, SPOTFACE, HOLE = 164.0, 41.0, 25.0, 13.0
HOLES = 6

_SUPERSAMPLING = 3


@dataclass(frozen=True)
class Layers:
    """Layers of the part, upright and centred.

    `surface` (ndarray of shape (480, 480, 4), float32): slope to the right and slope downwards (the surface normal is
        (right, down, 1) unnormalised), polish (0 as cast, 1 machined) and the strength of lathe marks (0 to 1).
    `colour` (ndarray of shape (480, 480, 4), float32): blue, green and red reflectance with cavities darkened, and
        coverage (0 where the conveyor shows).
    """

    surface: np.ndarray
    colour: np.ndarray

    def copy(self) -> Layers:
        return Layers(self.surface.copy(), self.colour.copy())


def hole_centres() -> np.ndarray:
    """Return the centres of the bolt holes, (HOLES, 2) as x, y in pixels."""
    angle = np.arange(HOLES) * (2 * np.pi / HOLES)
    return np.stack([CENTRE[1] + BOLT_CIRCLE * np.cos(angle), CENTRE[0] + BOLT_CIRCLE * np.sin(angle)], axis=1)


@lru_cache(maxsize=1)
def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the x and y of every pixel relative to the centre of the part, two (480, 480) float32."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return x - np.float32(CENTRE[1]), y - np.float32(CENTRE[0])


@lru_cache(maxsize=3)
def build_layers(drilled: bool = True, spotfaced: bool = True) -> Layers:
    """Build the layers of the part, optionally without a bolt hole or its machined seat.

    The result is shared between callers: copy it before changing it.
    """
    rows, columns = (side * _SUPERSAMPLING for side in SIZE)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x = (x + 0.5) / _SUPERSAMPLING - 0.5 - np.float32(CENTRE[1])
    y = (y + 0.5) / _SUPERSAMPLING - 0.5 - np.float32(CENTRE[0])
    radius = np.hypot(x, y)
    from_hole = _distance_to_holes(x, y)

    height, coverage = _height(x, y, radius, from_hole, drilled, spotfaced)
    polish, turned = _finish(radius, from_hole, spotfaced)
    step = 1.0 / _SUPERSAMPLING
    down, right = np.gradient(height, step)
    reflectance = _cavity_shade(height) * (1 + 0.06 * polish)
    # A little blue in the machined aluminium, a little yellow in the cast skin.
    tint = [reflectance * (0.975 + 0.035 * polish), reflectance, reflectance * (1.005 - 0.02 * polish)]

    surface = np.dstack([-right, -down, polish, turned])
    # Edges thinner than a pixel would glitter when the part turns; real ones are rounded.
    surface = cv2.GaussianBlur(surface, (0, 0), 0.8 * _SUPERSAMPLING)
    colour = np.dstack([*tint, coverage])
    return Layers(*(cv2.resize(layer, SIZE[::-1], interpolation=cv2.INTER_AREA) for layer in (surface, colour)))


def outline(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to the outer contour, negative outside, in pixels."""
    body = BODY - np.hypot(x, y)
    lugs = LUG - _distance_to_holes(x, y)
    # Polynomial smooth maximum: the fillet between body and lug (I. Quilez, "smooth minimum").
    blend = 16.0
    overlap = np.maximum(blend - np.abs(body - lugs), 0) / blend
    return np.maximum(body, lugs) + overlap * overlap * (blend / 4)


def _distance_to_holes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    distance = np.full(x.shape, np.inf, np.float32)
    for hole_x, hole_y in hole_centres():
        dx, dy = np.float32(hole_x - CENTRE[1]), np.float32(hole_y - CENTRE[0])
        np.minimum(distance, np.hypot(x - dx, y - dy), out=distance)
    return distance


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """Rise smoothly from 0 to 1 while `value` goes from 0 to `width`."""
    t = np.clip(value / width, 0, 1)
    return t * t * (3 - 2 * t)


def _height(
    x: np.ndarray, y: np.ndarray, radius: np.ndarray, from_hole: np.ndarray, drilled: bool, spotfaced: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the height map in pixels and the coverage."""
    inside = outline(x, y)
    height = 6.5 * _step(inside, 8.0)
    height += 9.0 * _step(HUB + 6 - radius, 7.0) + 1.2 * _step(72.0 - radius, 1.5)
    height -= 4.5 * _step(radius - GROOVE[0] + 1.5, 3.0) * _step(GROOVE[1] + 1.5 - radius, 3.0)
    height -= 5.0 * _step(SEAT + 3.5 - radius, 4.5) + 3.0 * _step(BORE + 3.0 - radius, 3.0)
    height -= 2.4 * _engraving(x, y, radius)
    coverage = np.clip(inside + 0.5, 0, 1) * np.clip(radius - BORE + 0.5, 0, 1)
    if spotfaced:
        face = _step(SPOTFACE + 1.0 - from_hole, 2.5)
        # Milling leaves fine rings around the hole.
        height -= 2.4 * face - 0.05 * face * np.sin(from_hole * 2.4)
    if drilled:
        height -= 3.0 * _step(HOLE + 3.0 - from_hole, 3.0)
        coverage *= np.clip(from_hole - HOLE + 0.5, 0, 1)
    return height.astype(np.float32), coverage.astype(np.float32)


def _finish(radius: np.ndarray, from_hole: np.ndarray, spotfaced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the polish and the share of lathe marks."""
    turned = _step(radius - SEAT, 2.0) * _step(HUB - 0.5 - radius, 2.0)
    turned *= 1 - 0.75 * _step(radius - GROOVE[0], 2.0) * _step(GROOVE[1] - radius, 2.0)
    polish = _step(HUB + 2 - radius, 3.0)
    if spotfaced:
        polish = np.maximum(polish, 0.8 * _step(SPOTFACE - from_hole, 2.0))
    return polish.astype(np.float32), turned.astype(np.float32)


def _engraving(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the stamped marks (0 to 1), set along arcs between two holes."""
    scale = 8.0
    marks: np.ndarray = np.zeros(x.shape, np.float32)
    for text, middle, letter_height in (("EA 40-6", np.pi / 2, 14), ("AlSi9Cu3", -np.pi / 2, 12)):
        font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 13
        font_scale = letter_height * scale / 22
        (width, high), base = cv2.getTextSize(text, font, font_scale, thickness)
        plate = np.zeros((high + 2 * base, width + 2 * base), np.uint8)
        cv2.putText(plate, text, (base, high + base), font, font_scale, 255, thickness, cv2.LINE_AA)
        # Both marks read upright in the image: the lower one runs against the angle.
        sense = -1.0 if middle > 0 else 1.0
        along = np.angle(np.exp(1j * (np.arctan2(y, x) - middle))) * 143.0 * sense
        across = (radius - 143.0) * -sense
        columns = (along * scale + plate.shape[1] / 2).astype(np.float32)
        lines = (across * scale + plate.shape[0] / 2).astype(np.float32)
        marks = marks + cv2.remap(cv2.GaussianBlur(plate, (0, 0), 3), columns, lines, cv2.INTER_LINEAR) / 255.0
    return marks


def _cavity_shade(height: np.ndarray) -> np.ndarray:
    """Darken places lower than their surroundings: an approximation of ambient occlusion."""
    small = cv2.resize(height, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(small, (0, 0), 5), height.shape[::-1])
    return 1 - np.clip((around - height) * 0.075, 0, 0.6)
