"""Images on the disk, in folders whose names show the order in which they came."""

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
FRAMES = (*LOSSLESS, "frame.jpg")  # what was judged, as it was captured first
_IMAGE = re.compile(r"(before-[0-9]{3}|frame|heat|after-[0-9]{3})\.jpg|frame\.(png|tiff)")
_ORDER = {"before": 0, "frame": 1, "heat": 2, "after": 3}
_FULL_SHELF = 256


class ImageFolder:
    """Places images as `SHELF/ID/NAME.jpg`, and those without loss as `frame.png`, or `frame.tiff` where it has floats.

    Shelves are numbered. One takes some hundred ids: where the clock has been set back, before the first of them, a new
    shelf begins. So the order of the names is that of arrival, but for neighbours, whatever the clock and the database
    say, and the oldest can be found when the disk is full. Where several pipelines judge a capture, its second folder
    is `ID.2`. No name is made of anything but ids and numbers.
    """

    def __init__(self, root: Path):
        self.root = root
        self.used = 0
        self._lock = threading.Lock()
        self._shelf: int | None = None
        self._on_shelf: list[str] = []

    def place(self, id: str) -> str | None:
        """Choose where the images of a verdict go, as `SHELF/ID`; None for an id that is none."""
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
        """Write an image atomically, also where the power fails."""
        write_whole(self.root / place / name, data)
        with self._lock:
            self.used += len(data)

    def names(self, place: str) -> list[str]:
        """The images of a verdict: those before it, itself, its heat map, those after; no page shows a TIFF of them."""
        try:
            names = (entry.name for entry in os.scandir(self.root / place))
            found = [name for name in names if _IMAGE.fullmatch(name)]
        except FileNotFoundError:
            return []
        return sorted(found, key=_in_time)

    def path(self, place: str, name: str) -> Path | None:
        """Find one image; None for every name that is not one of an image that is there."""
        if not _IMAGE.fullmatch(name):
            return None
        path = self.root / place / name
        return path if path.is_file() else None

    def frame(self, place: str) -> Path | None:
        """Find what was judged, as it was captured where it is kept so, else its JPEG."""
        return next(filter(None, (self.path(place, name) for name in FRAMES)), None)

    def size(self, place: str) -> int:
        """Sum the bytes of the images of a verdict."""
        return _size(self.root / place)

    def remove(self, place: str) -> None:
        """Remove the images of a verdict."""
        freed = self.size(place)
        shutil.rmtree(self.root / place, ignore_errors=True)
        with self._lock:
            self.used -= freed

    def oldest(self) -> Iterator[str]:
        """The places in the order in which they came; shelves that are empty go."""
        for shelf in sorted(self._shelves()):
            places = sorted(entry.name for entry in os.scandir(shelf))
            yield from (f"{shelf.name}/{id}" for id in places)
            if int(shelf.name) != self._shelf and not any(shelf.iterdir()):
                shelf.rmdir()

    def tidy(self) -> None:
        """Measure what is there and remove what a process that was killed left unfinished."""
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
    """Name of the file that keeps what was captured without loss."""
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
