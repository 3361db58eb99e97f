"""Status of the running parts of a site: of pipelines, and of parts that several pipelines judge together."""

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
    unasked : int
        Frames that its trigger did not ask for, which is no fault.
    warming_up : int
        Frames without a verdict because the model remembers frames, and a new stream began.
    late : int
        Verdicts that came later after the capture than `budget_ms`.
    missed : int
        Frames that should have got a verdict and got none; where the trigger chooses frames, parts that were named.
    parts_missed : int
        Parts that were named and got no verdict: no frame came for them, or theirs could not be judged.
    codes : dict of int
        What became of the codes of parts; empty where none are read. See `PartCode.counts`.
    latency : dict of Latency
        Per stage; `total` runs from the capture to the last sink.
    drift : DriftState or None
        What the drift watch said after the last part; None before one, or where none is to be watched.
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
    unasked: int
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
    drift: DriftState | None
    realtime_problem: str | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What became of the parts of one name.

    Attributes
    ----------
    decisions : dict of int
        Verdicts since the start: ok, review, reject and fault.
    waiting : int
        Parts that wait for a view, or for a part before them.
    unmatched : int
        Views that came after their part had gone out, or could be of several parts.
    reason : str
        Of the last fault.
    problem : str or None
        What is wrong now.
    """

    name: str
    pipelines: tuple[str, ...]
    rule: str
    decisions: dict[str, int]
    waiting: int
    unmatched: int
    reason: str
    problem: str | None
