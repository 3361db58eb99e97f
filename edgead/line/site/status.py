"""Status of pipelines, and of parts that several pipelines judge together: state and counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from edgead.line.drift import DriftState
    from edgead.profiling.latency import Latency

State = Literal["starting", "running", "paused", "fault", "stopped"]


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """State and counts of a pipeline since it was made.

    Attributes
    ----------
    kinds : dict of int
        Rejects by the kind of their defect; those without a kind are left out.
    taken, judged : int
        Frames that the pipeline took from its camera, and how many of these got a verdict.
    dropped : int
        Frames that a newer one replaced before the pipeline took them.
    skipped : int
        Frames that should have been judged but came while the pipeline was in fault.
    unasked : int
        Frames that the trigger did not choose, which is no fault.
    uninspected : int
        Frames that should have been judged but came while a person had paused the pipeline.
    warming_up : int
        Frames at the start of a stream without a verdict, because the model needs several frames first.
    late : int
        Verdicts that came later after the capture than `budget_ms`.
    missed : int
        Frames that should have got a verdict and got none; if the trigger chooses frames, also announced parts.
    parts_missed : int
        Announced parts without a verdict: no frame came for them, or their frame could not be judged.
    codes : dict of int
        Counts of part codes by outcome; empty if none are read. See `PartCode.counts`.
    latency : dict of Latency
        Latency of each stage; `total` runs from the capture to the last sink.
    knows_kinds : bool
        Whether the model in service knows kinds of defects.
    drift : DriftState or None
        State of the drift watch after the last part; None before the first, or if drift is not watched.
    realtime_problem : str or None
        Error text if the system refused the section `realtime`; None if it did not.
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
    unasked: int
    uninspected: int
    warming_up: int
    late: int
    missed: int
    parts_missed: int
    codes: dict[str, int]
    restarts: int
    fps: float | None
    latency: dict[str, Latency]
    thresholds: dict[str, float] | None
    can_roll_back: bool
    knows_kinds: bool
    drift: DriftState | None
    realtime_problem: str | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """Counts and state of the parts of one name.

    Attributes
    ----------
    decisions : dict of int
        Verdicts since the start: ok, review, reject and fault.
    waiting : int
        Parts that wait for a view, or for a part before them.
    unmatched : int
        Views that came after their part got its verdict, or that fit several parts.
    reason : str
        Reason of the last fault.
    problem : str or None
        Current problem.
    """

    name: str
    pipelines: tuple[str, ...]
    rule: str
    decisions: dict[str, int]
    waiting: int
    unmatched: int
    reason: str
    problem: str | None
