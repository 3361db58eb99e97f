"""Images that a program passes: paths, or images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgead.dataset.layouts.place import is_data_set
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.files import as_bgr, write_image
from edgead.images.inputs import Colour, OneImage, PathLike, each_image, is_there, read_image

Paths = PathLike | Sequence[PathLike]


def image_paths(images: Paths) -> list[Path]:
    """List the image files of a path, a folder, a pattern or several of these; refuse a path that is not there."""
    several = each_image(images)
    if several is None:
        path = named_path(images)  # type: ignore[arg-type]
        if not is_there(path):
            raise SettingsError(f"{path}: no such file or folder")
        return [path]
    found: list[Path] = []
    for image, _ in several:
        if not isinstance(image, (str, os.PathLike)):
            raise SettingsError(f"files or folders of images are needed, found {type(image).__name__}")
        whole = isinstance(images, Path) and image == images  # a volume that cannot be opened is its own only slice
        found += [Path(image)] if whole else image_paths(image)
    return found


def learnt_images(
    images: PathLike | Iterable[OneImage], colour: Colour | None, unwritten: Path
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of images to learn, with options that select in it; write images in memory to files first.

    Parameters
    ----------
    images : path, or iterable of what `Detector.predict` takes
        Folder or pattern; or several images, also as one array of shape (n, H, W, 3).
    colour : {"bgr", "rgb"}, optional
        Order of the channels of arrays, see `Detector.predict`.
    unwritten : Path
        Folder to write images to that are in memory.

    Raises
    ------
    SettingsError
        `images` is a single image, or empty.
    """
    if isinstance(images, (str, os.PathLike)) and is_data_set(named_path(images)):
        return named_path(images), {}
    several = each_image(images)
    if several is None:
        what = f"{images}: no such folder" if isinstance(images, (str, os.PathLike)) else "a single image is given"
        raise SettingsError(f"{what}: several images are needed, or a folder of them")
    paths = [_file(image, colour, unwritten / f"{number:06d}.png") for number, (image, _) in enumerate(several)]
    if not paths:
        raise SettingsError("no images are given: several images are needed, or a folder of them")
    return Path(os.path.commonpath([path.parent for path in paths])), {"paths": paths}


def _file(image: OneImage, colour: Colour | None, unwritten: Path) -> Path:
    if isinstance(image, (str, os.PathLike)):
        return Path(os.path.abspath(named_path(image)))
    write_image(unwritten, as_bgr(read_image(image, colour)))
    return unwritten
