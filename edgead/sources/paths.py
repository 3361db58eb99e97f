"""What a path names as a source: a video, an image, a folder of images or a glob."""

from __future__ import annotations

import glob
from pathlib import Path

from edgead.components.options import Section
from edgead.images.files import is_image_path
from edgead.sources.contract import Source, SourceError
from edgead.sources.folder import FolderSource
from edgead.sources.live import Limits
from edgead.sources.registry import register
from edgead.sources.video import VideoSource
from edgead.uri import without_credentials


class PathOptions(Section):
    """A video file, an image, a folder of images or a glob such as `parts/*.png`: each frame once."""


def open_path(text: str, options: PathOptions, limits: Limits) -> Source:
    """Open what a path names.

    Raises
    ------
    SourceError
        There is nothing of that name, or nothing that can be read.
    """
    path = Path(text)
    matches = glob.has_magic(text) and not path.exists()
    if not matches and not path.exists():
        raise SourceError(f"{without_credentials(text)}: no such file or folder")
    source = FolderSource if matches or path.is_dir() or is_image_path(path) else VideoSource
    return source(text, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)


register("path", PathOptions, open_path, schemes={}, has_query=False)
