"""Preprocessing of a frame into the network's input: the only file that knows colour order, depth and resizing.

Training, calibration and every device call this function; no graph and no trainer has a resize of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from edgead.artifact.inputs import Alignment, Colour, Ignored
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.relief import HIDES_PX, Surface, channels_of, heights_of, known_of, shaded, surface_of
from edgead.errors import SettingsError
from edgead.heads.placing import Placer
from edgead.images.files import ImageError, as_bgr, as_values, decode_image, is_pair, load_image
from edgead.images.pairs import colours_in, heights_in, load_deep
from edgead.kernels import shrink
from edgead.kernels.resize_bands import Method, Resize, resize_bands

# Mean colour of photographs, which pretrained networks see as neutral.
NEUTRAL_BGR = (104, 116, 124)
_LOOK_PX = 128
# Above this size our shrinking is faster than OpenCV's; results differ by the rounding of a few pixels.
OFTEN = 3

Sides = tuple[int, int, int, int]
"""Padding of the network's input around a frame, in rows and columns: above, below, left, right."""


def preprocess(image: np.ndarray, spec: Preprocessing, out: np.ndarray | None = None) -> np.ndarray:
    """Align a frame, crop it, paint over ignored areas, resize, pad and reorder to RGB.

    The resize rule is `area_linear`: an axis that shrinks is averaged over the source pixels it covers, an axis
    that grows is interpolated linearly. OpenCV's INTER_AREA alone aliases when one axis shrinks and the other
    grows, so the shrinking comes first.

    `image` (ndarray of shape (H, W, 3), uint8, BGR): a frame as `as_frame` returns it; values, (H, W) uint16 or
        float32, if the spec keeps their depth.
    `spec`: from the artifact's manifest; with tiles, the element of `inputs_of` for one tile.
    `out` (ndarray of shape (h, w, 3), uint8, C order): written in place when given; float32 if the spec keeps the
        depth.
    Returns ndarray of shape (h, w, 3), uint8, RGB, C order: for values: float32, scaled so that good parts fill 0 to
        255, and not rounded. For a pair: (h, w, 6), the colours before the relief.
    Raises SettingsError: the region of interest is not inside the image, or the image has another size than the ignored
        areas or the golden image expect.
    Raises ImageError: nearly all heights are missing.
    """
    if not spec.keeps_depth:
        return prepared(*looked_at(image, spec), out)
    if spec.colour == "rgb_relief":
        both = [
            preprocess(each, of) for each, of in ((colours_in(image), _of_colours(spec)), (image, _of_heights(spec)))
        ]
        return _into(np.concatenate(both, axis=2, dtype=np.float32), out)
    if spec.relief is not None:
        return _into(channels_of(surface_in(image, spec), spec.relief), out)
    assert spec.grey16 is not None
    image, size, sides = looked_at(image, spec)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ImageError("it holds values that are NaN or infinite: only heights may have holes")
    grey = _filled_up(_resize_values(image.astype(np.float32), *size), sides)
    scale = 255 / (spec.grey16.high - spec.grey16.low)
    return _into(cv2.cvtColor((grey - np.float32(spec.grey16.low)) * np.float32(scale), cv2.COLOR_GRAY2BGR), out)


def prepared(image: np.ndarray, size: tuple[int, int], sides: Sides, out: np.ndarray | None = None) -> np.ndarray:
    """Resize and pad the result of `looked_at` to the network's input, uint8 RGB; `resize_steps` gives it to a GPU."""
    return cv2.cvtColor(_filled_up(_resize(image, *size), sides), cv2.COLOR_BGR2RGB, dst=out)


def _of_colours(spec: Preprocessing) -> Preprocessing:
    """Derive the preprocessing for the colours of a pair (colours with heights)."""
    return spec.model_copy(update={"colour": "rgb", "relief": None})


def _of_heights(spec: Preprocessing) -> Preprocessing:
    """Derive the preprocessing for the heights of a pair."""
    return spec.model_copy(update={"colour": "relief"})


def surface_in(image: np.ndarray, spec: Preprocessing) -> Surface:
    """Compute the surface in mm, at the network's input size, of a height map or a pair; see `preprocess`."""
    if is_pair(image):
        image, spec = heights_in(image), _of_heights(spec)
    assert spec.relief is not None
    image, size, sides = looked_at(image, spec)
    # Slopes are computed on the padded input: the reflected border has the mirrored slopes.
    mm = _filled_up(_resize_values(heights_of(image, spec.relief).mm, *size), sides)
    return surface_of(mm, spec.relief.sigma_px)


def looked_at(image: np.ndarray, spec: Preprocessing) -> tuple[np.ndarray, tuple[int, int], Sides]:
    """Align and crop a frame; return it, its height and width within the network's input, and the padding around it."""
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
        image = _painted(image, spec, whole)
    height, width = spec.image_size
    sides = (rows.start, height - rows.stop, columns.start, width - columns.stop)
    return image, (rows.stop - rows.start, columns.stop - columns.start), sides


def as_frame(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Convert an image to the frame that `preprocess` takes, without a copy if it already is one.

    `image`: an image that `as_bgr` takes; if the spec keeps the depth, (H, W) of uint16 or floats, or a pair: see
        `edgead.images.pairs`. If only heights are read, a pair becomes its heights.
    Raises ImageError: any other image, such as an 8-bit image if the spec keeps the depth.
    """
    return _in_colour(image, spec.colour)


def _in_colour(image: np.ndarray, colour: Colour) -> np.ndarray:
    if colour == "rgb":
        return as_bgr(image)
    pair = isinstance(image, np.ndarray) and is_pair(image)
    if colour == "rgb_relief":
        if not pair or not image.size:
            raise ImageError(
                "the model reads colours with heights (rgb_relief), this image has no heights: give a file in a folder "
                "rgb beside a folder height, or four channels of floats: blue, green, red, height"
            )
        return np.ascontiguousarray(image, np.float32)
    if pair and colour == "relief":
        return heights_in(image)
    if isinstance(image, np.ndarray) and (image.dtype == np.uint8 or (image.ndim == 3 and image.shape[2] > 1)):
        found = "8 bits" if image.dtype == np.uint8 else f"{image.shape[2]} channels"
        raise ImageError(
            f"the model reads images of one channel with 16 bits or floats ({colour}), this one has {found}: give "
            "PNG or TIFF files as the camera measured them"
        )
    return as_values(image)


def read_frame(path: str | Path, spec: Preprocessing) -> np.ndarray:
    """Read an image file as the frame that `preprocess` takes; raises ImageError with the file's name."""
    return read_in_colour(path, spec.colour)


def read_in_colour(path: str | Path, colour: Colour) -> np.ndarray:
    """Read an image file for a model of which only the colour mode is known yet; see `read_frame`."""
    image = load_image(path) if colour == "rgb" else load_deep(path)
    try:
        return _in_colour(image, colour)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def visible_image(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Render a frame for people: uint8 BGR (H, W, 3).

    Grey values are scaled by the range of good parts. Heights become a relief lit from the upper left with dark blue
    holes; colours with heights are lit in the same way, with holes as bright as flat areas.
    """
    if not spec.keeps_depth:
        return as_bgr(image)
    values = as_frame(image, spec)
    if spec.colour == "rgb_relief":
        relief, heights = _of_heights(spec), heights_in(values)
        assert spec.relief is not None
        light = np.where(known_of(heights, spec.relief), visible_image(heights, relief)[..., 0], 128)
        return np.clip(np.rint(values[..., :3] * (light[..., None] / 128)), 0, 255).astype(np.uint8)
    if spec.relief is not None:
        _, _, width, height = spec.region(values.shape)
        px = max(width / spec.image_size[1], height / spec.image_size[0])
        return shaded(values, spec.relief, max(px, 1.0))
    assert spec.grey16 is not None
    grey = (values.astype(np.float32) - spec.grey16.low) * (255 / (spec.grey16.high - spec.grey16.low))
    return as_bgr(np.clip(np.nan_to_num(grey), 0, 255).astype(np.uint8))


def holes_of(image: np.ndarray, spec: Preprocessing, grid: tuple[int, int]) -> np.ndarray | None:
    """Mask of the patches that show holes of a height map and so have no score, bool (h, w); None if there are none.

    Patches near a hole are masked too, as a network looks around a patch: the wider the hole, the farther. Single
    missing pixels are filled and mask nothing. In a pair the mask hides the colours with the heights: a patch has one
    score for both, and with filled heights that score was up to 60 % too high.
    """
    if spec.relief is None:
        return None
    if is_pair(image):
        image, spec = heights_in(image), _of_heights(spec)
    assert spec.relief is not None
    seen = cut(image, spec.roi)
    if spec.ignored is not None:
        seen = _painted(seen, spec, image.shape[:2])
    known = known_of(seen, spec.relief)
    if known.all():
        return None
    rows, columns = covered(spec, image.shape)
    share = np.ones(spec.image_size, np.float32)
    size = rows.stop - rows.start, columns.stop - columns.start
    share[rows, columns] = _resize_values(known.astype(np.float32), *size)
    hidden = np.zeros(spec.image_size, np.float32)
    for wide, reach in HIDES_PX:
        clear = (cv2.blur(share, (wide, wide), borderType=cv2.BORDER_REPLICATE) >= 0.5).astype(np.uint8)
        if not clear.all():
            hidden[cv2.distanceTransform(clear, cv2.DIST_L2, 3) <= reach] = 1
    holes = cv2.resize(hidden, grid[::-1], interpolation=cv2.INTER_AREA) > 0.5
    if holes.all():
        raise ImageError("its holes lie so near each other that no place is left to look at")
    return holes if holes.any() else None


def _into(image: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    if out is None:
        return np.ascontiguousarray(image)
    np.copyto(out, image, casting="no")
    return out


def _filled_up(image: np.ndarray, sides: Sides) -> np.ndarray:
    """Pad an image above, below, left and right with its reflection."""
    return cv2.copyMakeBorder(image, *sides, cv2.BORDER_REFLECT_101) if any(sides) else image


def _resize_values(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize float32 (H, W) by the rule `area_linear`, without rounding."""
    shrunk = (min(height, values.shape[0]), min(width, values.shape[1]))
    if values.shape != shrunk:
        values = cv2.resize(values, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return values


def inputs_of(spec: Preprocessing, shape: tuple[int, ...]) -> list[Preprocessing]:
    """List the preprocessing of each input of a frame of this shape: `spec` itself, or one for each tile.

    Raises SettingsError: the frame, or its region of interest, is smaller than a tile, or needs too many.
    """
    if spec.tiles is None:
        return [spec]
    left, top, width, height = spec.region(shape)
    places = [(left + x, top + y, *size) for x, y, *size in spec.tiles.over((height, width))]
    return [spec.model_copy(update={"tiles": None, "alignment": None, "roi": place}) for place in places]


def cut(image: np.ndarray, region: Sequence[int] | None) -> np.ndarray:
    """Crop a region (x, y, width, height) of an image, as a view; the whole image without a region."""
    if region is None:
        return image
    x, y, width, height = region
    return image[y : y + height, x : x + width]


def _painted(image: np.ndarray, spec: Preprocessing, whole: tuple[int, ...]) -> np.ndarray:
    """Copy a frame's region with the ignored areas painted in one colour, or as holes, so that no network sees them."""
    assert spec.ignored is not None
    polygons = polygons_in(spec, whole)
    if not spec.keeps_depth:
        return cv2.fillPoly(image.copy(), polygons, NEUTRAL_BGR)
    ignored = cv2.fillPoly(np.zeros(image.shape, np.uint8), polygons, 1) > 0
    grey = spec.grey16
    neutral = 0.0 if grey is None else (grey.low + grey.high) / 2
    return np.where(ignored, np.asarray(neutral).astype(image.dtype), image)


def polygons_in(spec: Preprocessing, whole: tuple[int, ...]) -> list[np.ndarray]:
    """Convert the ignored areas to coordinates of the frame's region: corners (x, y), int32 (n, 2) each."""
    assert spec.ignored is not None
    _check_size(spec.ignored.frame_size, whole, "has places to ignore")
    left, top = (0, 0) if spec.roi is None else spec.roi[:2]
    return [np.array(polygon, np.int32) - (left, top) for polygon in spec.ignored.polygons]


def _check_size(size: tuple[int, int], shape: tuple[int, ...], what: str) -> None:
    if shape[:2] != size:
        raise SettingsError(
            f"the model {what} in frames of {size[1]}x{size[0]}, this one has {shape[1]}x{shape[0]}: it expects frames "
            "of the size it was trained on"
        )


@lru_cache(maxsize=128)  # the number of tiles of a large frame
def hidden_in(ignored: Ignored, region: tuple[int, int, int, int] | None, map_shape: tuple[int, int]) -> np.ndarray:
    """Mask of a region's map, bool (h, w): true where a pixel shows an ignored area."""
    mask = np.zeros(ignored.frame_size, np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, np.int32) for polygon in ignored.polygons], 1)
    shown = np.ascontiguousarray(cut(mask, region))
    return cv2.resize(shown, map_shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0


def map_of_frame(anomaly_map: np.ndarray, spec: Preprocessing, laid: Aligned) -> np.ndarray:
    """Transform a map of the network's input, or of all tiles, to the frame: without padding, and unaligned.

    Ignored areas get the lowest value of the other pixels.

    `anomaly_map`: ndarray of shape (h, w), float32 or float64.
    `laid`: the frame from which the input was made.
    Returns the map itself if nothing has to be changed.
    """
    shape = laid.image.shape
    part = anomaly_map if spec.tiles is not None else anomaly_map[covered(spec, shape)]
    found = anomaly_map if part.shape == anomaly_map.shape else part.copy()
    if spec.ignored is not None:
        ignored = hidden_in(spec.ignored, spec.roi, found.shape)
        counted = found if ignored.all() else found[~ignored]
        found = np.where(ignored, counted.min(), found)
    return laid.back(found, spec.region(shape))


@dataclass(frozen=True, slots=True)
class Aligned:
    """Frame registered with the golden image, so that its part lies as the golden part does.

    `image` (ndarray of shape (H, W, 3), uint8, BGR): the frame itself if the part was not found, or the model has no
        alignment.
    `correlation`: correlation with the golden image; None without alignment.
    `to_golden` (ndarray of shape (2, 3), float64): transform of a pixel (x, y) of the frame to the golden image.
    """

    image: np.ndarray
    correlation: float | None = None
    to_golden: np.ndarray | None = None
    found: bool = True

    def back(self, anomaly_map: np.ndarray, region: Sequence[int]) -> np.ndarray:
        """Transform a map of a region (x, y, width, height) of the golden image to the same region of the frame.

        Pixels that the golden region does not show get the lowest value of the map.
        """
        if self.to_golden is None:
            return anomaly_map
        to_frame = _to_frame(region, anomaly_map.shape)
        to_map = np.linalg.inv(to_frame) @ np.vstack([self.to_golden, (0, 0, 1)]) @ to_frame
        return cv2.warpAffine(
            anomaly_map.astype(np.float32),  # OpenCV interpolates other types in steps of 1/32 pixel
            to_map[:2],
            anomaly_map.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=float(anomaly_map.min()),
        )


def aligned(image: np.ndarray, spec: Preprocessing) -> Aligned:
    """Register the part of a frame with the golden part, by shift and small rotation.

    Time is bounded: the search takes at most 40 steps in images of 128 pixels.
    """
    if spec.alignment is None:
        return Aligned(image)
    _check_size(spec.alignment.frame_size, image.shape, "aligns parts")
    placer, shape = _placer(spec.alignment)
    transform, correlation = placer.place(_look(image, shape))
    if not correlation >= spec.alignment.least_correlation:  # also true for NaN
        return Aligned(image, correlation, found=False)
    to_frame = _to_frame((0, 0, image.shape[1], image.shape[0]), shape)
    to_golden = (to_frame @ np.vstack([transform, (0, 0, 1)]) @ np.linalg.inv(to_frame))[:2]
    laid = cv2.warpAffine(
        image, to_golden, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return Aligned(laid, correlation, to_golden)


def alignment_to(golden: np.ndarray) -> Alignment:
    """Make the manifest section by which parts are registered with the part in this golden image, uint8 BGR.

    Raises SettingsError: the image has a single grey level, so that nothing can be registered with it.
    """
    height, width = golden.shape[:2]
    factor = min(1.0, _LOOK_PX / max(height, width))
    look = _look(golden, (max(1, round(height * factor)), max(1, round(width * factor))))
    if not look.std():
        raise SettingsError("the golden image shows one grey alone: take one of a good part, to lay others onto")
    text = base64.b64encode(cv2.imencode(".png", look)[1].tobytes()).decode()
    return Alignment(frame_size=(height, width), look=text)


def _look(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Shrink a frame to grey levels, uint8 (h, w), for the registration."""
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
    """Matrix from pixels (x, y, 1) of an image of shape (h, w) to the region (x, y, width, height) that it shows."""
    across, down = region[2] / shape[1], region[3] / shape[0]
    left, top = region[0] + across / 2 - 0.5, region[1] + down / 2 - 0.5
    return np.array([[across, 0, left], [0, down, top], [0, 0, 1]])


def covered(spec: Preprocessing, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the network's input that are not padding, for a frame of this shape.

    There is padding only if the frame keeps its proportions (`spec.fill` is `reflect`): then the frame lies in the
    middle.
    """
    room_y, room_x = spec.image_size
    if spec.fill == "stretch":
        return slice(0, room_y), slice(0, room_x)
    height, width = shape[:2] if spec.roi is None else spec.roi[:1:-1]
    factor = min(room_y / height, room_x / width)
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (room_y - rows) // 2, (room_x - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def resize_steps(shape: tuple[int, int], size: tuple[int, int]) -> list[Resize]:
    """List the single resizes by which a GPU gets the same pixels as `area_linear`, for an image of shape (H, W).

    Raises ValueError: a side has more than 65535 pixels.
    """
    steps, now = [], shape
    for method, then in _methods(shape, size) or [("shrink", size)]:
        steps.append(resize_bands(method, now, then))
        now = then
    return steps


def _methods(shape: tuple[int, ...], size: tuple[int, int]) -> list[tuple[Method, tuple[int, int]]]:
    """List the steps of `area_linear` for an image of this shape: method and target size of each."""
    height, width = shape[:2]
    shrunk = min(size[0], height), min(size[1], width)
    methods: list[tuple[Method, tuple[int, int]]] = []
    if height >= OFTEN * shrunk[0] and width >= OFTEN * shrunk[1]:
        methods.append(("shrink", shrunk))
    elif shrunk != (height, width):
        methods.append(("area", shrunk))
    if shrunk != size:
        methods.append(("linear", size))
    return methods


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    for method, size in _methods(image.shape, (height, width)):
        if method == "shrink":
            image = shrink(image, size)
        else:
            image = cv2.resize(image, size[::-1], interpolation=_INTERPOLATION[method])
    return image


_INTERPOLATION: dict[Method, int] = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
