"""Folder of the kept images, whose subfolders are named in order of arrival."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgead.files.atomic import UNFINISHED, write_whole
from edgead.images.files import lossless_suffix

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHELF = re.compile(r"[0-9]{8}")
LOSSLESS = ("frame.png", "frame.tiff")
FRAMES = (*LOSSLESS, "frame.jpg")  # the judged frame, first as it was captured
_IMAGE = re.compile(r"(before-[0-9]{3}|frame|heat|after-[0-9]{3})\.jpg|frame\.(png|tiff)")
_ORDER = {"before": 0, "frame": 1, "heat": 2, "after": 3}
_FULL_SHELF = 256


class ImageFolder:
    """Folder of images, `SHELF/ID/NAME.jpg`; lossless frames are `frame.png`, or `frame.tiff` for floats.

    A shelf is a numbered folder for some hundred ids, which begin with a time. If the clock was set back to before the
    shelf's first id, a new shelf begins. So names sort by arrival, except among neighbours, and the oldest images are
    found without the database if the disk is full. If several pipelines judge a capture, its second folder is `ID.2`.
    """

    def __init__(self, root: Path):
        self.root = root
        self.used = 0
        self._lock = threading.Lock()
        self._shelf: int | None = None
        self._on_shelf: list[str] = []

    def place(self, id: str) -> str | None:
        """Choose the folder for the images of a verdict, `SHELF/ID`; None if `id` is no id of edgead."""
        if not _ID.fullmatch(id):
            return None
        with self._lock:
            if self._shelf is None:
                self._shelf = 1 + max((int(shelf.name) for shelf in self._shelves()), default=0)
            elif len(self._on_shelf) == _FULL_SHELF or (self._on_shelf and id < self._on_shelf[0]):
                self._shelf, self._on_shelf = self._shelf + 1, []
            self._on_shelf.append(id)
            times = self._on_shelf.count(id)
            return f"{self._shelf:08d}/{id}" + (f".{times}" if times > 1 else "")

    def write(self, place: str, name: str, data: bytes) -> None:
        """Write an image atomically, so that it survives a power failure."""
        write_whole(self.root / place / name, data)
        with self._lock:
            self.used += len(data)

    def names(self, place: str) -> list[str]:
        """List the names of a verdict's images: frames before, the frame, its heat map, frames after; no TIFF files."""
        try:
            names = (entry.name for entry in os.scandir(self.root / place))
            found = [name for name in names if _IMAGE.fullmatch(name)]
        except FileNotFoundError:
            return []
        return sorted(found, key=_in_time)

    def path(self, place: str, name: str) -> Path | None:
        """Return the file of an image; None if there is no image of that name."""
        if not _IMAGE.fullmatch(name):
            return None
        path = self.root / place / name
        return path if path.is_file() else None

    def frame(self, place: str) -> Path | None:
        """Return the file of the judged frame: lossless if it is kept so, otherwise JPEG; None if neither exists."""
        return next(filter(None, (self.path(place, name) for name in FRAMES)), None)

    def size(self, place: str) -> int:
        """Return the bytes of a verdict's images."""
        return _size(self.root / place)

    def remove(self, place: str) -> None:
        """Remove a verdict's images."""
        freed = self.size(place)
        shutil.rmtree(self.root / place, ignore_errors=True)
        with self._lock:
            self.used -= freed

    def oldest(self) -> Iterator[str]:
        """Yield the folders of verdicts, oldest first, and remove empty shelves."""
        for shelf in sorted(self._shelves()):
            places = sorted(entry.name for entry in os.scandir(shelf))
            yield from (f"{shelf.name}/{id}" for id in places)
            if int(shelf.name) != self._shelf and not any(shelf.iterdir()):
                shelf.rmdir()

    def tidy(self) -> None:
        """Measure the size of the folder, and remove unfinished files of a killed process."""
        used = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(UNFINISHED):
                    os.unlink(path)
                else:
                    used += os.path.getsize(path)
        with self._lock:
            self.used += used

    def _shelves(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return [Path(entry) for entry in os.scandir(self.root) if _SHELF.fullmatch(entry.name) and entry.is_dir()]


def lossless_name(image: np.ndarray) -> str:
    """Return the name of the file that keeps a frame without loss."""
    return f"frame{lossless_suffix(image)}"


def _in_time(name: str) -> tuple[int, int, str]:
    kind, _, number = name.partition(".")[0].partition("-")
    steps = int(number or 0)
    return _ORDER[kind], -steps if kind == "before" else steps, name


def _size(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except FileNotFoundError:
        return 0
