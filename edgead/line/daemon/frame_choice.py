"""Choice of the frames that a pipeline judges: a trigger or a request asks for them, and names their parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue

from edgead.errors import EdgeadError, NotNowError, NoVerdictInTimeError, SettingsError
from edgead.line.daemon.part_code import PartCode
from edgead.line.site.schema import PipelineSection
from edgead.line.triggers import AnsweringTrigger, NamingTrigger, PartTrigger, RequestTrigger, Trigger, open_trigger
from edgead.types import NO_PART, Frame, Part, Verdict

Outcome = Verdict | EdgeadError
"""Outcome of a frame: its verdict, or the reason that it has none."""


class ImageRequests:
    """Requests of a pipeline that wait for verdicts; their images go through it one at a time.

    `pipeline`: name for the messages.
    """

    def __init__(self, pipeline: str):
        self._pipeline = pipeline
        self._one = threading.Lock()
        self._outcomes: SimpleQueue[tuple[str, Outcome]] | None = None

    def ask(self, offer: Callable[[], Frame], within_s: float) -> tuple[Frame, Verdict]:
        """Offer an image and wait for its verdict; called from any thread.

        `offer`: gives the image to the camera, and returns it as a frame.
        `within_s`: longest wait, in seconds, for the earlier images, and again for this image's verdict.
        Raises NotNowError: earlier images still wait.
        Raises NoVerdictInTimeError: the image was taken, but its verdict has not come.
        Raises EdgeadError: the image gets no verdict, and the message says why; or an error of `offer`.
        """
        if not self._one.acquire(timeout=within_s):
            raise NotNowError(f"{self._pipeline}: is busy with other images")
        try:
            outcomes = self._outcomes = SimpleQueue()
            frame = offer()
            outcome = self._await(outcomes, frame, time.monotonic() + within_s)
        finally:
            self._outcomes = None
            self._one.release()
        if isinstance(outcome, EdgeadError):
            raise outcome
        return frame, outcome

    def answer(self, frame: Frame, outcome: Outcome) -> bool:
        """Hand a frame's outcome to the waiting request; return False if none waits."""
        outcomes = self._outcomes
        if outcomes is not None:
            outcomes.put((frame.id, outcome))
        return outcomes is not None

    def _await(self, outcomes: SimpleQueue[tuple[str, Outcome]], frame: Frame, deadline_s: float) -> Outcome:
        try:
            while True:
                id, outcome = outcomes.get(timeout=max(0.0, deadline_s - time.monotonic()))
                if id == frame.id:  # others may use the same camera, or have given up waiting
                    return outcome
        except Empty:
            raise NoVerdictInTimeError(
                f"{self._pipeline}: the image was taken as {frame.id}, and its verdict is not there in time: ask for "
                "that verdict later, and do not send the image again"
            ) from None


class FrameSelection:
    """Choice of a pipeline's frames and naming of their parts, in its thread; any thread may read the counts."""

    def __init__(self, pipeline: str, section: PipelineSection):
        self._pipeline, self._section = pipeline, section
        code = section.part.code if section.part else None
        self._code = PartCode(pipeline, code) if code else None
        self._trigger: Trigger | None = None
        self._missed = 0  # parts that closed triggers had no frame for

    @property
    def missed(self) -> int:
        """Number of parts that were announced but got no frame."""
        trigger = self._trigger
        return self._missed + (trigger.missed if isinstance(trigger, PartTrigger) else 0)

    @property
    def codes(self) -> dict[str, int]:
        """Counts of part codes by outcome; empty if the pipeline reads no codes."""
        return dict(self._code.counts) if self._code is not None else {}

    @property
    def problem(self) -> str | None:
        """Reason why the trigger gets no requests; None if it does."""
        return self._trigger.problem if isinstance(self._trigger, AnsweringTrigger) else None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the trigger open during a block.

        Raises SettingsError: the trigger's connection cannot be opened, or a package is missing.
        """
        trigger = self._trigger = open_trigger(self._section.trigger)
        try:
            yield
        finally:
            self._trigger = None
            trigger.close()
            if isinstance(trigger, PartTrigger):  # with parts whose frame will not come any more
                self._missed += trigger.missed

    def close(self) -> None:
        """Stop reading codes."""
        if self._code is not None:
            self._code.close()

    def fire(self, part: Part) -> None:
        """Request the next frame that the camera captures, from any thread; SettingsError as in `Pipeline.fire`."""
        options, trigger = self._section.trigger, self._trigger
        if not options.on_request:
            kind = options.kind
            raise SettingsError(f"{self._pipeline}: its trigger is {kind}, which takes no requests; software does")
        if not isinstance(trigger, RequestTrigger):
            raise SettingsError(f"{self._pipeline}: is not running, it cannot be triggered")
        if isinstance(trigger, PartTrigger):
            trigger.fire(part=part)
        elif part != NO_PART:
            raise SettingsError(f"{self._pipeline}: its trigger {options.kind} takes requests, but no part's name")
        else:
            trigger.fire()

    def wanted(self, frame: Frame) -> Frame | None:
        """Return the frame with the name of its part; None if the trigger does not choose the frame."""
        trigger = self._trigger
        if trigger is None or not trigger.accepts(frame):
            return None
        if isinstance(trigger, NamingTrigger):
            frame = replace(frame, part=trigger.part)
        return frame if self._code is None else self._code.named(frame)

    def answer(self, verdict: Verdict | None) -> None:
        """Report the outcome of the last accepted frame to the trigger: its verdict, or None."""
        if isinstance(self._trigger, AnsweringTrigger):
            self._trigger.answer(verdict)
