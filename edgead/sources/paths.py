"""Sources of paths: a video, an image, a volume, a folder of them in natural order, or a glob."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator
from pathlib import Path

from edgead.components.options import NoOptions, Section
from edgead.components.registry import read_options
from edgead.components.uri import split_options, without_credentials
from edgead.errors import SettingsError
from edgead.images.files import MAX_MEGAPIXELS, ImageError, is_image_path, list_images, natural_key
from edgead.images.pairs import colour_folder, load_deep
from edgead.images.volumes import is_volume, slices_of
from edgead.sources.contract import Counters, FrameCounter, Source, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.paced import PacedSource, Rate
from edgead.sources.registry import SOURCES, register
from edgead.sources.video import VideoSource
from edgead.types import Frame

logger = logging.getLogger(__name__)


class FolderSource:
    """Source of the images that a folder, a glob or a path names, each once.

    An unreadable image is logged, counted and skipped; it is a fault if no image can be read.
    """

    live = False

    def __init__(
        self, pattern: str | Path, *, late_after_ms: float | None = None, max_megapixels: float = MAX_MEGAPIXELS
    ):
        self.uri = str(pattern)
        self.paths = _find(self.uri)
        self._frames = FrameCounter(self.uri, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
        self._max_megapixels = max_megapixels
        self._unreadable = 0
        self._closed = False

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late, unreadable=self._unreadable)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.paths[self._frames.captured :]:
            if self._closed:
                return
            try:
                image = load_deep(path, max_megapixels=self._max_megapixels)
            except ImageError as error:
                logger.warning("frame %d: %s", self._frames.captured, error)
                self._frames.captured += 1  # a gap in the numbers, as the frames around it are not consecutive
                self._unreadable += 1
                if self._unreadable == len(self.paths):
                    raise SourceError(f"none of its images can be read, {len(self.paths)} in all: {error}") from error
                continue
            # A file's name may be invalid UTF-8, which records must not be.
            name = path.name.encode("utf-8", "backslashreplace").decode()
            yield self._frames.hand_over(self._frames.capture(image, name, keep_depth=True))

    def close(self) -> None:
        self._closed = True


def _find(pattern: str) -> list[Path]:
    path = Path(pattern)
    if is_volume(path):
        return slices_of(path)
    if path.is_file():
        return [path]
    if path.is_dir() or not glob.has_magic(pattern):
        try:
            return list_images(colour_folder(path))
        except ImageError as error:
            raise SourceError(str(error)) from None
    found: list[Path] = []
    for match in sorted(map(Path, glob.glob(pattern, recursive=True)), key=natural_key):
        if is_volume(match):
            found += slices_of(match)
        elif is_image_path(match):
            found.append(match)
    if not found:
        raise SourceError(f"{without_credentials(pattern)}: no image matches")
    return found


class PathOptions(Section):
    """Video file, image, volume, folder of images, or a glob such as `parts/*.png?rate=4`; each frame once."""

    rate: Rate = None


def open_path(text: str, _: NoOptions, limits: LiveLimits) -> Source:
    """Open the source of a path; `?rate=` limits its frames per second.

    Raises SourceError: the path does not exist or cannot be read, or an option is wrong.
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
    kind = FolderSource if matches or path.is_dir() or is_image_path(path) or is_volume(path) else VideoSource
    source = kind(text, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
    return source if options.rate is None else PacedSource(source, options.rate)


register("path", PathOptions, open_path, schemes={}, has_query=False)
