"""Preprocessing: a BGR frame becomes the network's RGB image. The one file that knows colour order and resizing.

Training, calibration and every device call this function; no graph and no trainer has a resize of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from edgead.artifact.inputs import Alignment, Ignored
from edgead.artifact.manifest import Preprocessing
from edgead.errors import SettingsError
from edgead.heads.placing import Placer
from edgead.images.files import decode_image
from edgead.kernels import shrink

# What networks that learnt from photographs take for nothing: their mean colour.
_NEUTRAL_BGR = (104, 116, 124)
_LOOK_PX = 128
# From here on our shrinking is faster than OpenCV's, and the same but for roundings of a few pixels.
_OFTEN = 3


def preprocess(image: np.ndarray, spec: Preprocessing, out: np.ndarray | None = None) -> np.ndarray:
    """Align, crop to the region of interest, paint over what is ignored, resize, fill up and reorder to RGB.

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
        If the region of interest is not inside the image, or it is of another size than ignored places or the golden
        image are.
    """
    assert spec.tiles is None, "a frame that is cut has no single input"
    image = aligned(image, spec).image
    whole = image.shape[:2]
    rows, columns = covered(spec, image.shape)
    if spec.roi is not None:
        x, y, width, height = spec.roi
        if y + height > image.shape[0] or x + width > image.shape[1]:
            raise SettingsError(
                f"the region of interest x={x} y={y} {width}x{height} does not fit in an image of "
                f"{image.shape[1]}x{image.shape[0]}: this model expects frames of the size it was trained on"
            )
        image = cut(image, spec.roi)
    if spec.ignored is not None:
        image = _painted(image, spec.ignored, whole, spec.roi)
    image = _resize(image, rows.stop - rows.start, columns.stop - columns.start)
    height, width = spec.image_size
    if image.shape[:2] != (height, width):
        sides = (rows.start, height - rows.stop, columns.start, width - columns.stop)
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)


def inputs_of(spec: Preprocessing, shape: tuple[int, ...]) -> list[Preprocessing]:
    """How each input of a frame of this shape is prepared: `spec` itself, or one for each tile of an `aligned` frame.

    Raises
    ------
    SettingsError
        The frame, or its region of interest, is smaller than a tile, or takes too many.
    """
    if spec.tiles is None:
        return [spec]
    left, top, width, height = spec.region(shape)
    places = [(left + x, top + y, *size) for x, y, *size in spec.tiles.over((height, width))]
    return [spec.model_copy(update={"tiles": None, "alignment": None, "roi": place}) for place in places]


def cut(image: np.ndarray, region: Sequence[int] | None) -> np.ndarray:
    """The part (x, y, width, height) of an image that it has, as a view; all of it without a region."""
    if region is None:
        return image
    x, y, width, height = region
    return image[y : y + height, x : x + width]


def _painted(image: np.ndarray, ignored: Ignored, whole: tuple[int, ...], region: Sequence[int] | None) -> np.ndarray:
    """A copy of a region of a frame with ignored places in one colour: what is there reaches no network."""
    _check_size(ignored.frame_size, whole, "has places to ignore")
    left, top = (0, 0) if region is None else region[:2]
    polygons = [np.array(polygon, np.int32) - (left, top) for polygon in ignored.polygons]
    return cv2.fillPoly(image.copy(), polygons, _NEUTRAL_BGR)


def _check_size(size: tuple[int, int], shape: tuple[int, ...], what: str) -> None:
    if shape[:2] != size:
        raise SettingsError(
            f"the model {what} in frames of {size[1]}x{size[0]}, this one has {shape[1]}x{shape[0]}: it expects frames "
            "of the size it was trained on"
        )


@lru_cache(maxsize=128)  # as many as a large frame has tiles
def _hidden(ignored: Ignored, region: tuple[int, int, int, int] | None, map_shape: tuple[int, int]) -> np.ndarray:
    """Which pixels of a map (h, w) of a region show ignored places, bool."""
    mask = np.zeros(ignored.frame_size, np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, np.int32) for polygon in ignored.polygons], 1)
    shown = np.ascontiguousarray(cut(mask, region))
    return cv2.resize(shown, map_shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0


def map_of_frame(anomaly_map: np.ndarray, spec: Preprocessing, laid: Aligned) -> np.ndarray:
    """Bring a map of the network's input, or of all tiles, to the frame: without its reflection, as the frame lies.

    Ignored places have the lowest value of all others.

    Parameters
    ----------
    anomaly_map : ndarray of shape (h, w), float32 or float64
    spec : Preprocessing
    laid : Aligned
        The frame that the input was made of.

    Returns
    -------
    ndarray
        The map itself where there is nothing to do.
    """
    shape = laid.image.shape
    part = anomaly_map if spec.tiles is not None else anomaly_map[covered(spec, shape)]
    found = anomaly_map if part.shape == anomaly_map.shape else part.copy()
    if spec.ignored is not None:
        ignored = _hidden(spec.ignored, spec.roi, found.shape)
        counted = found if ignored.all() else found[~ignored]
        found = np.where(ignored, counted.min(), found)
    return laid.back(found, spec.region(shape))


@dataclass(frozen=True, slots=True)
class Aligned:
    """A frame whose part lies as the golden one does.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR
        The frame itself where the part was not found, or none is looked for.
    correlation : float or None
        With the golden image; None where no part is looked for.
    to_golden : ndarray of shape (2, 3), float64, or None
        Takes a pixel (x, y) of the frame to that of the golden image.
    found : bool
    """

    image: np.ndarray
    correlation: float | None = None
    to_golden: np.ndarray | None = None
    found: bool = True

    def back(self, anomaly_map: np.ndarray, region: Sequence[int]) -> np.ndarray:
        """Bring a map of a region (x, y, width, height) of the golden image to the same region of the frame.

        What the golden region does not show has the lowest value of the map.
        """
        if self.to_golden is None:
            return anomaly_map
        to_frame = _to_frame(region, anomaly_map.shape)
        to_map = np.linalg.inv(to_frame) @ np.vstack([self.to_golden, (0, 0, 1)]) @ to_frame
        return cv2.warpAffine(
            anomaly_map.astype(np.float32),  # OpenCV interpolates other numbers by steps of a pixel's 32nd part
            to_map[:2],
            anomaly_map.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=float(anomaly_map.min()),
        )


def aligned(image: np.ndarray, spec: Preprocessing) -> Aligned:
    """Lay the part of a frame where the golden one lies, by shift and small rotation.

    It takes bounded time: the search is in images of 128 pixels, and of 40 steps.
    """
    if spec.alignment is None:
        return Aligned(image)
    _check_size(spec.alignment.frame_size, image.shape, "aligns parts")
    placer, shape = _placer(spec.alignment)
    transform, correlation = placer.place(_look(image, shape))
    if correlation < spec.alignment.least_correlation:
        return Aligned(image, correlation, found=False)
    to_frame = _to_frame((0, 0, image.shape[1], image.shape[0]), shape)
    to_golden = (to_frame @ np.vstack([transform, (0, 0, 1)]) @ np.linalg.inv(to_frame))[:2]
    laid = cv2.warpAffine(
        image, to_golden, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return Aligned(laid, correlation, to_golden)


def alignment_to(golden: np.ndarray) -> Alignment:
    """Make the section that has parts laid where the one in this image, uint8 BGR, lies.

    Raises
    ------
    SettingsError
        The image shows one grey: nothing in it lies anywhere.
    """
    height, width = golden.shape[:2]
    factor = min(1.0, _LOOK_PX / max(height, width))
    look = _look(golden, (max(1, round(height * factor)), max(1, round(width * factor))))
    if not look.std():
        raise SettingsError("the golden image shows one grey alone: take one of a good part, to lay others onto")
    text = base64.b64encode(cv2.imencode(".png", look)[1].tobytes()).decode()
    return Alignment(frame_size=(height, width), look=text)


def _look(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Grey levels of a frame in few pixels, uint8 (h, w)."""
    return cv2.cvtColor(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)


@lru_cache(maxsize=16)
def _placer(alignment: Alignment) -> tuple[Placer, tuple[int, int]]:
    try:
        content = base64.b64decode(alignment.look, validate=True)
        look = decode_image(content, max_megapixels=_LOOK_PX**2 / 1e6)[..., 0]
    except ValueError as error:
        raise SettingsError(f"the golden image that parts are laid onto is damaged: {error}; train it again") from error
    return Placer(look), look.shape


def _to_frame(region: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Take a pixel (x, y, 1) of an image of shape (h, w) to that of the region (x, y, width, height) that it shows."""
    across, down = region[2] / shape[1], region[3] / shape[0]
    left, top = region[0] + across / 2 - 0.5, region[1] + down / 2 - 0.5
    return np.array([[across, 0, left], [0, down, top], [0, 0, 1]])


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
    if all(now >= _OFTEN * then for now, then in zip(image.shape, shrunk, strict=False)):
        image = shrink(image, shrunk)
    elif image.shape[:2] != shrunk:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image
