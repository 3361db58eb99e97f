"""Pairs of a colour image and the heights of its pixels, as one array, float32 (H, W, 4): blue, green, red, height.

On disk a pair is one file of four channels, or two files of the same name: the colours in a folder `rgb`, the heights
in a folder `height`, or `xyz` as in MVTec 3D-AD, beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgead.images.files import (
    MAX_MEGAPIXELS,
    ImageError,
    as_bgr,
    as_values,
    has_depth,
    is_pair,
    load_image,
    visible_values,
)
from edgead.types import COLOUR, VALUES, Frame

COLOURS, HEIGHTS, MASKS = "rgb", ("height", "xyz"), "gt"
_SUFFIXES = (".tiff", ".tif", ".png", ".pgm")


def joined(image: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Combine a colour image and heights into a pair.

    `image` (ndarray of shape (H, W, 3), uint8, BGR): or another array that `as_bgr` takes.
    `heights`: ndarray of shape (H, W), uint16 or float32.
    Returns ndarray of shape (H, W, 4), float32: the pair; 16-bit counts keep their values.
    Raises ImageError: the sizes differ, or an array is of another kind.
    """
    image, heights = as_bgr(image), as_values(heights)
    if image.shape[:2] != heights.shape:
        raise ImageError(
            f"the colours are {image.shape[1]} x {image.shape[0]} pixels, the heights {heights.shape[1]} x "
            f"{heights.shape[0]}: give registered images of one size"
        )
    return np.dstack([image.astype(np.float32), heights.astype(np.float32, copy=False)])


def colours_in(pair: np.ndarray) -> np.ndarray:
    """Return the colour image of a pair, uint8 BGR (H, W, 3)."""
    return np.clip(np.rint(pair[..., :3]), 0, 255).astype(np.uint8)


def heights_in(pair: np.ndarray) -> np.ndarray:
    """Return the heights of a pair, float32 (H, W)."""
    return np.ascontiguousarray(pair[..., 3])


def judged_of(frame: Frame) -> np.ndarray:
    """Return the fullest data of a frame: a pair if it has colours and heights, else its values, else its image."""
    if COLOUR in frame.others:
        return joined(frame.others[COLOUR], frame.others[VALUES])
    return frame.others.get(VALUES, frame.image)


def shown_of(image: np.ndarray) -> np.ndarray:
    """Render an image, values or a pair without a model: uint8 BGR; of a pair, its colours."""
    if is_pair(image):
        return colours_in(image)
    return visible_values(image) if has_depth(image) else image


def colour_folder(folder: Path) -> Path:
    """Folder that holds the images of a folder: its subfolder `rgb`, if one of heights is beside `rgb`; else itself."""
    return folder / COLOURS if _height_folder(folder / COLOURS) else folder


def height_file(path: Path) -> Path | None:
    """Find the height file of a colour image; None if no folder of heights is beside the image's.

    Raises ImageError: the folder of heights has no file of that name.
    """
    folder = _height_folder(path.parent)
    if folder is None:
        return None
    found = next((file for suffix in _SUFFIXES if (file := folder / f"{path.stem}{suffix}").is_file()), None)
    if found is None:
        raise ImageError(
            f"{path}: its heights are missing: there is no {path.stem}{' or '.join(_SUFFIXES[::2])} in {folder}"
        )
    return found


def _height_folder(colours: Path) -> Path | None:
    if colours.name != COLOURS or not colours.is_dir():
        return None
    return next((folder for name in HEIGHTS if (folder := colours.parent / name).is_dir()), None)


def belongs_to_colours(path: Path) -> bool:
    """Whether a file holds the heights or the mask of a colour image beside it."""
    return path.parent.name in (*HEIGHTS, MASKS) and (path.parent.parent / COLOURS).is_dir()


def files_of(path: Path) -> list[Path]:
    """List the files that an image is read from: its own file, and its height file if there is one."""
    heights = height_file(path)
    return [path] if heights is None else [path, heights]


def load_deep(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read an image file with its depth, and with its heights if they are beside it.

    Returns a pair; or the result of `load_image` with `keep_depth`.
    Raises ImageError: see `load_image`; also if the heights are missing or of another size, or the file holds no
        heights.
    """
    path = Path(path)
    image = load_image(path, max_megapixels=max_megapixels, keep_depth=True)
    if image.ndim == 2 or is_pair(image) or (file := height_file(path)) is None:
        return image
    try:
        return joined(image, load_image(file, max_megapixels=max_megapixels, keep_depth=True))
    except ImageError as error:
        raise ImageError(f"{path} and {file}: {str(error).removeprefix(f'{file}: ')}") from error
