"""Triggers that go by the time of capture alone, on the clock that nobody can set."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.components.options import Seconds
from edgead.triggers.contract import TriggerOptions
from edgead.triggers.registry import register
from edgead.types import NO_PART, Frame, Part


class EveryFrameOptions(TriggerOptions):
    """Judge every frame that is not overtaken by a newer one."""

    kind: Literal["every_frame"] = "every_frame"


class IntervalOptions(TriggerOptions):
    """Judge the first frame in each interval; a clock that is set changes nothing."""

    kind: Literal["interval"]
    every_s: Annotated[Seconds, Field(description="Length of an interval.")]


class SoftwareOptions(TriggerOptions):
    """Judge the first frame that was captured after a call over HTTP."""

    kind: Literal["software"]
    on_request: ClassVar[bool] = True


class EveryFrameTrigger:
    """Accepts every frame."""

    def accepts(self, frame: Frame) -> bool:
        return True

    def close(self) -> None:
        pass


class IntervalTrigger:
    """Accepts the first frame of every interval; an interval without a frame is not made up for."""

    def __init__(self, every_s: float):
        self._every_ns = round(every_s * 1e9)
        self._begin_ns: int | None = None
        self._last = -1

    def accepts(self, frame: Frame) -> bool:
        if self._begin_ns is None:
            self._begin_ns = frame.captured_ns
        # Counted from the first frame: intervals that began with a frame each would grow by the camera's.
        interval = (frame.captured_ns - self._begin_ns) // self._every_ns
        accepted = interval > self._last
        self._last = max(self._last, interval)
        return accepted

    def close(self) -> None:
        pass


class SoftwareTrigger:
    """Accepts the first frame that was captured after `fire`; calls before it comes are one, for the last one's part.

    Attributes
    ----------
    part : Part
        What the frame shows that was accepted last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fired: deque[tuple[int, Part]] = deque(maxlen=1000)
        self.part = NO_PART

    def fire(self, at_ns: int | None = None, part: Part = NO_PART) -> None:
        """Ask for a frame; may be called from any thread.

        Parameters
        ----------
        at_ns : int, optional
            `time.perf_counter_ns()` of what asks; the present by default.
        part : Part, optional
            What the frame will show.
        """
        with self._lock:
            self._fired.append((time.perf_counter_ns() if at_ns is None else at_ns, part))

    def accepts(self, frame: Frame) -> bool:
        asked = False
        with self._lock:
            # A call that came while this frame was on its way asks for the next one.
            while self._fired and self._fired[0][0] <= frame.captured_ns:
                self.part = self._fired.popleft()[1]
                asked = True
        return asked

    def close(self) -> None:
        pass


register("every_frame", EveryFrameOptions, lambda options: EveryFrameTrigger())
register("interval", IntervalOptions, lambda options: IntervalTrigger(options.every_s))
register("software", SoftwareOptions, lambda options: SoftwareTrigger())
