"""Settling of frames: whoever took one says that it has its verdict on record, or gets none."""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable


@runtime_checkable
class SettlingSource(Protocol):
    """A source that lets go of a frame's image only once the frame is settled.

    Attributes
    ----------
    holds : bool
        Whether a frame waits for `settle`. Else the one before is settled when the next one is asked for.
    """

    holds: bool

    def settle(self, id: str) -> None:
        """Let go of the image of a frame; from any thread, of one that is settled already too."""


class Unsettled:
    """Frames that went to several takers, and are settled once each of them has said so; safe from any thread."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[SettlingSource, int]] = {}
        self._changing = threading.Lock()

    def add(self, id: str, source: SettlingSource, takers: int) -> None:
        """Wait for the takers of a frame; one that nobody takes is settled at once."""
        if not takers:
            source.settle(id)
            return
        with self._changing:
            self._left[id] = source, takers

    def settle(self, id: str) -> None:
        """Note that one more taker of a frame is done with it."""
        with self._changing:
            if id not in self._left:
                return
            source, takers = self._left.pop(id)
            if takers > 1:
                self._left[id] = source, takers - 1
                return
        source.settle(id)
