"""Masks of defects, drawn into one array from image files and annotations such as polygons and runs of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.dataset.errors import DatasetError
from edgead.images.files import decode_image, load_image
from edgead.images.volume_readers import NIFTI_SUFFIXES, TIFF_SUFFIXES
from edgead.images.volumes import is_volume, slice_number, slice_path, slices_of, volume_of

Draw = Callable[[np.ndarray], None]
"""Function that marks pixels of a canvas, bool (H, W), in place; raises ValueError if the mask does not fit."""

Corners = Sequence[tuple[float, float]]
"""x and y of each corner, in pixels from the upper left corner of the image: the first pixel's centre is 0.5, 0.5."""

_CORNERS_OF_AN_ELLIPSE = 64
# Longest number in COCO's compressed runs, in characters of five bits: more is no length within an image.
_MOST_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Mask:
    """Mask of an image's defects: the union of drawn shapes.

    `source`: file that contains the annotations, for messages.
    `size`: height and width of the image, as stated in the file.
    `files`: mask files that the mask is read from.
    """

    source: Path
    draws: tuple[Draw, ...]
    size: tuple[int, int] | None = None
    files: tuple[Path, ...] = ()

    def load(self, shape: tuple[int, int]) -> np.ndarray:
        """Draw the mask as bool (H, W); raises ValueError if it has another size, or is damaged."""
        if self.size not in (None, shape):
            raise ValueError(f"the mask is for {self.size}, the image is {shape} (rows, columns)")
        canvas = np.zeros(shape, bool)
        for draw in self.draws:
            draw(canvas)
        return canvas


def add_file(canvas: np.ndarray, file: Path, background: tuple[int, int, int] | None = None) -> None:
    """Mark the pixels that are not black in a mask file, or not of the colour `background`, uint8 BGR."""
    if background is None:
        mask = load_image(file, keep_depth=True) > 0
        mask = mask if mask.ndim == 2 else mask.max(axis=2)
    else:
        mask = (load_image(file) != background).any(axis=2)
    _add(canvas, mask, f"{file} is")


def add_encoded(canvas: np.ndarray, data: bytes, x: int, y: int) -> None:
    """Mark the pixels that are not black in an encoded image, placed with its upper left corner at x, y."""
    mask = decode_image(data).any(axis=2)
    height, width = mask.shape
    if x < 0 or y < 0 or y + height > canvas.shape[0] or x + width > canvas.shape[1]:
        raise ValueError(f"a mask of {width}x{height} pixels at {x},{y} sticks out of the image")
    canvas[y : y + height, x : x + width] |= mask


def fill_polygon(canvas: np.ndarray, corners: Corners) -> None:
    """Mark the pixels whose centres are inside a polygon, by the even-odd rule, clipped to the canvas."""
    height, width = canvas.shape
    points = np.asarray(corners, np.float64)
    ends = points[:, 1].min(), points[:, 1].max()
    top, bottom = (int(np.clip(np.ceil(end - 0.5), 0, height)) for end in ends)
    crossed = np.zeros((bottom - top, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(end - 0.5), top, bottom)) for end in sorted((y0, y1)))
        if first < last:
            rows = np.arange(first, last)
            columns = np.ceil(x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0)) - 0.5)
            crossed[rows - top, np.clip(columns, 0, width).astype(int)] ^= True
    canvas[top:bottom] |= np.logical_xor.accumulate(crossed, axis=1)[:, :width]


def box_corners(x: float, y: float, width: float, height: float) -> Corners:
    """Corners of a rectangle, from its upper left corner and its size."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def ellipse_corners(x: float, y: float, across: float, down: float) -> Corners:
    """Corners of a polygon that approximates an ellipse, from its centre and its two radii."""
    turns = [2 * math.pi * i / _CORNERS_OF_AN_ELLIPSE for i in range(_CORNERS_OF_AN_ELLIPSE)]
    return [(x + across * math.cos(turn), y + down * math.sin(turn)) for turn in turns]


def turned(corners: Corners, about: tuple[float, float], degrees: float) -> Corners:
    """Rotate corners about a point, clockwise on the screen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [(x - about[0], y - about[1]) for x, y in corners]
    return [(about[0] + x * cos - y * sin, about[1] + x * sin + y * cos) for x, y in moved]


def fill_runs(canvas: np.ndarray, counts: Sequence[int]) -> None:
    """Mark pixels, column by column as in COCO; `counts` are the lengths of unmarked and marked runs in turn."""
    if min(counts, default=0) < 0 or sum(counts) != canvas.size:
        raise ValueError(f"runs of {sum(counts)} pixels do not fill {canvas.shape[1]}x{canvas.shape[0]}")
    canvas |= np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(canvas.shape[::-1]).T


def coco_counts(text: str) -> list[int]:
    """Decode COCO's compressed runs, like `rleFrString` of cocoapi's common/maskApi.c.

    Each number has five bits in each character, lowest first, a sixth bit that tells whether more follow, and a sign;
    from the fourth number on it is the difference from the last but one.
    """
    counts: list[int] = []
    number = at = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or at == _MOST_CHARACTERS:
            raise ValueError("COCO's compressed runs are damaged")
        number |= (bits & 31) << 5 * at
        at += 1
        if not bits & 32:
            number -= 1 << 5 * at if bits & 16 else 0
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = at = 0
    if at:
        raise ValueError("COCO's compressed runs end within a number")
    return counts


def add_brush(canvas: np.ndarray, packed: bytes) -> None:
    """Mark the pixels painted by Label Studio's brush: those whose alpha, in packed RGBA, is not 0.

    The bits: number of values (32), bits of a value less 1 (5), four lengths of lengths less 1 (4 each). Then runs:
    whether it is one value (1), which length (2), number of values less 1, and the value or values. Follows
    `decode_rle` of label-studio-sdk's converter/brush.py, after the package rle-pack of thi.ng/umbrella.
    """
    bits = "".join(f"{byte:08b}" for byte in packed)
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("Label Studio's runs end within a number")
        return int(bits[at - count : at], 2)

    total = read(32)
    if total != 4 * canvas.size:
        raise ValueError(f"Label Studio's runs have {total} values, 4 for each of {canvas.size} pixels were expected")
    each = read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, bool)
    done = 0
    while done < total:
        same = read(1)
        end = done + 1 + read(lengths[read(2)])
        if end > total:
            raise ValueError("Label Studio's runs are longer than the image")
        values[done:end] = read(each) if same else [read(each) for _ in range(done, end)]
        done = end
    canvas |= values.reshape(*canvas.shape, 4)[:, :, 3]


def find_mask(folder: Path, image: Path) -> Path | None:
    """Find the mask of an image in a folder: NAME_mask.png, NAME.png or a file of the image's own name.

    For a slice, the mask is the slice of the same number in a volume of such a name, in any volume format.

    Raises DatasetError: a volume and its mask have different numbers of slices.
    """
    volume = volume_of(image)
    if volume is not None:
        return _mask_slice(folder, volume, slice_number(image))
    candidates = (folder / f"{image.stem}_mask.png", folder / f"{image.stem}.png", folder / image.name)
    return next((mask for mask in candidates if mask.is_file()), None)


def _mask_slice(folder: Path, volume: Path, number: int) -> Path | None:
    known = (*NIFTI_SUFFIXES, *TIFF_SUFFIXES)
    stem = next((volume.name[: -len(end)] for end in reversed(known) if volume.name.lower().endswith(end)), volume.name)
    names = [volume.name, *(f"{stem}{middle}{end}" for end in known for middle in ("_mask", ""))]
    mask = next((folder / name for name in names if is_volume(folder / name)), None)
    if mask is None:
        return None
    have, needed = len(slices_of(mask)), len(slices_of(volume))
    if have != needed:
        raise DatasetError(f"{mask} has {have} slices, {volume.name} has {needed}")
    return slice_path(mask, number)


def _add(canvas: np.ndarray, mask: np.ndarray, what: str) -> None:
    if mask.shape != canvas.shape:
        raise ValueError(f"{what} {mask.shape}, the image is {canvas.shape} (rows, columns)")
    canvas |= mask
