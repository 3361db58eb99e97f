"""User's settings of areas to ignore, region of interest, and golden image for alignment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.artifact.inputs import Alignment, Ignored
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import aligned, alignment_to
from edgead.errors import SettingsError
from edgead.images.files import ImageError, load_image

Place = str | Path | np.ndarray
"""Area to ignore, in a form that `read_ignored` takes."""

_MAX_LOST = 0.1
_NUMBERS = re.compile(r"\s*\d+(\s*,\s*\d+)+\s*")


def with_places(
    spec: Preprocessing,
    ignore: Sequence[Place],
    align: str | Path | None,
    sizes: Mapping[tuple[int, int], Path | str],
) -> Preprocessing:
    """Add ignored areas and an alignment to a preprocessing.

    `ignore`: see `read_ignored`.
    `align`: see `read_alignment`.
    `sizes`: sizes (height, width) of the images, each with the name of an image of that size.
    Raises SettingsError: see `read_ignored` and `read_alignment`; or images differ in size.
    Raises ImageError: the golden image cannot be read.
    """
    if not ignore and align is None:
        return spec
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise SettingsError(
            f"--ignore and --align name places of images of one size, {one} has {first[1]}x{first[0]} pixels and "
            f"{other} {second[1]}x{second[0]}"
        )
    ((size, example),) = sizes.items()
    ignored, alignment = read_ignored(ignore, size, example), read_alignment(align, size, example)
    return spec.model_copy(update={"ignored": ignored, "alignment": alignment})


def read_ignored(asked: Sequence[Place], frame_size: tuple[int, int], example: Path | str) -> Ignored | None:
    """Read the areas to ignore in frames of a size (height, width).

    `asked`: X,Y,WIDTH,HEIGHT of a rectangle; X,Y,X,Y,X,Y,... the corners of a polygon; or a mask, as an image file or
        an array of shape (height, width), uint8: pixels that are not black are ignored.
    `example`: name of an image of that size, for errors.
    Raises SettingsError: an area is none of these or of another size, or nothing remains to judge.
    """
    if not asked:
        return None
    mask = np.zeros(frame_size, np.uint8)
    for one in asked:
        mask |= one if isinstance(one, np.ndarray) else _drawn(str(one), frame_size, example)
    if not mask.any():
        raise SettingsError(f"--ignore {asked[0]} covers no pixel of {example}: leave it out")
    if mask.all():
        raise SettingsError(f"--ignore covers all of {example}: leave something to look at")
    return Ignored(frame_size=frame_size, polygons=polygons_of(mask))


def read_region(
    numbers: Sequence[int], frame_size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], np.ndarray | None]:
    """Read a region of interest drawn on frames of a size (height, width).

    `numbers`: numbers of a rectangle or a polygon; see `read_ignored`.
    Returns x, y, width and height: the region itself, or the rectangle around its polygon.
    Returns ndarray of shape (height, width), uint8, or None: for a polygon only: 1 outside of it.
    Raises SettingsError: the region is neither, contains no pixel of the frame, or is a rectangle not inside the frame.
    """
    height, width = frame_size
    text = ",".join(map(str, numbers))
    mask = _drawn_polygon(text, list(numbers), frame_size)
    x, y, columns, rows = cv2.boundingRect(mask)
    if columns * rows == 0 or (len(numbers) == 4 and (x, y, columns, rows) != tuple(numbers)):
        raise SettingsError(f"the region {text} does not lie within frames of {width}x{height}: draw it again")
    return (x, y, columns, rows), None if len(numbers) == 4 else 1 - mask


def polygons_of(mask: np.ndarray) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Outline a mask, uint8 (h, w), so that `cv2.fillPoly` with all polygons at once restores it with its holes."""
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(tuple((int(x), int(y)) for x, y in contour[:, 0]) for contour in contours)


def _drawn(text: str, frame_size: tuple[int, int], example: Path | str) -> np.ndarray:
    if _NUMBERS.fullmatch(text):
        return _drawn_polygon(text, [int(number) for number in text.split(",")], frame_size)
    try:
        image = load_image(text)
    except ImageError as error:
        raise SettingsError(
            f"--ignore {text!r}: give X,Y,WIDTH,HEIGHT, or corners X,Y,X,Y,X,Y,..., or an image: {error}"
        ) from error
    if image.shape[:2] != frame_size:
        raise SettingsError(
            f"--ignore {text}: has {image.shape[1]}x{image.shape[0]} pixels, {example} has "
            f"{frame_size[1]}x{frame_size[0]}: draw it on one of the images"
        )
    return np.asarray(image.any(axis=2), np.uint8)


def _drawn_polygon(text: str, numbers: list[int], frame_size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(frame_size, np.uint8)
    if len(numbers) == 4:
        x, y, width, height = numbers
        mask[y : y + height, x : x + width] = 1
        return mask
    if len(numbers) < 6 or len(numbers) % 2:
        raise SettingsError(f"--ignore {text}: a polygon has three corners or more, each X,Y; a rectangle four numbers")
    return cv2.fillPoly(mask, [np.array(numbers, np.int32).reshape(-1, 2)], 1)


def read_alignment(golden: str | Path | None, frame_size: tuple[int, int], example: Path | str) -> Alignment | None:
    """Read the golden image that parts are aligned with.

    Raises SettingsError: it has another size than the images, or a single grey level.
    Raises ImageError: it cannot be read.
    """
    if golden is None:
        return None
    alignment = alignment_to(load_image(golden))
    if alignment.frame_size != frame_size:
        height, width = alignment.frame_size
        raise SettingsError(
            f"--align {golden}: has {width}x{height} pixels, {example} has {frame_size[1]}x{frame_size[0]}: take one "
            "of the images"
        )
    return alignment


def not_found_warnings(paths: Sequence[Path], spec: Preprocessing) -> list[str]:
    """List warnings for images whose part cannot be registered with the golden image's.

    Raises SettingsError: more than a tenth fail: the golden image does not resemble the others, or has no structure.
    """
    if spec.alignment is None:
        return []
    lost = [path for path in paths if not aligned(load_image(path), spec).found]
    if len(lost) > _MAX_LOST * len(paths):
        raise SettingsError(
            f"in {len(lost)} of {len(paths)} images, such as {lost[0]}, no part is found that is like the golden one: "
            "take another golden image, or leave out --align"
        )
    return [f"{path}: no part like the golden one is found: such an image goes to review" for path in lost]
