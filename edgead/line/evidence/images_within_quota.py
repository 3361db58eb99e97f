"""Keeper of images: writes images of rejects and reviews, and deletes the oldest beyond the quota, in a thread."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgead.images.files import storable
from edgead.images.overlay import draw_heat
from edgead.images.pairs import judged_of
from edgead.line.evidence.folder import ImageFolder, lossless_name
from edgead.line.evidence.settings import FOLDER_MODE, StoreSection
from edgead.process.quiet_libraries import quiet_opencv
from edgead.process.restarting_thread import RestartingThread
from edgead.types import VALUES, Frame, Verdict

_MIB = 2**20
_MAX_WAITING = 256 * _MIB
# Frames that come later than this after a verdict do not count as following it.
_FOLLOW_S = 10.0


@dataclass(slots=True)
class _Waiting:
    place: str
    name: str
    draw: Callable[[], np.ndarray]
    size: int


@dataclass(slots=True)
class _Followed:
    place: str
    source: str
    judged_ns: int
    last_ns: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Counts of images: written, waiting, dropped for lack of space or time, and the bytes on the disk."""

    written: int
    waiting: int
    dropped: int
    used: int


class ImageKeeper:
    """Keeper of images as JPEG; marked parts, and frames of 16 bits or floats, are also kept without loss.

    When the disk is full, or too many images come, they are dropped and counted.
    """

    def __init__(self, section: StoreSection, folder: ImageFolder):
        self._problem: str | None = None
        self._section = section
        # Each option is of one format. A higher level of PNG takes five times as long for a tenth of the size.
        self._quality = [cv2.IMWRITE_JPEG_QUALITY, section.jpeg_quality, cv2.IMWRITE_PNG_COMPRESSION, 1]
        self._folder = folder
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._followed: list[_Followed] = []
        self._written = self._dropped = 0
        self._closing = self._in_work = self._is_tidy = False
        self._writing = threading.Lock()  # space is made for one image at a time
        self._changed = threading.Condition()
        self._thread = RestartingThread("evidence images", self._run)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Reason why images cannot be kept now, or None."""
        return self._problem or self._thread.problem

    def keep(self, place: str, frame: Frame, verdict: Verdict, before: Sequence[Frame]) -> None:
        """Queue the images of a verdict; never blocks."""
        earlier = before[len(before) - self._section.before :] if self._section.before < len(before) else before
        for steps, other in zip(range(len(earlier), 0, -1), earlier, strict=True):
            self._queue(place, f"before-{steps:03d}.jpg", other.image)
        self._queue(place, "frame.jpg", frame.image)
        if VALUES in frame.others:  # the judged values, which the image lacks
            judged = judged_of(frame)
            self._queue(place, lossless_name(judged), judged)
        self._queue(place, "heat.jpg", frame.image, lambda: draw_heat(frame.image, verdict))
        if self._section.after:
            with self._changed:
                self._followed.append(_Followed(place, frame.source, frame.captured_ns, frame.captured_ns))

    def follow(self, frame: Frame) -> None:
        """Queue a frame for each earlier verdict of its camera that still needs frames from after it; never blocks."""
        with self._changed:
            wanting = [
                followed
                for followed in self._followed
                if followed.source == frame.source and followed.last_ns < frame.captured_ns
            ]
            for followed in wanting:
                late = frame.captured_ns - followed.judged_ns > _FOLLOW_S * 1e9
                followed.last_ns = frame.captured_ns
                followed.kept = self._section.after if late else followed.kept + 1
                if not late:
                    self._queue(followed.place, f"after-{followed.kept:03d}.jpg", frame.image)
            if wanting:
                self._followed = [other for other in self._followed if other.kept < self._section.after]

    def keep_now(self, place: str, name: str, image: np.ndarray) -> bool:
        """Write an image while a person waits; return False if that fails, and `problem` says why."""
        written = self._write(_Waiting(place, name, lambda: image, image.nbytes))
        with self._changed:
            self._written += written
            self._dropped += not written
        return written

    @property
    def counts(self) -> ImageCounts:
        with self._changed:
            return ImageCounts(self._written, len(self._waiting) + self._in_work, self._dropped, self._folder.used)

    def close(self, within_s: float) -> None:
        """Write the queued images, as far as the time allows."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(within_s)
        with self._changed:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def _queue(self, place: str, name: str, image: np.ndarray, draw: Callable[[], np.ndarray] | None = None) -> None:
        with self._changed:
            if self._closing or self._waiting_bytes + image.nbytes > _MAX_WAITING:
                self._dropped += 1
                return
            self._waiting.append(_Waiting(place, name, draw or (lambda: image), image.nbytes))
            self._waiting_bytes += image.nbytes
            self._changed.notify()

    def _run(self) -> None:
        self._tidy()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                waiting = self._waiting.popleft()
                self._waiting_bytes -= waiting.size
                self._in_work = True
            written = False
            try:
                written = self._write(waiting)
            finally:
                with self._changed:
                    self._written += written
                    self._dropped += not written
                    self._in_work = False

    def _tidy(self) -> None:
        if self._is_tidy:  # images written since are counted already
            return
        self._is_tidy = True
        try:
            self._folder.tidy()
        except OSError as error:
            self._problem = f"{self._folder.root}: {error.strerror}"

    def _write(self, waiting: _Waiting) -> bool:
        try:
            self._folder.root.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._folder.root.mkdir(exist_ok=True)
            free_mib = shutil.disk_usage(self._folder.root).free // _MIB
            if free_mib < self._section.free_mib:
                self._problem = f"{free_mib} MiB of the disk are free, less than free_mib={self._section.free_mib}"
                return False
            data = self._encode(waiting)
            if data is None:
                self._problem = f"{waiting.name} of {waiting.place} cannot be written as an image"
                return False
            with self._writing:
                self._make_room(len(data), waiting.place)
                self._folder.write(waiting.place, waiting.name, data)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._problem = "the disk is full" if full else f"{self._folder.root}: {error.strerror}"
            return False
        self._problem = None
        return True

    def _encode(self, waiting: _Waiting) -> bytes | None:
        try:
            with quiet_opencv():
                encoded, data = cv2.imencode(os.path.splitext(waiting.name)[1], storable(waiting.draw()), self._quality)
        except cv2.error:
            return None
        return data.tobytes() if encoded else None

    def _make_room(self, size: int, place: str) -> None:
        """Remove the oldest images until the new image fits the quota, but no image of the verdict at `place`."""
        most = self._section.most_mib * _MIB
        if self._folder.used + size <= most:
            return
        for oldest in self._folder.oldest():
            # A little more than needed: otherwise every image would walk through the folders.
            if oldest == place or self._folder.used + size <= most - most // 50:
                return
            self._folder.remove(oldest)
