"""Height camera: a milled plate with dents of known depth, as heights of 16 bits and as an image under flat light.

The light is a dome's, which shows a slope by its cosine alone: what a dent of tenths of a millimetre is to a colour
camera. A stain takes light and has no height. No plate lies quite level, and of some pixels nothing comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgead.images.files import write_image

MM_PER_COUNT = 0.005
MM_PER_PIXEL = 0.2
SIZE = (160, 160)

_MIDDLE = 20_000  # counts at the middle of the camera's range
_LAY_MM, _WAVES_MM, _NOISE_MM = 0.01, 0.02, 0.006  # grooves of the mill, waviness, noise of the camera
_LAY_PX = 4.0
_TILT_MM = 1.5  # from one side to the other, at most
_OFFSET_MM = 3.0
_MISSING = 0.02
_DENT_RADIUS_PX = (14.0, 22.0)
_GREY, _GREY_NOISE, _GREY_LAY, _GREY_CLOUDS = 150.0, 3.0, 6.0, 5.0  # clouds: the mill's metal shines unevenly


class Plate(NamedTuple):
    """Heights, uint16 (h, w), 0 where nothing came back; an image, uint8 BGR (h, w, 3); the defect, bool (h, w)."""

    heights: np.ndarray
    image: np.ndarray
    mask: np.ndarray


def render_plate(
    rng: np.random.Generator,
    *,
    dent_mm: float = 0.0,
    stain: float = 0.0,
    size: tuple[int, int] = SIZE,
    tilt_mm: tuple[float, float] | None = None,
) -> Plate:
    """Render a plate.

    Parameters
    ----------
    rng : Generator
        What differs between plates; the same draws give the same plate, whatever its dent and tilt are.
    dent_mm : float
        Depth of its dent. 0 for none.
    stain : float
        Share of the light that its stain takes in the middle: it lies where the dent would, and has no height.
    size : (int, int)
        Height and width in pixels of `MM_PER_PIXEL`.
    tilt_mm : (float, float), optional
        How much its right and its lower side lie higher; by default at random.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), min(size) / 8)
    lay = np.sin(columns * (2 * np.pi / _LAY_PX) + rng.uniform(0, 2 * np.pi) + 4 * waves / waves.std() / 10)
    surface = _LAY_MM * lay + _WAVES_MM * waves / waves.std()
    radius, y, x = (rng.uniform(*ends) for ends in (_DENT_RADIUS_PX, (0.2, 0.8), (0.2, 0.8)))
    off = np.square((rows - y * height) / radius) + np.square((columns - x * width) / radius)
    bowl = np.square(np.maximum(0, 1 - off)).astype(np.float32)  # smooth at its rim
    surface = surface - dent_mm * bowl
    drawn_tilt, offset = rng.uniform(-_TILT_MM, _TILT_MM, 2), rng.uniform(-_OFFSET_MM, _OFFSET_MM)
    across, down = drawn_tilt if tilt_mm is None else tilt_mm
    seen = surface + rng.normal(0, _NOISE_MM, size) + offset
    seen = seen + across * (columns / width - 0.5) + down * (rows / height - 0.5)
    heights = np.clip(np.rint(seen / MM_PER_COUNT) + _MIDDLE, 1, 65535).astype(np.uint16)
    heights[rng.random(size) < _MISSING] = 0
    slopes = (cv2.Sobel(surface.astype(np.float32), cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    upright = 1 / np.sqrt(1 + sum(np.square(slope / MM_PER_PIXEL) for slope in slopes))
    clouds = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), min(size) / 12)
    shine = _GREY + _GREY_LAY * lay + _GREY_CLOUDS * clouds / clouds.std()
    grey = shine * (1 - stain * bowl) * (1 + upright) / 2 + rng.normal(0, _GREY_NOISE, size)
    image = cv2.cvtColor(np.clip(np.rint(grey), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    return Plate(heights, image, (bowl > 0.1) & (dent_mm > 0 or stain > 0))


def write_plates(
    destination: Path,
    *,
    good: int = 40,
    tested: int = 20,
    dents_mm: Sequence[float] = (0.3, 0.6, 1.0),
    stains: Sequence[float] = (),
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> None:
    """Write plates as three data sets in MVTec layout of the same plates: `heights`, `images` and, of both, `pairs`.

    Parameters
    ----------
    destination : Path
        A new folder.
    good, tested : int
        Plates to learn, and plates of each kind to test.
    dents_mm : sequence of float
        Depths; each is a kind of defect, such as `dent_0.3mm`.
    stains : sequence of float
        Shares of light; each is a kind of defect, such as `stain_10`, in percent.
    size, seed
        See `render_plate`.
    """
    kinds = [("train/good", 0.0, 0.0, good), ("test/good", 0.0, 0.0, tested)]
    kinds += [(f"test/dent_{depth:g}mm", depth, 0.0, tested) for depth in dents_mm]
    kinds += [(f"test/stain_{100 * stain:g}", 0.0, stain, tested) for stain in stains]
    for part, (folder, depth, stain, count) in enumerate(kinds):
        for number in range(count):
            plate = render_plate(np.random.default_rng([seed, part, number]), dent_mm=depth, stain=stain, size=size)
            name, mask = f"{number:03d}.png", plate.mask.astype(np.uint8) * 255
            for camera, image in (("heights", plate.heights), ("images", plate.image)):
                write_image(destination / camera / folder / name, image)
                if depth or stain:
                    masks = destination / camera / folder.replace("test", "ground_truth", 1)
                    write_image(masks / f"{number:03d}_mask.png", mask)
            for camera, image in (("height", plate.heights), ("rgb", plate.image), ("gt", mask)):
                write_image(destination / "pairs" / folder / camera / name, image)
