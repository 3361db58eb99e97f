"""A pipeline: the frames of one camera, judged by one model, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.config import LimitsSection, PipelineSection
from edgead.daemon.condition import Condition, State
from edgead.daemon.model_slot import ModelSlot
from edgead.daemon.supervisor import RestartBudget, Supervisor
from edgead.daemon.thresholds import KeptThresholds, Thresholds
from edgead.errors import EdgeadError, SettingsError
from edgead.latency import Latency, LatencyRecorder
from edgead.sources import SourceError
from edgead.triggers import Trigger, open_trigger
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.evidence.store import EvidenceStore
    from edgead.sinks.outlet import Outlet
    from edgead.sources.supervised import SupervisedCamera

# How soon a pipeline that waits for a frame notices that it should stop, or that its camera is lost.
_POLL_S = 0.1
# Of each stage: p99.9 has ten samples above it, and a pipeline needs less than a megabyte for them.
_WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a pipeline is connected to; `publish` is told every verdict and must not wait."""

    camera: SupervisedCamera
    store: EvidenceStore
    outlets: tuple[Outlet, ...]
    publish: Callable[[Frame, Verdict], None]
    kept: KeptThresholds
    limits: LimitsSection
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """What a pipeline is and has done since it was made.

    Attributes
    ----------
    taken, judged : int
        Frames that it took from its camera, and those of them that got a verdict.
    overwritten : int
        Frames that a newer one replaced before it could take them.
    unjudged : int
        Frames that should have been judged but came while the pipeline was in fault.
    late : int
        Verdicts that came later after the capture than `budget_ms`.
    latency : dict of Latency
        Per stage; `total` runs from the capture to the last sink.
    """

    name: str
    camera: str
    model: str
    model_sha256: str
    state: State
    reason: str | None
    since: datetime
    decisions: dict[str, int]
    taken: int
    judged: int
    overwritten: int
    unjudged: int
    late: int
    restarts: int
    fps: float | None
    latency: dict[str, Latency]
    thresholds: dict[str, float] | None
    can_roll_back: bool


class Pipeline:
    """Judges the frames of a camera until it is stopped; what goes wrong is in its state.

    Parameters
    ----------
    name : str
    section : PipelineSection
    wiring : Wiring
    """

    def __init__(self, name: str, section: PipelineSection, wiring: Wiring):
        self.name = name
        self.section = section
        self.outlets = wiring.outlets
        self.loaded = threading.Event()  # the model was tried, well or not
        self.slot = ModelSlot(name, section, wiring.kept, threads=wiring.threads)
        self._wiring = wiring
        self._condition = Condition(name)
        self._mailbox = wiring.camera.subscribe()
        self._before: deque[Frame] = deque(maxlen=wiring.store.section.before)
        self._trigger: Trigger | None = None
        self._recorder = LatencyRecorder(window=_WINDOW)
        self._decisions: Counter[str] = Counter()
        self._taken = self._unjudged = self._late = 0
        self._latest: tuple[Frame, Verdict] | None = None
        self._alive_s: float | None = None
        self._supervisor = Supervisor(f"pipeline {name}", self._serve, self._died, RestartBudget(wiring.limits))

    @property
    def state(self) -> State:
        return self._condition.state

    @property
    def reason(self) -> str | None:
        return self._condition.reason

    def start(self) -> None:
        """Start judging, in a thread of its own; also again where the restarts were used up."""
        self._supervisor.start()

    def stop(self) -> None:
        """Take no further frame; the one under way gets its verdict. `join` waits for that."""
        self._supervisor.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end and release the model; False when it did not come in time."""
        ended = self._supervisor.join(timeout_s)
        if ended:
            self.slot.close()
            self._condition.stopped(self._condition.reason if self.state == "stopped" else None)
        return ended

    def limit(self, limits: LimitsSection) -> None:
        """Restart within other limits from now on."""
        self._supervisor.budget.limits = limits

    def silent_s(self) -> float:
        """Tell for how long the thread has given no sign of life; 0 while it loads a model or does not run."""
        alive_s = self._alive_s
        return time.monotonic() - alive_s if alive_s is not None and self._supervisor.alive else 0.0

    def latest(self) -> tuple[Frame, Verdict] | None:
        """Give the newest frame that was judged, with its verdict."""
        return self._latest

    def fire(self) -> None:
        """Judge the next frame that the camera captures.

        Raises
        ------
        SettingsError
            The pipeline has no software trigger, or does not run.
        """
        fire = getattr(self._trigger, "fire", None)
        if self.section.trigger.kind != "software":
            raise SettingsError(f"{self.name}: its trigger is {self.section.trigger.kind}, not software")
        if fire is None:
            raise SettingsError(f"{self.name}: is not running, it cannot be triggered")
        fire()

    def self_test(self) -> dict[str, Any]:
        """Replay the golden images through the detector in service; one that fails is out of service.

        A pipeline without a model loads it anew, which tests it too.

        Raises
        ------
        EdgeadError
            The model cannot be used at all.
        """
        try:
            if not self.slot.model:
                self.slot.load()
            tested = self.slot.self_test()
            if tested.passed:
                self._condition.mended("model")
                self._go_on()
            else:
                tested.require()
        except EdgeadError as error:
            self._condition.fault("model", str(error))
            if not isinstance(error, SelfTestError):
                raise
        return tested.to_dict()

    def swap(self, model: Path, *, by: str = "edgead") -> None:
        """Load a model beside the one in service, test it, and judge by it from the next frame on.

        Raises
        ------
        EdgeadError
            The model cannot be used; the one in service goes on.
        """
        before = self._named_model()
        self.slot.swap(model)
        self._in_service("swap", by, before)

    def roll_back(self, *, by: str = "edgead") -> None:
        """Judge by the model before this one again.

        Raises
        ------
        SettingsError
            There was none since the start.
        """
        before = self._named_model()
        self.slot.roll_back()
        self._in_service("roll back", by, before)

    def set_thresholds(self, *, review: float, reject: float, by: str) -> None:
        """Judge by these from the next frame on; kept over restarts, for this model.

        Raises
        ------
        SettingsError
            They are no thresholds, or cannot be kept.
        """
        try:
            thresholds = Thresholds(review=review, reject=reject, by=by)
        except ValidationError as error:
            ...
        before = self.slot.set_thresholds(thresholds)
        self._wiring.store.add_audit(
            by=by, action="thresholds", pipeline=self.name, before=before.values(), after=thresholds.values()
        )
