"""Strips: frames that follow each other, above one another in one image. What a detector of clips looks at.

The lowest frame is the one that is judged, those above it came before. A strip is an image like any other: it is kept
as a file, learnt, judged and shown as edgead does it with parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

GIVEN = 4
"""Frames that come before the one that is judged."""
FRAMES = GIVEN + 1
SIDE = 320
"""Pixels of the longer side of a frame in a strip, at most: strips that are kept, sent and shown stay small."""


def shrunk(frame: np.ndarray, side: int) -> np.ndarray:
    """A frame (h, w, 3) whose longer side is at most `side` pixels; itself where it is no larger."""
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return frame
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


class Ring:
    """The last frames of one stream; gives a strip from the fifth frame on.

    Parameters
    ----------
    side : int
        See `shrunk`.
    """

    def __init__(self, side: int = SIDE):
        self._side = side
        self._frames: deque[np.ndarray] = deque(maxlen=FRAMES)

    def clear(self) -> None:
        """Forget every frame: what comes next does not follow them."""
        self._frames.clear()

    def add(self, frame: np.ndarray) -> np.ndarray | None:
        """Take the next frame, uint8 BGR (h, w, 3); None while there are too few.

        A frame of another size begins a new stream.
        """
        frame = shrunk(frame, self._side)
        if self._frames and self._frames[-1].shape != frame.shape:
            self.clear()
        self._frames.append(frame)
        return np.concatenate(self._frames) if len(self._frames) == FRAMES else None


def strips(frames: Iterable[np.ndarray], side: int = SIDE) -> Iterator[np.ndarray]:
    """The strips of a clip, of whole frames in their order."""
    ring = Ring(side)
    for frame in frames:
        strip = ring.add(frame)
        if strip is not None:
            yield strip
