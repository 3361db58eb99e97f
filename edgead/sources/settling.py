"""Settling of frames: all consumers of a frame confirm that its verdict is recorded, or that it gets none."""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable


@runtime_checkable
class SettlingSource(Protocol):
    """Source that keeps the image of a frame until the frame is settled.

    `holds`: whether a frame waits for `settle`. Otherwise it is settled when the next frame is requested.
    """

    holds: bool

    def settle(self, id: str, *, judged: bool = True) -> None:
        """Release the image of a frame, which has a verdict if it was judged; from any thread, and more than once."""


class Unsettled:
    """Counter of the consumers of each frame, which settles the frame when all have confirmed; safe from any thread."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[SettlingSource, int, bool]] = {}
        self._changing = threading.Lock()

    def add(self, id: str, source: SettlingSource, takers: int) -> None:
        """Register a frame and how many consumers must confirm it; without consumers its image is released at once."""
        if not takers:
            source.settle(id)
            return
        with self._changing:
            self._left[id] = source, takers, False

    def settle(self, id: str, *, judged: bool = True) -> None:
        """Record that one more consumer has confirmed a frame, with a verdict or without."""
        with self._changing:
            if id not in self._left:
                return
            source, takers, before = self._left.pop(id)
            judged = judged or before
            if takers > 1:
                self._left[id] = source, takers - 1, judged
                return
        source.settle(id, judged=judged)
