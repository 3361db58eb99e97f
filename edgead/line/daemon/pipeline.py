"""Pipeline: the frames of one camera, judged by one model, in a thread of its own."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError, NotNowError, SettingsError
from edgead.images.files import UnfitImageError
from edgead.images.likeness import Size
from edgead.line.daemon.alarms import FrameCounts
from edgead.line.daemon.frame_choice import FrameSelection, ImageRequests
from edgead.line.daemon.judge_and_deliver import JudgementError, Judging
from edgead.line.daemon.model_control import SteeredModel, Wiring
from edgead.line.daemon.supervisor import RestartBudget, Supervisor
from edgead.line.site.schema import LimitsSection, PipelineSection
from edgead.line.site.status import LatencyAnswer, PipelineStatus, State
from edgead.profiling.inspector import FrameError
from edgead.sources import SourceError
from edgead.sources.live import Mailbox
from edgead.types import NO_PART, Frame, Part, Verdict

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore
    from edgead.sinks.queued import QueuedSink
    from edgead.sources.reopened_camera import SupervisedCamera

logger = logging.getLogger(__name__)

# A pipeline that waits for a frame notices within this time that it should stop, or that its camera is lost.
_POLL_S = 0.1
# Several times the slowest model's time for a frame.
_SILENT_S = 5.0
# Long enough for engines of TensorRT, which load slowest.
_LOADING_S = 300.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause of a pipeline: text for people, end on the monotonic clock, and the number of frames of earlier pauses."""

    text: str
    until_s: float
    before: int

    @classmethod
    def begin(cls, by: str, reason: str, minutes: float | None, before: int) -> Pause:
        ends = "" if minutes is None else f", until {datetime.now() + timedelta(minutes=minutes):%H:%M}"
        until_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
        return cls(f"by {by}{ends}" + (f": {reason}" if reason else ""), until_s, before)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until_s


class Subscription:
    """Subscription of a pipeline to its camera; while nothing is judged the pipeline may leave it.

    A recording waits for all its subscribers: other pipelines would get no frames either.
    """

    def __init__(self, camera: SupervisedCamera):
        self.mailbox: Mailbox | None = camera.subscribe()
        self._camera, self._lock, self._dropped = camera, threading.Lock(), 0

    @property
    def dropped(self) -> int:
        """Number of frames that newer ones replaced, in all mailboxes so far."""
        mailbox = self.mailbox
        return self._dropped + (mailbox.dropped if mailbox is not None else 0)

    def join(self, stop: threading.Event) -> None:
        """Subscribe again after `leave`, unless the pipeline ends."""
        with self._lock:
            if self.mailbox is None and not stop.is_set():
                self.mailbox = self._camera.subscribe()

    def leave(self) -> None:
        with self._lock:
            if self.mailbox is not None:
                self._camera.unsubscribe(self.mailbox)
                self._dropped += self.mailbox.dropped
                self.mailbox = None


class _PassedFrames:
    """Counter of frames without a verdict in time, by reason, recorded in the store; safe from any thread."""

    def __init__(self, pipeline: str, store: EvidenceStore, count: Callable[[], Counter[str]]):
        self._pipeline, self._store, self._count = pipeline, store, count
        self._lock = threading.Lock()
        self._recorded = count()

    def record(self) -> None:
        """Record the frames since the last call, with the present time."""
        with self._lock:
            before, self._recorded = self._recorded, self._count()
            self._store.production.passed.add(self._pipeline, self._recorded - before)


def _take_place(pipeline: str, section: PipelineSection) -> str | None:
    """Give this thread the section's priority and cores; return why the system refuses, which is logged as well."""
    try:
        section.realtime.scheduling.take()
        return None
    except SettingsError as error:
        logger.warning("%s: realtime: %s", pipeline, error, extra={"pipeline": pipeline})
        return str(error)


class Pipeline(SteeredModel):
    """Pipeline that judges one camera's frames until it is stopped; its state shows every fault."""

    def __init__(self, name: str, section: PipelineSection, wiring: Wiring):
        super().__init__(name, section, wiring)
        self.loaded = threading.Event()  # set after the first try to load the model, failed or not
        self._judging = Judging(
            name,
            self._recipes,
            wiring.receivers,
            self._drift,
            wiring.camera.settle,
            budget_ms=section.budget_ms,
            palette=section.palette,
        )
        self.misfits = self._judging.misfits
        self._frames = Subscription(wiring.camera)
        self._realtime_problem: str | None = None
        self._asking = FrameSelection(name, section)
        self._pause: Pause | None = None
        self._passed_by = _PassedFrames(name, wiring.receivers.store, self._passed)
        self._requests = ImageRequests(name)
        self._publish_wanted = wiring.publish_wanted
        self._alive_s: float | None = None
        self._loading_s: float | None = None
        self._supervisor = Supervisor(f"pipeline {name}", self._serve, self._died, RestartBudget(wiring.limits))

    @property
    def state(self) -> State:
        return self._state.state

    @property
    def reason(self) -> str | None:
        return self._state.reason

    @property
    def used_up(self) -> bool:
        return self._supervisor.used_up

    def start(self) -> None:
        """Start judging in its own thread, also after all restarts were used up."""
        self._supervisor.start()

    def stop(self) -> None:
        """Take no further frame; the current frame still gets its verdict. `join` waits for that."""
        self._supervisor.stop()
        self._frames.leave()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, then release the model; return False if it did not end in time."""
        ended = self._supervisor.join(timeout_s)
        if ended:
            self._release()
        return ended

    def send_to(self, sinks: tuple[QueuedSink, ...]) -> None:
        """Replace the sinks, effective with the next verdict."""
        self._judging.receivers = replace(self._judging.receivers, sinks=sinks)

    def limit(self, limits: LimitsSection) -> None:
        """Replace the limits of restarts, from now on."""
        self._supervisor.budget.limits = limits

    def look_after(self) -> None:
        """Restart the thread if it is dead, and report a fault if it hangs; the main loop calls this regularly."""
        self._supervisor.revive()
        self._passed_by.record()
        silent_s = self.silent_s()
        if silent_s > _SILENT_S and not self._state.has("hang"):
            self._state.fault("hang", f"no progress for {silent_s:.0f} s: the model or a sink hangs")

    def silent_s(self) -> float:
        """Return the seconds without progress; 0 if the thread does not run.

        While a model loads, only the time after the first `_LOADING_S` seconds counts.
        """
        alive_s, loading_s = self._alive_s, self._loading_s
        if not self._supervisor.alive:
            return 0.0
        if loading_s is not None:
            return max(0.0, time.monotonic() - loading_s - _LOADING_S)
        return time.monotonic() - alive_s if alive_s is not None else 0.0

    def latest(self) -> tuple[Frame, Verdict] | None:
        """Return the newest judged frame, with its verdict."""
        return self._judging.latest

    def fire(self, part: Part = NO_PART) -> None:
        """Judge the next frame that the camera captures, as a frame of the given part.

        Raises SettingsError: the trigger takes no requests, or no requests that name a part, or the pipeline does not
            run.
        Raises NotNowError: it is paused.
        """
        if self._pause is not None:
            raise self._not_now()
        self._asking.fire(part)

    def judge(self, data: bytes, part: Part, within_s: float) -> tuple[Frame, Verdict]:
        """Judge the bytes of a sent image file, and wait for the verdict; see `ImageRequests.ask`.

        Raises EdgeadError: NotNowError and NoVerdictInTimeError; ImageError if the bytes are no image; UnfitImageError
            if the image does not fit the model; SettingsError if the camera takes no images, or the trigger did not
            choose this one.
        """
        if self._alive_s is None or self._pause is not None:
            raise self._not_now()
        return self._requests.ask(lambda: self._camera.offer(data, part), within_s)

    def squeezed_into(self, frame: Frame) -> Size | None:
        """Return the learnt size if a frame has other proportions, so that resizing distorts it; None otherwise."""
        found = self._recipes.slot_of(frame).misfit(frame)
        return found.learnt if found is not None and found.in_proportions else None

    def pause(self, *, by: str, reason: str = "", minutes: float | None = None) -> None:
        """Judge nothing until `resume`, or for some minutes; meanwhile frames pass, and alarms wait.

        A restart of the program ends the pause.

        Raises NotNowError: the pipeline judges nothing now anyway.
        Raises StoreAwayError: the pause cannot be recorded.
        """
        if self._alive_s is None:
            raise self._not_now()
        pause = Pause.begin(by, reason, minutes, self._judging.uninspected)
        with self._audited("pause", by, None, {"reason": reason, "minutes": minutes}):
            self._pause = pause
        self._runs()

    def resume(self, *, by: str) -> None:
        """Judge again, from the next frame on.

        Raises NotNowError: the pipeline is not paused.
        Raises StoreAwayError: the change cannot be recorded.
        """
        pause = self._pause
        if pause is None:
            raise NotNowError(f"{self.name}: is not paused")
        with self._audited("resume", by, pause.text, {"uninspected": self._judging.uninspected - pause.before}):
            self._pause = None
        self._runs()

    def _end_pause(self) -> None:
        """End a pause, if there is one, for another reason than a person's `resume`."""
        if (pause := self._pause) is not None:
            self._pause = None
            self._audit("resume", "edgead", pause.text, {"uninspected": self._judging.uninspected - pause.before})

    def has_learnt(self, frame: Frame, data: bytes) -> bool:
        """Return whether the model was trained on a frame; `data` is the image file that it was sent as."""
        return self._recipes.slot_of(frame).has_learnt(frame, data)

    def status(self) -> PipelineStatus:
        """Report the state and the counts."""
        thresholds, inspector = self.slot.thresholds, self._judging.inspector
        earlier, earlier_sha256, earlier_review = self.slot.earlier
        return PipelineStatus(
            name=self.name,
            camera=self.section.camera,
            model=str(self.slot.path),
            model_sha256=self.slot.model,
            state=self._state.state,
            reason=self._state.reason,
            since=self._state.since,
            decisions=inspector.decisions,
            kinds=inspector.kinds,
            taken=self._judging.taken,
            judged=sum(inspector.decisions.values()),
            dropped=self._frames.dropped,
            skipped=self._judging.skipped,
            unasked=self._judging.unasked,
            uninspected=self._judging.uninspected,
            warming_up=inspector.warming_up,
            late=inspector.late,
            missed=self.frame_counts.missed,
            parts_missed=self._judging.parts_missed + self._asking.missed,
            codes=self._asking.codes,
            restarts=self._supervisor.restarts,
            fps=inspector.recorder.fps,
            latency={stage: LatencyAnswer.model_validate(one) for stage, one in inspector.recorder.summary().items()},
            thresholds=thresholds.values() if thresholds else None,
            can_roll_back=bool(earlier),
            earlier_model=earlier,
            earlier_sha256=earlier_sha256,
            earlier_review=earlier_review,
            knows_kinds=self.slot.knows_kinds,
            drift=self._drift.state,
            realtime_problem=self._realtime_problem,
        )

    @property
    def frame_counts(self) -> FrameCounts:
        """Counts for the alarm; if the trigger chooses frames, missed is the larger of skipped and of missed parts."""
        judging, missed = self._judging, self._frames.dropped + self._judging.skipped
        if not self.section.trigger.wants_all:
            missed = max(judging.skipped, judging.parts_missed + self._asking.missed)
        return FrameCounts(sum(judging.inspector.decisions.values()), judging.inspector.late, missed)

    def _passed(self) -> Counter[str]:
        """Count the frames without a verdict in time, by reason; if the trigger chooses, only a missed part is lost."""
        judging, lost = self._judging, self._asking.missed
        if self.section.trigger.wants_all:
            lost = self._frames.dropped + self._camera.lost
        return Counter(lost=lost, late=judging.inspector.late, in_fault=judging.skipped, paused=judging.uninspected)

    # The thread

    def _serve(self, stop: threading.Event) -> None:
        """Load the model, and judge until stopped or until the camera has no more frames."""
        self._frames.join(stop)
        self._realtime_problem = _take_place(self.name, self.section)
        self._state.starting("the model is loaded and tested")
        with self._asking.opened():
            try:
                self._loading_s = time.monotonic()
                try:
                    self._try_model()
                finally:
                    self._loading_s = None
                    self.loaded.set()
                self._state.resolved("program")
                self._state.starting(f"waits for camera {self.section.camera}")
                mailbox = self._frames.mailbox
                self._alive_s = time.monotonic()
                while not stop.is_set() and mailbox is not None and self._take_one(mailbox):
                    self._alive_s = time.monotonic()
                    self._state.resolved("hang")
                    self._passed_by.record()
                if not stop.is_set():
                    self._state.stopped(f"camera {self.section.camera} has ended")
            finally:
                self._alive_s = None
                self._state.resolved("hang")
                self._state.resolved("trigger")
                self._drift.save()
                self._passed_by.record()
                if stop.is_set():
                    self._end_pause()
                    self._release()  # a caller of `join` may have given up

    def _take_one(self, mailbox: Mailbox) -> bool:
        """Judge the next frame if the trigger wants it; return False after the camera's last frame."""
        if (problem := self._asking.problem) is None:
            self._state.resolved("trigger")
        else:
            self._state.fault("trigger", f"trigger {self.section.trigger.kind}: {problem}")
        try:
            frame = mailbox.get(_POLL_S)
        except TimeoutError:
            self._look_after_camera()
            return True
        except SourceError as error:
            self._state.fault("camera", f"camera {self.section.camera}: {error}")
            return True
        if frame is None:
            return False
        self._state.resolved("camera")
        self._runs()
        wanted = self._asking.wanted(frame)
        if self._pause is not None:
            self._judging.pass_by(frame, wanted=wanted is not None, paused=True)
            self._requests.answer(frame, self._not_now())
            self._asking.answer(None)  # the requester waits no longer
            return True
        if wanted is None:
            self._judging.pass_by(frame, wanted=False)
            kind = self.section.trigger.kind
            self._requests.answer(frame, SettingsError(f"{self.name}: its trigger {kind} did not ask for the image"))
            return True
        self._publish_wanted((self.section.camera, wanted))
        verdict = None
        try:
            verdict = self._judge(wanted)
        finally:
            self._asking.answer(verdict)
        return True

    def _judge(self, frame: Frame) -> Verdict | None:
        if self._state.has("model") or self.waits_for_model:
            self._judging.pass_by(frame, wanted=True)
            what = "is in fault" if self._state.has("model") else "has no model"
            self._requests.answer(frame, NotNowError(f"{self.name}: {what}: {self._state.reason}"))
            return None
        try:
            verdict = self._judging.judge(frame)
        except FrameError as error:
            if not self._requests.answer(frame, UnfitImageError(str(error))):
                self._state.fault("frame", str(error))
            return None
        except JudgementError as error:
            self._requests.answer(frame, NotNowError(f"{self.name}: {error}"))
            raise
        self._state.resolved("frame")
        more = SettingsError(f"{self.name}: its model needs more images first")
        self._requests.answer(frame, more if verdict is None else verdict)
        return verdict

    def _release(self) -> None:
        self.slot.close()
        self._recipes.close()
        self._asking.close()
        self._state.stopped(self._state.reason if self.state == "stopped" else None)

    def _look_after_camera(self) -> None:
        camera = self._camera.status()
        if camera.state in ("lost", "stalled"):
            reason = camera.reason or "no frames"
            self._state.fault("camera", f"camera {camera.name} is {camera.state}: {reason}")
        elif camera.state == "streaming":  # also if no frames come, because none are sent
            self._state.resolved("camera")
            self._runs()

    def _runs(self) -> None:
        if (pause := self._pause) is not None and pause.is_over:
            self._end_pause()
        elif pause is not None:
            self._state.paused(pause.text)
            return
        if self.waits_for_model:
            self._state.starting("waits for a model: commission one on the page")
        else:
            self._state.running()

    def _not_now(self) -> NotNowError:
        return NotNowError(f"{self.name}: is {self.state}" + (f": {self.reason}" if self.reason else ""))

    def _died(self, error: Exception, again: bool) -> None:
        what = str(error) if isinstance(error, EdgeadError) else f"{type(error).__name__}: {error}"
        logger.error("%s: died: %s", self.name, what, exc_info=error, extra={"pipeline": self.name, "again": again})
        self.loaded.set()
        if not again:
            self._frames.leave()
        limits = self._supervisor.budget.limits
        used_up = "" if again else f"; restarted {limits.restarts} times within {limits.restarts_within_s:g} s, no more"
        self._state.fault("program", what + used_up)
        if isinstance(error, JudgementError) and self.slot.earlier[0]:
            self._give_up_model()
