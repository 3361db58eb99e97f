"""Types by which a program names images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.inputs import each_image
from edgead.images.volumes import is_volume

PathLike = str | os.PathLike[str]
Paths = PathLike | Sequence[PathLike]


def image_paths(images: Paths) -> list[Path]:
    """List the files of a path, a folder or several of both."""
    several = each_image(images)
    if several is None:
        return [named_path(images)]  # type: ignore[arg-type]
    found: list[Path] = []
    for image, _ in several:
        if not isinstance(image, (str, os.PathLike)):
            raise SettingsError(f"files or folders of images are needed, found {type(image).__name__}")
        found += image_paths(image) if Path(image).is_dir() or is_volume(Path(image)) else [Path(image)]
    return found
