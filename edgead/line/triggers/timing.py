"""Triggers by the time of capture only, on a clock that nobody can set."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.components.options import Seconds
from edgead.line.triggers.contract import TriggerOptions
from edgead.line.triggers.registry import register
from edgead.process.log_rate import limited_log
from edgead.types import NO_PART, Frame, Part

_MAX_CALLS = 1000

WithinMs = Annotated[
    float | None,
    Field(
        gt=0,
        le=86_400_000,
        description="Longest time from a call to the capture of its frame; later the call is void and its part is "
        "missed, as the camera would see the next part. By default a call waits for ever.",
    ),
]


class EveryFrameOptions(TriggerOptions):
    """Judge every frame, except frames that a newer one replaces first."""

    kind: Literal["every_frame"] = "every_frame"
    wants_all: ClassVar[bool] = True


class IntervalOptions(TriggerOptions):
    """Judge the first frame in each interval; setting the system's clock changes nothing."""

    kind: Literal["interval"]
    every_s: Annotated[Seconds, Field(description="Length of an interval.")]


class SoftwareOptions(TriggerOptions):
    """Judge the first frame that was captured after a call over HTTP, which may name the part."""

    kind: Literal["software"]
    within_ms: WithinMs = None
    on_request: ClassVar[bool] = True


class EveryFrameTrigger:
    """Trigger that accepts every frame."""

    def accepts(self, frame: Frame) -> bool:
        return True

    def close(self) -> None:
        pass


class IntervalTrigger:
    """Trigger that accepts the first frame of every interval; an interval without a frame is skipped."""

    def __init__(self, every_s: float):
        self._every_ns = round(every_s * 1e9)
        self._begin_ns: int | None = None
        self._last = -1

    def accepts(self, frame: Frame) -> bool:
        if self._begin_ns is None:
            self._begin_ns = frame.captured_ns
        # Counted from the first frame: if each interval began with a frame, it would grow by up to a frame's time.
        interval = (frame.captured_ns - self._begin_ns) // self._every_ns
        accepted = interval > self._last
        self._last = max(self._last, interval)
        return accepted

    def close(self) -> None:
        pass


class SoftwareTrigger:
    """Trigger that accepts the first frame captured after `fire`; of several calls before it, only the last one counts.

    A part is missed if another call follows before a frame, or if no frame follows in time: the trigger counts and logs
    it, and gives it no later frame.

    `within_ms`: time after which a call is void. With None a call waits for ever.
    `part`: part that the last accepted frame shows.
    `missed`: number of parts that were announced but got no frame.
    `log`: logger with a limited rate, since the rate of calls has no limit.
    """

    def __init__(self, within_ms: float | None = None) -> None:
        self.part = NO_PART
        self.missed = 0
        self.log = limited_log(__name__, most=20, within_s=60)
        self._within_ns = None if within_ms is None else round(within_ms * 1e6)
        self._lock = threading.Lock()
        self._calls: deque[tuple[int, Part]] = deque()

    def fire(self, at_ns: int | None = None, part: Part = NO_PART) -> None:
        """Request a frame; may be called from any thread.

        `at_ns`: `time.perf_counter_ns()` of the request; by default now.
        `part`: part that the frame will show.
        """
        with self._lock:
            self._calls.append((time.perf_counter_ns() if at_ns is None else at_ns, part))
            if len(self._calls) > _MAX_CALLS:
                self._miss(self._calls.popleft()[1], "too many calls wait for a frame")

    def accepts(self, frame: Frame) -> bool:
        with self._lock:
            calls = []
            # A call that came while this frame was on its way requests the next one.
            while self._calls and self._calls[0][0] <= frame.captured_ns:
                calls.append(self._calls.popleft())
            if not calls:
                return False
            at_ns, part = calls.pop()
            for _, other in calls:
                if other != part:  # otherwise it was requested again
                    self._miss(other, "the next call came before a frame")
            if self._within_ns is not None and frame.captured_ns - at_ns > self._within_ns:
                self._miss(part, f"its frame came {(frame.captured_ns - at_ns) / 1e6:.0f} ms after the call")
                return False
            self.part = part
            return True

    def close(self) -> None:
        with self._lock:
            while self._calls:
                self._miss(self._calls.popleft()[1], "the pipeline stopped before a frame came")

    def _miss(self, part: Part, why: str) -> None:
        if part != NO_PART:
            self.missed += 1
            self.log.warning("part %s has no frame: %s", part.serial or part, why, extra={"part": asdict(part)})


register("every_frame", EveryFrameOptions, lambda options: EveryFrameTrigger())
register("interval", IntervalOptions, lambda options: IntervalTrigger(options.every_s))
register("software", SoftwareOptions, lambda options: SoftwareTrigger(options.within_ms))
