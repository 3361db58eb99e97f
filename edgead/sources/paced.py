"""Pacing of a source that has no rate, such as a folder, to a number of frames per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from edgead.sources.contract import Counters, Source
from edgead.types import Frame

Rate = Annotated[
    float | None, Field(gt=0, le=1000, description="Frames per second; by default as fast as they are taken.")
]


class Ticker:
    """Timer with a number of ticks per second; after a delay it does not tick faster."""

    def __init__(self, rate: float):
        self._step_s = 1 / rate
        self._due_s = time.monotonic()
        self._ended = threading.Event()

    def wait(self) -> bool:
        """Wait for the next tick; return False if `end` was called."""
        self._ended.wait(self._due_s - time.monotonic())
        self._due_s = max(self._due_s, time.monotonic() - self._step_s) + self._step_s
        return not self._ended.is_set()

    def end(self) -> None:
        self._ended.set()


class PacedSource:
    """Source that limits a recording to a rate: each frame once; the next frame waits until the last was taken.

    A frame is read when it is due, so that its age counts from then.
    """

    live = False

    def __init__(self, source: Source, rate: float):
        self.uri = source.uri
        self._source = source
        self._pace = Ticker(rate)

    @property
    def counters(self) -> Counters:
        return self._source.counters

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        while self._pace.wait() and (frame := next(frames, None)) is not None:
            yield frame

    def close(self) -> None:
        self._pace.end()
        self._source.close()
