"""Images from files: a folder, a glob or a single image, in natural order."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from edgead.components.uri import without_credentials
from edgead.images.files import MAX_MEGAPIXELS, ImageError, is_image_path, list_images, load_image, natural_key
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.types import Frame


class FolderSource:
    """The images that a folder, a glob or a path names, each once. An unreadable one is a fault."""

    live = False

    def __init__(
        self, pattern: str | Path, *, late_after_ms: float | None = None, max_megapixels: float = MAX_MEGAPIXELS
    ):
        self.uri = str(pattern)
        self.paths = _find(self.uri)
        self._frames = FrameCounter(self.uri, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
        self._max_megapixels = max_megapixels
        self._closed = False

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.paths[self._frames.captured :]:
            if self._closed:
                return
            try:
                image = load_image(path, max_megapixels=self._max_megapixels)
            except ImageError as error:
                raise SourceError(f"frame {self._frames.captured}: {error}") from error
            # A file's name need not be UTF-8, records are.
            name = path.name.encode("utf-8", "backslashreplace").decode()
            yield self._frames.hand_over(self._frames.capture(image, name))

    def close(self) -> None:
        self._closed = True


def _find(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file():
        return [path]
    if path.is_dir() or not glob.has_magic(pattern):
        try:
            return list_images(path)
        except ImageError as error:
            raise SourceError(str(error)) from None
    found = [Path(match) for match in glob.glob(pattern, recursive=True) if is_image_path(match)]
    if not found:
        raise SourceError(f"{without_credentials(pattern)}: no image matches")
    return sorted(found, key=natural_key)
