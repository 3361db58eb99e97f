"""Strips: images of consecutive frames, stacked from oldest to newest, which a detector of clips takes as input.

The lowest frame is judged; the frames above it came before. A strip is an image like any other: edgead
stores, learns, judges and shows it as an image of a part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

GIVEN = 4
"""Number of frames before the judged frame."""
FRAMES = GIVEN + 1
SIDE = 320
"""Largest side in pixels of a frame in a strip, so that stored, sent and shown strips stay small."""


def shrunk(frame: np.ndarray, side: int) -> np.ndarray:
    """Shrink a frame (h, w, 3) so that its longer side is at most `side` pixels; a smaller frame is unchanged."""
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return frame
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


class Ring:
    """Buffer of the last frames of one stream, which gives a strip from the fifth frame on.

    `side`: see `shrunk`.
    """

    def __init__(self, side: int = SIDE):
        self._side = side
        self._frames: deque[np.ndarray] = deque(maxlen=FRAMES)

    def clear(self) -> None:
        """Remove all frames, because the next frame does not follow them."""
        self._frames.clear()

    def add(self, frame: np.ndarray) -> np.ndarray | None:
        """Add the next frame, uint8 BGR (h, w, 3), and return a strip, or None while there are too few frames.

        A frame of another size begins a new stream.
        """
        frame = shrunk(frame, self._side)
        if self._frames and self._frames[-1].shape != frame.shape:
            self.clear()
        self._frames.append(frame)
        return np.concatenate(self._frames) if len(self._frames) == FRAMES else None


def strips(frames: Iterable[np.ndarray], side: int = SIDE) -> Iterator[np.ndarray]:
    """Yield the strips of a clip from its frames in order."""
    ring = Ring(side)
    for frame in frames:
        strip = ring.add(frame)
        if strip is not None:
            yield strip
