"""Judgement of one frame: detect, record the verdict, notify the sinks, update the counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from edgead.daemon.pipeline_drift import PipelineDrift
from edgead.daemon.pipeline_state import State
from edgead.daemon.recipes import Recipes
from edgead.errors import EdgeadError
from edgead.inspector import FrameError, Inspector
from edgead.process.log_rate import limited_log
from edgead.profiling.latency import Latency
from edgead.types import NO_PART, Frame, Verdict

if TYPE_CHECKING:
    from edgead.drift import DriftState
    from edgead.evidence import EvidenceStore
    from edgead.sinks.queued import QueuedSink

# Of each stage: p99.9 has ten samples above it, and a pipeline needs less than a megabyte for them.
_WINDOW = 10_000


class JudgementError(EdgeadError):
    """The detector failed on an image that it should have judged."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who receives a verdict; `publish` must not wait, and `sinks` may be exchanged between two frames."""

    store: EvidenceStore
    sinks: tuple[QueuedSink, ...]
    publish: Callable[[Frame, Verdict], None]
    before: int


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """What a pipeline is and has done since it was made.

    Attributes
    ----------
    kinds : dict of int
        Rejects by the kind of their defect, those without one aside.
    taken, judged : int
        Frames that it took from its camera, and those of them that got a verdict.
    dropped : int
        Frames that a newer one replaced before it could take them.
    skipped : int
        Frames that should have been judged but came while the pipeline was in fault.
    warming_up : int
        Frames without a verdict because the model remembers frames, and a new stream began.
    late : int
        Verdicts that came later after the capture than `budget_ms`.
    parts_missed : int
        Parts that were named and got no verdict: no frame came for them, or theirs could not be judged.
    codes : dict of int
        What became of the codes of parts; empty where none are read. See `PartCode.counts`.
    latency : dict of Latency
        Per stage; `total` runs from the capture to the last sink.
    drift : DriftState or None
        What the drift watch said after the last part; None before one, or where none is watched.
    realtime_problem : str or None
        What the system refuses of the pipeline's `realtime`.
    """

    name: str
    camera: str
    model: str
    model_sha256: str
    state: State
    reason: str | None
    since: datetime
    decisions: dict[str, int]
    kinds: dict[str, int]
    taken: int
    judged: int
    dropped: int
    skipped: int
    warming_up: int
    late: int
    parts_missed: int
    codes: dict[str, int]
    restarts: int
    fps: float | None
    latency: dict[str, Latency]
    thresholds: dict[str, float] | None
    can_roll_back: bool
    drift: DriftState | None
    realtime_problem: str | None = None


class Judging:
    """Judges frames, one after the other, in one thread; the numbers may be read from any.

    Parameters
    ----------
    pipeline : str
        Stands in every verdict.
    models : Recipes
    receivers : Receivers
    drift : PipelineDrift
    budget_ms : float, optional
        From the capture to the verdict.
    """

    def __init__(
        self,
        pipeline: str,
        models: Recipes,
        receivers: Receivers,
        drift: PipelineDrift,
        *,
        budget_ms: float | None = None,
    ):
        self.receivers = receivers
        self.inspector = Inspector(pipeline, window=_WINDOW, budget_ms=budget_ms)
        self.latest: tuple[Frame, Verdict] | None = None
        self.taken = self.skipped = self.parts_missed = 0
        self._models, self._drift = models, drift
        self._pipeline, self._log = pipeline, limited_log(__name__, most=20, within_s=60)
        self._before: deque[Frame] = deque(maxlen=receivers.before)

    def pass_by(self, frame: Frame, *, wanted: bool) -> None:
        """Let a frame go without a verdict, where none was asked for or none can be given."""
        self.taken += 1
        self.skipped += wanted
        self._let_pass(frame)

    def _let_pass(self, frame: Frame) -> None:
        self._miss(frame)
        self.receivers.store.follow(frame)
        self._before.append(frame)

    def judge(self, frame: Frame) -> Verdict | None:
        """Judge a frame, report the verdict and give it; None while the model needs more frames.

        Raises
        ------
        FrameError
            The frame cannot be judged, others can.
        JudgementError
            The detector failed.
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
            self._let_pass(frame)
            return None
        self._tell(frame, verdict)
        self.inspector.finish(frame, verdict)
        self.latest = (frame, verdict)
        recipe = self._models.recipe_of(frame)
        if recipe is not None:
            self._drift.add(recipe, frame, verdict)  # last: the verdict is out
        return verdict

    def _skip(self, frame: Frame) -> None:
        self.skipped += 1
        self._miss(frame)

    def _miss(self, frame: Frame) -> None:
        if frame.part != NO_PART:
            self.parts_missed += 1
            named = frame.part.serial or frame.part
            self._log.warning("%s: frame %d of part %s has no verdict", self._pipeline, frame.number, named)

    def _tell(self, frame: Frame, verdict: Verdict) -> None:
        receivers = self.receivers
        receivers.store.add(frame, verdict)  # first: nobody shall know of a verdict that is on no record
        for sink in receivers.sinks:
            sink.write(frame, verdict)
        receivers.store.follow(frame)
        receivers.store.keep(frame, verdict, tuple(self._before))
        self._before.append(frame)
        receivers.publish(frame, verdict)
