"""Serial number of a part from a code in its frame; a slow reading never delays a verdict."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import SimpleQueue

import numpy as np

from edgead.images.codes import CodeReader
from edgead.line.site.part_naming import CodeSection
from edgead.process.log_rate import limited_log
from edgead.process.restarting_thread import RestartingThread
from edgead.types import Frame

_JOIN_S = 0.2


class _Asked:
    """Request to read a region of a frame, with the texts found there."""

    def __init__(self, image: np.ndarray):
        self.image = image
        self.texts: tuple[str, ...] = ()
        self.done = threading.Event()


class PartCode:
    """Reader of the code that names the part in each frame; one thread calls it, any may read its counts.

    Another thread reads the codes: the time depends on the image, and nothing can interrupt the reading.

    `pipeline`: name for the log.
    `counts`: "read"; "unread": no code, several, or none in time; "differs": read, but not the trigger's serial number.
    """

    def __init__(self, pipeline: str, section: CodeSection):
        self.counts = {"read": 0, "unread": 0, "differs": 0}
        self._pipeline, self._section = pipeline, section
        self._log = limited_log(__name__, most=20, within_s=60)
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._last: _Asked | None = None
        self._thread = RestartingThread(f"codes of {pipeline}", self._work)
        self._thread.start()

    def named(self, frame: Frame) -> Frame:
        """Return the frame with the serial number from its code; unchanged if no code can be read."""
        try:
            serial = self._read(frame.image)
            part = replace(frame.part, serial=serial)
        except ValueError as error:
            self.counts["unread"] += 1
            self._log.warning("%s: frame %d: its code is not read: %s", self._pipeline, frame.number, error)
            return frame
        self.counts["read"] += 1
        if frame.part.serial not in ("", serial):
            self.counts["differs"] += 1
            text = "%s: frame %d: its code says %s, its trigger said %s: the code counts"
            self._log.error(text, self._pipeline, frame.number, serial, frame.part.serial)
        return replace(frame, part=part)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(_JOIN_S)

    def _read(self, image: np.ndarray) -> str:
        """Read the only code in the region; raise ValueError with the reason if that fails."""
        x, y, width, height = self._section.region
        if y + height > image.shape[0] or x + width > image.shape[1]:
            raise ValueError(f"its region ends outside of the frame, {image.shape[1]} x {image.shape[0]} pixels")
        if self._last is not None and not self._last.done.is_set():
            raise ValueError("an earlier one is still being read")
        asked = self._last = _Asked(image[y : y + height, x : x + width].copy())
        self._queue.put(asked)
        if not asked.done.wait(self._section.within_ms / 1e3):
            raise ValueError(f"it takes longer than {self._section.within_ms:g} ms")
        if len(asked.texts) != 1:
            raise ValueError(f"{len(asked.texts)} codes are in its region" if asked.texts else "none is found")
        return asked.texts[0]

    def _work(self) -> None:
        reader = CodeReader(self._section.kinds)
        while (asked := self._queue.get()) is not None:
            try:
                asked.texts = reader.read(asked.image)
            finally:
                asked.done.set()
