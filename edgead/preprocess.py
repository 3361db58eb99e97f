"""A BGR frame becomes the RGB image that the network sees. The one file that knows colour order and resizing.

Training, calibration and every device call this function; no graph and no trainer has a resize of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgead.artifact.manifest import Preprocessing
from edgead.errors import SettingsError


def preprocess(image: np.ndarray, spec: Preprocessing, out: np.ndarray | None = None) -> np.ndarray:
    """Crop to the region of interest, resize, fill up and reorder to RGB.

    The resize rule is `area_linear`: an axis that shrinks is averaged over the source pixels it covers, an axis
    that grows is interpolated linearly. OpenCV's INTER_AREA alone aliases when one axis shrinks and the other
    grows, so the shrinking comes first.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR
    spec : Preprocessing
        From the artifact's manifest; where that cuts frames, one of its `inputs_of` a frame.
    out : ndarray of shape (h, w, 3), uint8, C order, optional
        Written in place when given.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8, RGB, C order

    Raises
    ------
    SettingsError
        If the region of interest is not inside the image.
    """
    assert spec.tiles is None, "a frame that is cut has no single input"
    rows, columns = covered(spec, image.shape)
    if spec.roi is not None:
        x, y, width, height = spec.roi
        if y + height > image.shape[0] or x + width > image.shape[1]:
            raise SettingsError(
                f"the region of interest x={x} y={y} {width}x{height} does not fit in an image of "
                f"{image.shape[1]}x{image.shape[0]}: this model expects frames of the size it was trained on"
            )
        image = cut(image, spec.roi)
    image = _resize(image, rows.stop - rows.start, columns.stop - columns.start)
    height, width = spec.image_size
    if image.shape[:2] != (height, width):
        sides = (rows.start, height - rows.stop, columns.start, width - columns.stop)
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)


def inputs_of(spec: Preprocessing, shape: tuple[int, ...]) -> list[Preprocessing]:
    """How each input of a frame of this shape is prepared: one for each tile, or `spec` itself without tiles.

    Raises
    ------
    SettingsError
        The frame, or its region of interest, is smaller than a tile, or takes too many.
    """
    if spec.tiles is None:
        return [spec]
    left, top, width, height = spec.roi or (0, 0, shape[1], shape[0])
    places = [(left + x, top + y, *size) for x, y, *size in spec.tiles.over((height, width))]
    return [spec.model_copy(update={"tiles": None, "roi": place}) for place in places]


def cut(image: np.ndarray, region: Sequence[int] | None) -> np.ndarray:
    """The part (x, y, width, height) of an image that it has, as a view; all of it without a region."""
    if region is None:
        return image
    x, y, width, height = region
    return image[y : y + height, x : x + width]


def covered(spec: Preprocessing, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the network's input that show a frame of this shape, or its region of interest.

    All of them, unless the frame keeps its proportions (`spec.fill` is `reflect`): then it lies in the middle.
    """
    room_y, room_x = spec.image_size
    if spec.fill == "stretch":
        return slice(0, room_y), slice(0, room_x)
    height, width = shape[:2] if spec.roi is None else spec.roi[:1:-1]
    factor = min(room_y / height, room_x / width)
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (room_y - rows) // 2, (room_x - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrunk = (min(height, image.shape[0]), min(width, image.shape[1]))
    if image.shape[:2] != shrunk:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image
