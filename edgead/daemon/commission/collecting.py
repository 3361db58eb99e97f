"""Good parts for a draft, taken beside the line: by the trigger of pipelines, or by time. Nobody waits for it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from edgead.process.restarting_thread import RestartingThread
from edgead.serialization.notice import News, Notice
from edgead.types import Frame

Mode = Literal["off", "trigger", "interval"]

_POLL_S = 0.2
_LOW_PRIORITY = 15


class Line(Protocol):
    """Where frames come from."""

    def newest(self) -> Frame | None:
        """Give the newest frame of the camera."""
        ...

    def judged(self) -> queue.Queue[News]:
        """Give a queue that gets what all pipelines judge from now on."""
        ...

    def is_of_camera(self, pipeline: str) -> bool:
        """Whether a pipeline judges the camera's frames."""
        ...


class Collector:
    """Takes frames in a thread of its own until it is stopped or `take` wants no more.

    Parameters
    ----------
    line : Line
    take : callable
        Gets a frame; False ends the collecting.
    every_s : float, optional
        One frame in each such time; by default those that a pipeline of the camera judges.
    """

    def __init__(self, line: Line, take: Callable[[Frame], bool], every_s: float | None):
        self._line, self._take, self.every_s = line, take, every_s
        self._stop = threading.Event()
        self._thread = RestartingThread("collect", self._run)
        self._thread.start()

    @property
    def mode(self) -> Mode:
        return "trigger" if self.every_s is None else "interval"

    def stop(self, within_s: float = 2.0) -> None:
        """Take no further frame."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        # Linux schedules threads one by one: this one gives way to those that judge.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        frames = self._judged() if self.every_s is None else self._timed(self.every_s)
        for frame in frames:
            if not self._take(frame):
                return

    def _timed(self, every_s: float) -> Iterator[Frame]:
        last = None
        while not self._stop.is_set():
            frame = self._line.newest()
            if frame is not None and frame is not last:
                last = frame
                yield frame
            self._stop.wait(every_s)

    def _judged(self) -> Iterator[Frame]:
        judged = self._line.judged()
        while not self._stop.is_set():
            try:
                news = judged.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(news, Notice):
                continue
            frame, verdict = news
            if self._line.is_of_camera(verdict.pipeline):
                yield frame
