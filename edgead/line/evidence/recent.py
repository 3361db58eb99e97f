"""Newest judged frames, held in memory without loss, so that a part can be marked and kept after it has passed."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from edgead.images.pairs import judged_of
from edgead.line.evidence.settings import RecentSection
from edgead.types import Frame

_MB = 10**6


class RecentFrames:
    """Buffer of the newest frames, limited by number and bytes; safe from any thread.

    Frames are held uncompressed: compressing each would cost more time than the memory is worth, as few are ever
    requested.
    """

    def __init__(self, section: RecentSection):
        self._most_frames, self._most_bytes = section.frames, section.megabytes * _MB
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        return len(self._images)

    @property
    def bytes(self) -> int:
        return self._bytes

    def add(self, frame: Frame) -> None:
        """Hold a frame in place of the oldest frames; a frame larger than the whole buffer is not held."""
        image = judged_of(frame)
        size = image.nbytes
        if size > self._most_bytes or not self._most_frames:
            return
        with self._lock:
            if frame.id in self._images:  # another pipeline has judged the same capture
                return
            while self._images and (len(self._images) >= self._most_frames or self._bytes + size > self._most_bytes):
                self._bytes -= self._images.popitem(last=False)[1].nbytes
            self._images[frame.id] = image
            self._bytes += size

    def find(self, id: str) -> np.ndarray | None:
        """Return what was judged of a capture: an image, values or a pair; None if the frame is no longer held."""
        with self._lock:
            return self._images.get(id)
