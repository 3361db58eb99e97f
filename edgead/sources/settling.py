"""Settling of frames: all consumers of a frame confirm that its verdict is recorded, or that it gets none."""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable


@runtime_checkable
class SettlingSource(Protocol):
    """Source that keeps the image of a frame until the frame is settled.

    `holds`: whether a frame waits for `settle`. Otherwise it is settled when the next one is requested.
    """

    holds: bool

    def settle(self, id: str) -> None:
        """Release the image of a frame; from any thread, and more than once."""


class Unsettled:
    """Counter of the consumers of each frame, which settles the frame when all have; safe from any thread."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[SettlingSource, int]] = {}
        self._changing = threading.Lock()

    def add(self, id: str, source: SettlingSource, takers: int) -> None:
        """Register a frame and how many consumers must confirm it; without consumers its image is released at once."""
        if not takers:
            source.settle(id)
            return
        with self._changing:
            self._left[id] = source, takers

    def settle(self, id: str) -> None:
        """Record that one more consumer has confirmed a frame."""
        with self._changing:
            if id not in self._left:
                return
            source, takers = self._left.pop(id)
            if takers > 1:
                self._left[id] = source, takers - 1
                return
        source.settle(id)
