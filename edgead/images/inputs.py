"""Conversion of image arguments of the Python API: files, folders, arrays, PIL images, torch tensors, and sequences.

PIL and torch are imported only by callers that pass one of their images.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.files import (
    ImageError,
    decode_image,
    is_image_path,
    list_images,
    load_image,
    natural_key,
    no_array,
    refuse_video,
)
from edgead.images.pairs import belongs_to_colours, colour_folder, load_deep
from edgead.images.volumes import is_volume, slices_of, volume_of

Colour = Literal["bgr", "rgb"]


class PilImage(Protocol):
    """`PIL.Image.Image`, recognised by its attributes without an import of PIL."""

    def getbands(self) -> tuple[str, ...]: ...


class TorchTensor(Protocol):
    """`torch.Tensor`, recognised by its attributes without an import of torch."""

    def detach(self) -> Any: ...


PathLike = str | os.PathLike[str]
OneImage = PathLike | bytes | bytearray | np.ndarray | PilImage | TorchTensor
"""One image: path, bytes, array, PIL image or tensor, as `read_image` takes it."""


def checked_colour(colour: str | None) -> str | None:
    """Validate and return an order of channels; raises SettingsError for an unknown one."""
    if colour is not None and colour not in get_args(Colour):
        raise SettingsError(f"colour={colour!r}: choose bgr (as OpenCV has it) or rgb (as PIL and torch have it)")
    return colour


def each_image(images: Any, *, recursive: bool = False) -> Iterator[tuple[Any, str]] | None:
    """Iterate over several images; None if `images` is a single one.

    `images` (path, array, or iterable of what `read_image` takes): a folder, or a file pattern with `*` or `?` (`**`
        matches any folders), in natural order; a volume; an array or tensor of four axes, the first of which counts
        images; an array of paths; any iterable.
    `recursive`: include the folders below a folder.
    Returns iterator of (image, str), or None: each image with its name, which is empty unless it is a file.
    Raises ImageError: a folder has no images, a pattern matches none, or it is a video.
    Raises SettingsError: the path is empty, or a URL.
    """
    if isinstance(images, (str, os.PathLike)):
        folder = named_path(images)
        refuse_video(folder)
        if is_volume(folder):
            return ((path, path.name) for path in slices_of(folder))
        if folder.is_dir():
            return _of_folder(folder if recursive else colour_folder(folder), recursive)
        if folder.exists() or not any(sign in str(folder) for sign in "*?"):
            return None
        images = _matching(folder)
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OU":
        images = images.tolist()
    if isinstance(images, np.ndarray) or _is_tensor(images):
        return ((image, "") for image in images) if images.ndim == 4 else None
    if isinstance(images, (bytes, bytearray, Mapping)) or _is_pil(images) or not isinstance(images, Iterable):
        return None
    if hasattr(images, "read"):  # an opened file, whose lines are no images
        return None
    listed = isinstance(images, (list, tuple)) and all(isinstance(image, (str, os.PathLike)) for image in images)
    if not (listed and images):
        return ((image, name_of(image)) for image in images)  # type: ignore[union-attr]
    # Without `..`, so that a name stays below the folder in which a verdict is saved.
    paths = [Path(os.path.abspath(named_path(image))) for image in images]
    root = os.path.commonpath([path.parent for path in paths])
    return ((image, path.relative_to(root).as_posix()) for image, path in zip(images, paths, strict=True))


def is_one(image: Any) -> bool:
    """Whether an argument has the type of a single image, or of a path."""
    return isinstance(image, (str, os.PathLike, bytes, bytearray, np.ndarray)) or _is_pil(image) or _is_tensor(image)


def check_type(image: Any) -> None:
    """Raise ImageError, naming the type, if `read_image` cannot take an argument of this type."""
    if image is None:
        raise ImageError(no_array(image))
    if not is_one(image):
        raise ImageError(
            "an image is a path, the bytes of an image file, a numpy array, a PIL image or a torch tensor, found "
            f"{type(image).__name__}"
        )


def check_given(image: Any) -> None:
    """Refuse an argument that cannot be an image, without reading it.

    Raises ImageError: the file is missing, it is a folder or a video, or of a type that `read_image` does not take.
    Raises SettingsError: the path is empty, or a URL.
    """
    if isinstance(image, (str, os.PathLike)):
        path = named_path(image)
        refuse_video(path)
        if path.is_dir():
            raise ImageError(f"{path} is a folder: give it alone, or its images")
        if not is_there(path):
            raise ImageError(f"{path}: no such file")
    else:
        check_type(image)


def is_there(path: Path) -> bool:
    """Whether a file or folder exists; the slice of a volume, which is no file itself, counts as existing."""
    return volume_of(path) is not None or path.exists()


def name_of(image: Any) -> str:
    """Name an image by its file; empty for images without a file."""
    return Path(image).name if isinstance(image, (str, os.PathLike)) else ""


def read_image(image: Any, colour: str | None = None, *, keep_depth: bool = False) -> np.ndarray:
    """Read one image from any supported argument.

    Parameters
    ----------
    image : path, bytes of an image file, ndarray, PIL image or torch tensor
        Arrays are (H, W), (H, W, 3) or (H, W, 4) and uint8 or uint16; tensors have their channels first, (3, H, W),
        and may be floats from 0 to 1 as well.
    colour : {"bgr", "rgb"}, optional
        Order of the channels of an array, by default BGR, or a tensor, by default RGB. Files and PIL images state
        theirs.
    keep_depth : bool
        Return a file of one channel with more than 8 bits as its values, and one with heights as a pair.

    Returns
    -------
    ndarray
        BGR, in a form that `edgead.images.files.as_bgr` takes.

    Raises
    ------
    ImageError
        The image cannot be read, or is of an unsupported type.

    Examples
    --------
    >>> read_image(np.array([[[255, 0, 10]]], np.uint8), "rgb").tolist()
    [[[10, 0, 255]]]
    """
    if isinstance(image, (str, os.PathLike)):
        path = named_path(image)
        return load_deep(path) if keep_depth else load_image(path)
    if isinstance(image, (bytes, bytearray)):
        return decode_image(bytes(image), keep_depth=keep_depth)
    if _is_pil(image):
        return in_bgr(_of_pil(image), "rgb")
    if _is_tensor(image):
        return in_bgr(_of_tensor(image), colour or "rgb")
    check_type(image)
    return in_bgr(image, colour)


def in_bgr(array: np.ndarray, colour: str | None) -> np.ndarray:
    """Convert RGB or RGBA, (H, W, 3 or 4), to BGR; return anything else as it is."""
    if checked_colour(colour) != "rgb" or getattr(array, "ndim", 0) != 3 or array.shape[2] < 3:
        return array
    return array[:, :, 2::-1]


def _matching(pattern: Path) -> list[Path]:
    found = sorted(filter(is_image_path, map(Path, glob(str(pattern), recursive=True))), key=natural_key)
    if not found:
        raise ImageError(f"{pattern} matches no images")
    return found


def _of_folder(folder: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    if not recursive:
        try:
            return ((path, path.name) for path in list_images(folder))
        except ImageError as error:
            below = any(is_image_path(path) and path.is_file() for path in folder.rglob("*"))
            raise ImageError(f"{error}{', or give recursive=True' if below else ''}") from None
    try:
        found = [path for path in list_images(folder, below=True) if not belongs_to_colours(path)]
    except ImageError:
        raise ImageError(f"{folder}: no images found, nor in the folders below it") from None
    return ((path, path.relative_to(folder).as_posix()) for path in found)


def _is_pil(thing: Any) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(thing, module.Image)


def _is_tensor(thing: Any) -> bool:
    module = sys.modules.get("torch")
    return module is not None and isinstance(thing, module.Tensor)


def _of_pil(image: Any) -> np.ndarray:
    from PIL import ImageOps  # already loaded by the caller

    image = ImageOps.exif_transpose(image)  # as `load_image` does
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)
    # In 32-bit modes Pillow would clip values above 255: these images are not converted, and refused with a message.
    return np.array(image if image.mode in ("L", "RGB", "I", "F") else image.convert("RGB"))


def _of_tensor(tensor: Any) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    if array.ndim == 3:
        if array.shape[0] not in (1, 3, 4):
            raise ImageError(f"a tensor must be (3, H, W), (1, H, W) or (H, W), found shape {array.shape}")
        array = np.moveaxis(array, 0, 2)
    if not np.issubdtype(array.dtype, np.floating):
        return array
    if not (array.size and array.min() >= 0 and array.max() <= 1):  # false for NaN as well
        raise ImageError(
            "a tensor of floats must lie within 0 and 1, as torchvision's ToTensor gives it: leave the normalisation "
            "out, the model has its own"
        )
    return np.rint(255 * array).astype(np.uint8)
