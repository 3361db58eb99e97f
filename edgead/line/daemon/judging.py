"""Judgement of a frame, which a trigger or a request chooses; the verdict is recorded, counted and sent.

Also the state of a pipeline, and the reason: a pipeline may have faults of several kinds at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from edgead.errors import EdgeadError, NotNowError, NoVerdictInTimeError, SettingsError
from edgead.images.likeness import Misfit
from edgead.line.daemon.active_model import Recipes
from edgead.line.daemon.drift import PipelineDrift
from edgead.line.daemon.part_code import PartCode
from edgead.line.site.schema import PipelineSection
from edgead.line.site.status import State
from edgead.line.triggers import AnsweringTrigger, NamingTrigger, PartTrigger, RequestTrigger, Trigger, open_trigger
from edgead.process.log_rate import limited_log
from edgead.profiling.inspector import FrameError, Inspector
from edgead.types import NO_PART, Frame, Palette, Part, Verdict

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore
    from edgead.sinks.queued import QueuedSink

logger = logging.getLogger(__name__)

Kind = Literal["program", "hang", "model", "frame", "camera", "trigger"]
# The fault shown first is the one that blocks all after it.
_KINDS: tuple[Kind, ...] = ("program", "hang", "model", "frame", "camera", "trigger")
_RESTS: tuple[State, ...] = ("paused", "stopped")
# For each stage: p99.9 has ten samples above it, in less than a megabyte per pipeline.
_WINDOW = 10_000
# So many frames in a row must fit: two cameras that fill one folder by turns must not raise a notice all day.
_FIT_AGAIN = 3


class PipelineState:
    """State of a pipeline, whose every change is logged.

    `state`: {"starting", "running", "paused", "fault", "stopped"}.
    `since`: when the state last changed, on the wall clock; for display only.
    """

    def __init__(self, name: str):
        self.state: State = "starting"
        self.reason: str | None = None
        self.since = datetime.now(timezone.utc)
        self._name = name
        self._base: State = "starting"
        self._base_reason: str | None = None
        self._faults: dict[Kind, str] = {}
        self._lock = threading.Lock()

    def starting(self, reason: str | None = None) -> None:
        self._become("starting", reason)

    def running(self) -> None:
        self._become("running", None)

    def paused(self, reason: str) -> None:
        self._become("paused", reason)

    def stopped(self, reason: str | None = None) -> None:
        self._become("stopped", reason)

    def fault(self, kind: Kind, reason: str) -> None:
        with self._lock:
            self._faults[kind] = reason
            self._update()

    def resolved(self, kind: Kind) -> None:
        if kind in self._faults:  # every frame comes by here
            with self._lock:
                self._faults.pop(kind, None)
                self._update()

    def has(self, kind: Kind) -> bool:
        return kind in self._faults

    def faults(self) -> dict[Kind, str]:
        """Return the reasons of all present faults, most urgent first; empty while paused or stopped."""
        with self._lock:
            rests = self.state in _RESTS
            return {} if rests else {kind: self._faults[kind] for kind in _KINDS if kind in self._faults}

    def _become(self, state: State, reason: str | None) -> None:
        if (self._base, self._base_reason) != (state, reason):
            with self._lock:
                self._base, self._base_reason = state, reason
                self._update()

    def _update(self) -> None:
        state, reason = self._base, self._base_reason
        if self._faults and state not in _RESTS:
            state = "fault"
            reason = next(self._faults[kind] for kind in _KINDS if kind in self._faults)
        if (state, reason) == (self.state, self.reason):
            return
        if state != self.state:
            self.since = datetime.now(timezone.utc)
        self.state, self.reason = state, reason
        level = logging.ERROR if state == "fault" else logging.INFO
        text = f"{self._name}: {state}" + (f": {reason}" if reason else "")
        logger.log(level, text, extra={"pipeline": self._name, "state": state, "reason": reason})


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


class JudgementError(EdgeadError):
    """Failure of the detector on an image that it should have judged."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Receivers of a verdict; `publish` must not wait. `before` is the number of earlier frames kept for the store."""

    store: EvidenceStore
    sinks: tuple[QueuedSink, ...]
    publish: Callable[[Frame, Verdict], None]
    before: int


class Misfits:
    """Record of frames whose size differs from the learnt sizes: from the first such frame until several fit.

    `known`: whether a frame has been judged.
    `newest` ((str, Misfit)): recipe and difference of the newest frame that does not fit; None while frames fit.
    """

    def __init__(self) -> None:
        self.known = False
        self.newest: tuple[str, Misfit] | None = None
        self._fit = 0

    def add(self, recipe: str, misfit: Misfit | None) -> None:
        """Take the difference of the next judged frame; None if it fits."""
        if misfit is not None:
            self.newest, self._fit = (recipe, misfit), 0
        elif self.newest is not None:
            self._fit += 1
            if self._fit >= _FIT_AGAIN:
                self.newest = None
        self.known = True


class Judging:
    """Judge of frames, one after the other, in one thread; any thread may read the counts.

    `pipeline`: name in every verdict.
    `settle`: called with the id of each frame once its verdict is recorded, or with `judged` False, as it gets none.
    `budget_ms`: time budget from capture to verdict.
    """

    def __init__(
        self,
        pipeline: str,
        models: Recipes,
        receivers: Receivers,
        drift: PipelineDrift,
        settle: Callable[..., None],
        *,
        budget_ms: float | None = None,
        palette: Palette = "warm",
    ):
        self.receivers = receivers
        self.inspector = Inspector(pipeline, window=_WINDOW, budget_ms=budget_ms, palette=palette)
        self.latest: tuple[Frame, Verdict] | None = None
        self.taken = self.skipped = self.unasked = self.uninspected = self.parts_missed = 0
        self._models, self._drift, self._settle = models, drift, settle
        self._pipeline, self._log = pipeline, limited_log(__name__, most=20, within_s=60)
        self._before: deque[Frame] = deque(maxlen=receivers.before)
        self.misfits = Misfits()

    def pass_by(self, frame: Frame, *, wanted: bool, paused: bool = False) -> None:
        """Let a frame pass without a verdict: it is not `wanted`, or the pipeline is paused or cannot judge now."""
        self.taken += 1
        self.uninspected += wanted and paused
        self.skipped += wanted and not paused
        self.unasked += not wanted
        self._let_pass(frame, wanted=wanted)

    def _let_pass(self, frame: Frame, *, wanted: bool) -> None:
        self._miss(frame)
        frame = self._models.shown(frame)
        self.receivers.store.follow(frame)
        self._before.append(frame)
        self._settle(frame.id, judged=not wanted)

    def judge(self, frame: Frame) -> Verdict | None:
        """Judge a frame, send its verdict to all receivers and return it; None while the model needs more frames.

        Raises FrameError: this frame cannot be judged; other frames can.
        Raises JudgementError: the detector failed.
        """
        self.taken += 1
        try:
            verdict = self.inspector.judge(frame, self._models.step)
        except FrameError:
            self._skip(frame)
            raise
        except Exception as error:
            self._skip(frame)
            raise JudgementError(f"{type(error).__name__}: {error}") from error
        if verdict is None:
            self._let_pass(frame, wanted=False)
            return None
        frame = self._models.shown(frame)
        self._tell(frame, verdict)
        self.inspector.finish(frame, verdict)
        self.latest = (frame, verdict)
        recipe = self._models.recipe_of(frame)
        misfit = self._models.slots[recipe or ""].misfit(frame)
        self.misfits.add(recipe or "", misfit)
        if recipe is not None and misfit is None:  # a frame of another size says nothing about parts
            self._drift.add(recipe, frame, verdict)  # last: the verdict is out
        return verdict

    def _skip(self, frame: Frame) -> None:
        self.skipped += 1
        self._miss(frame)
        self._settle(frame.id, judged=False)

    def _miss(self, frame: Frame) -> None:
        if frame.part != NO_PART:
            self.parts_missed += 1
            named = frame.part.serial or frame.part
            self._log.warning("%s: frame %d of part %s has no verdict", self._pipeline, frame.number, named)

    def _tell(self, frame: Frame, verdict: Verdict) -> None:
        receivers = self.receivers
        # First: no verdict may be known that is not recorded.
        receivers.store.add(frame, verdict, partial(self._settle, frame.id))
        for sink in receivers.sinks:
            sink.write(frame, verdict)
        receivers.store.follow(frame)
        receivers.store.keep(frame, verdict, tuple(self._before))
        self._before.append(frame)
        receivers.publish(frame, verdict)
