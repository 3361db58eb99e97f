"""Source of a path: a video, an image, a folder of images or a glob."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edgead.components.options import NoOptions, Section
from edgead.components.registry import read_options
from edgead.components.uri import without_credentials
from edgead.errors import SettingsError
from edgead.images.files import is_image_path
from edgead.sources.contract import Source, SourceError
from edgead.sources.folder import FolderSource
from edgead.sources.live import Limits
from edgead.sources.paced import PacedSource, Rate
from edgead.sources.registry import SOURCES, register
from edgead.sources.video import VideoSource

# A ? in a glob stands for any character: options are what ends the text and has a name and a value.
_QUERY = re.compile(r"\?([A-Za-z_]+=[^?/]*)$")


class PathOptions(Section):
    """A video file, an image, a folder of images or a glob such as `parts/*.png?rate=4`: each frame once."""

    rate: Rate = None


def open_path(text: str, _: NoOptions, limits: Limits) -> Source:
    """Open what a path names; with `?rate=` it gives so many frames a second at most.

    Raises
    ------
    SourceError
        There is nothing of that name, nothing that can be read, or an option does not fit.
    """
    text, query = split_options(text)
    path, shown = Path(text), without_credentials(text)
    matches = glob.has_magic(text) and not path.exists()
    if not matches and not path.exists():
        raise SourceError(f"{shown}: no such file or folder")
    try:
        options: PathOptions = read_options(SOURCES.all()["path"], query, shown)
    except SettingsError as error:
        raise SourceError(str(error)) from None
    kind = FolderSource if matches or path.is_dir() or is_image_path(path) else VideoSource
    source = kind(text, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
    return source if options.rate is None else PacedSource(source, options.rate)


def split_options(text: str) -> tuple[str, str]:
    """Split a path from the options that follow it; a file that is called so has none."""
    found = None if Path(text).exists() else _QUERY.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


register("path", PathOptions, open_path, schemes={}, has_query=False)
